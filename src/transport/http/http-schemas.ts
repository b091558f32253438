import { create, type DescMessage, type JsonValue, type MessageInitShape, toJson } from '@bufbuild/protobuf';
import type { RouteShorthandOptions } from 'fastify';
import { errorCatalogue, PresenceError } from '../../core/errors.ts';
import { maxUserIdBytes } from '../../core/user-id.ts';
import { readStrictJson } from '../proto-json.ts';
import { errorSchema } from './http-errors.ts';
import { type JsonSchema, messageSchema } from './message-schema.ts';

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

/** Of routes of one user. */
export interface UserParams {
  readonly Params: { readonly id: string };
}

/** The answers of a route whose success is this message. */
export function answers(message: DescMessage): Record<string, JsonSchema> {
  return { 200: { ...messageSchema(message), description: message.name }, ...errorResponses };
}

/** A message in proto3 JSON, with every field. */
export function json<Schema extends DescMessage>(schema: Schema, message: MessageInitShape<Schema>): unknown {
  return toJson(schema, create(schema, message), { alwaysEmitImplicit: true });
}

function codesOf(status: number): string[] {
  if (status === 401) return ['UNAUTHORIZED'];
  return Object.entries(errorCatalogue)
    .filter(([, row]) => row.httpStatus === status)
    .map(([code]) => code);
}

/**
 * Of a route whose body is this message in proto3 JSON: the body is read as it, rather than by its schema, which describes.
 * The user of a route of one user stands in the path alone.
 */
export function readsBody(message: DescMessage): Pick<RouteShorthandOptions, 'validatorCompiler'> {
  return {
    validatorCompiler: ({ httpPart }) =>
      httpPart === 'body' ? (body: JsonValue) => readBody(message, body) : () => true,
  };
}

function readBody(message: DescMessage, body: JsonValue): { value: unknown } | { error: Error } {
  try {
    return { value: readStrictJson(message, body) };
  } catch (error) {
    return { error: PresenceError.from(error) };
  }
}
