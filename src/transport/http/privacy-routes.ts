import {
  GetPrivacyResponseSchema,
  LastSeenVisibilitySchema,
  type SetPrivacyRequest,
  SetPrivacyRequestSchema,
  SetPrivacyResponseSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { FastifyInstance } from 'fastify';
import { type Doorway, presenceCalls } from '../presence-calls.ts';
import { callerOf } from './caller.ts';
import { answers, json, readsBody, type UserParams, userParams } from './http-schemas.ts';
import { enumSchema } from './message-schema.ts';

const userList = { type: 'array', items: { type: 'string' } } as const;

/** What a user hides, and from whom. */
export function privacyRoutes(app: FastifyInstance, doorway: Doorway, bodyLimit: number): void {
  app.get<UserParams>(
    '/v1/users/:id/privacy',
    {
      schema: {
        operationId: 'getPrivacy',
        summary: 'What a user hides, and from whom; for the user, or with presence:write.',
        params: userParams,
        response: answers(GetPrivacyResponseSchema),
      },
    },
    (request) =>
      doorway.pass('GetPrivacy', callerOf(request), async (presence) =>
        json(
          GetPrivacyResponseSchema,
          await presenceCalls(presence).getPrivacy({ userId: request.params.id }),
        ),
      ),
  );

  app.put<UserParams & { Body: SetPrivacyRequest }>(
    '/v1/users/:id/privacy',
    {
      ...readsBody(SetPrivacyRequestSchema),
      bodyLimit,
      schema: {
        operationId: 'setPrivacy',
        summary: 'Hides a user, or lets them appear. What is left out stays as it is.',
        params: userParams,
        body: {
          type: 'object',
          additionalProperties: false,
          properties: {
            invisible: { type: 'boolean', description: 'Whether to be hidden from everybody else.' },
            lastSeen: {
              ...enumSchema(LastSeenVisibilitySchema),
              description: 'Who may know when the OFFLINE user was last seen.',
            },
            addBlocked: {
              ...userList,
              description: 'From whom to be hidden; up to MAX_BLOCKED_USERS in all.',
            },
            removeBlocked: { ...userList, description: 'From whom to be hidden no more.' },
          },
        },
        response: answers(SetPrivacyResponseSchema),
      },
    },
    (request) =>
      doorway.pass('SetPrivacy', callerOf(request), async (presence) => {
        const answer = await presenceCalls(presence).setPrivacy({
          ...request.body,
          userId: request.params.id,
        });
        return json(SetPrivacyResponseSchema, answer);
      }),
  );
}
