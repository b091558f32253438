import {
  type RevokeTokensRequest,
  RevokeTokensRequestSchema,
  RevokeTokensResponseSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { FastifyInstance } from 'fastify';
import { type Doorway, presenceCalls } from '../presence-calls.ts';
import { callerOf } from './caller.ts';
import { answers, json, readsBody } from './http-schemas.ts';

/** Ends the life of tokens before they expire. */
export function tokenRoutes(app: FastifyInstance, doorway: Doorway): void {
  app.post<{ Body: RevokeTokensRequest }>(
    '/v1/tokens/revoke',
    {
      ...readsBody(RevokeTokensRequestSchema),
      schema: {
        operationId: 'revokeTokens',
        summary: 'Refuses all tokens of a user issued until now, or one token, on all nodes.',
        body: {
          type: 'object',
          additionalProperties: false,
          properties: {
            userId: { type: 'string', description: 'Whose tokens. Either this or tokenId.' },
            tokenId: { type: 'string', description: 'The `jti` of one token.' },
            keepForMs: {
              anyOf: [{ type: 'integer' }, { type: 'string', pattern: '^[0-9]{1,12}$' }],
              description: 'How long to refuse them, ms. 0 or absent: one day; at most 30 days.',
            },
          },
        },
        response: answers(RevokeTokensResponseSchema),
      },
    },
    (request) =>
      doorway.pass('RevokeTokens', callerOf(request), async (presence) => {
        const answer = await presenceCalls(presence).revokeTokens(request.body);
        return json(RevokeTokensResponseSchema, answer);
      }),
  );
}
