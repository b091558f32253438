import { errorCatalogue } from '../../core/errors.ts';
import { maxUserIdBytes } from '../../core/user-id.ts';
import { errorSchema } from './http-errors.ts';

/** The error answers that every route of the API can give, by status. */
export const errorResponses = Object.fromEntries(
  [...new Set([...Object.values(errorCatalogue).map((row) => row.httpStatus), 401])].map((status) => [
    status,
    { ...errorSchema, description: codesOf(status).join(' or ') },
  ]),
);

export const userParams = {
  type: 'object',
  required: ['id'],
  properties: {
    id: { type: 'string', description: `The user: 1 to ${maxUserIdBytes} bytes of UTF-8, percent-encoded.` },
  },
} as const;

function codesOf(status: number): string[] {
  if (status === 401) return ['UNAUTHORIZED'];
  return Object.entries(errorCatalogue)
    .filter(([, row]) => row.httpStatus === status)
    .map(([code]) => code);
}
