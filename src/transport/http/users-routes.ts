import {
  ActivitySchema,
  DeleteUserResponseSchema,
  GetConnectionsResponseSchema,
  type GetMultipleUserStatusRequest,
  GetMultipleUserStatusRequestSchema,
  GetMultipleUserStatusResponseSchema,
  GetUserStatusResponseSchema,
  SendHeartbeatResponseSchema,
  type SetUserStatusRequest,
  SetUserStatusRequestSchema,
  SetUserStatusResponseSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { FastifyInstance } from 'fastify';
import { type Doorway, presenceCalls } from '../presence-calls.ts';
import { maxBodyBytes } from './bounded-body.ts';
import { callerOf } from './caller.ts';
import { answers, json, readsBody, type UserParams, userParams } from './http-schemas.ts';
import { enumSchema } from './message-schema.ts';

export interface UsersRoutesOptions {
  readonly doorway: Doorway;
  readonly maxBulkUsers: number;
}

/** The JSON API: the contract's unary rpcs as resources. Answers are its messages in proto3 JSON. */
export function usersRoutes(app: FastifyInstance, { doorway, maxBulkUsers }: UsersRoutesOptions): void {
  app.get<UserParams>(
    '/v1/users/:id/status',
    {
      schema: {
        operationId: 'getUserStatus',
        summary:
          'The present state of a user. An unknown user is OFFLINE, or 404 where there is a user directory.',
        params: userParams,
        response: answers(GetUserStatusResponseSchema),
      },
    },
    (request) =>
      doorway.pass('GetUserStatus', callerOf(request), async (presence) =>
        json(
          GetUserStatusResponseSchema,
          await presenceCalls(presence).getUserStatus({ userId: request.params.id }),
        ),
      ),
  );

  app.put<UserParams & { Body: SetUserStatusRequest }>(
    '/v1/users/:id/status',
    {
      ...readsBody(SetUserStatusRequestSchema),
      schema: {
        operationId: 'setUserStatus',
        summary: 'Lights or puts out a user.',
        params: userParams,
        body: {
          type: 'object',
          required: ['status'],
          additionalProperties: false,
          properties: {
            status: { type: 'string', enum: ['ONLINE', 'OFFLINE'] },
            activity: {
              ...enumSchema(ActivitySchema),
              description: 'With ONLINE only; default: unchanged, ACTIVE for a user who comes online.',
            },
          },
        },
        response: answers(SetUserStatusResponseSchema),
      },
    },
    (request) =>
      doorway.pass('SetUserStatus', callerOf(request), async (presence) =>
        json(
          SetUserStatusResponseSchema,
          await presenceCalls(presence).setUserStatus({
            userId: request.params.id,
            status: request.body.status,
            activity: request.body.activity,
          }),
        ),
      ),
  );

  app.get<UserParams>(
    '/v1/users/:id/connections',
    {
      schema: {
        operationId: 'getConnections',
        summary: 'The connections that a user has open, on any node, oldest first.',
        params: userParams,
        response: answers(GetConnectionsResponseSchema),
      },
    },
    (request) =>
      doorway.pass('GetConnections', callerOf(request), async (presence) =>
        json(
          GetConnectionsResponseSchema,
          await presenceCalls(presence).getConnections({ userId: request.params.id }),
        ),
      ),
  );

  app.post<UserParams>(
    '/v1/users/:id/heartbeat',
    {
      schema: {
        operationId: 'sendHeartbeat',
        summary: 'Says that a user is alive. success is false for a user who signed out a moment ago.',
        params: userParams,
        response: answers(SendHeartbeatResponseSchema),
      },
    },
    (request) =>
      doorway.pass('SendHeartbeat', callerOf(request), async (presence) =>
        json(
          SendHeartbeatResponseSchema,
          await presenceCalls(presence).sendHeartbeat({ userId: request.params.id }),
        ),
      ),
  );

  app.delete<UserParams>(
    '/v1/users/:id',
    {
      schema: {
        operationId: 'deleteUser',
        summary: 'Deletes everything stored about a user, and closes their sessions; with presence:admin.',
        params: userParams,
        response: answers(DeleteUserResponseSchema),
      },
    },
    (request) =>
      doorway.pass('DeleteUser', callerOf(request), async (presence) =>
        json(
          DeleteUserResponseSchema,
          await presenceCalls(presence).deleteUser({ userId: request.params.id }),
        ),
      ),
  );

  app.post<{ Body: GetMultipleUserStatusRequest }>(
    // The router reads one colon as the start of a parameter, two as a colon.
    '/v1/users/status::batchGet',
    {
      ...readsBody(GetMultipleUserStatusRequestSchema),
      bodyLimit: maxBodyBytes(maxBulkUsers),
      schema: {
        operationId: 'getMultipleUserStatus',
        summary:
          'The present states of many users, in the order asked for; without those whom a user directory lacks.',
        body: {
          type: 'object',
          required: ['userIds'],
          additionalProperties: false,
          properties: {
            userIds: {
              type: 'array',
              maxItems: maxBulkUsers,
              items: { type: 'string' },
              description: '0 to MAX_BULK_USERS ids of 1 to 128 bytes; one may repeat.',
            },
          },
        },
        response: answers(GetMultipleUserStatusResponseSchema),
      },
    },
    (request) =>
      doorway.pass('GetMultipleUserStatus', callerOf(request), async (presence) =>
        json(
          GetMultipleUserStatusResponseSchema,
          await presenceCalls(presence).getMultipleUserStatus({ userIds: request.body.userIds }),
        ),
      ),
  );
}
