import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ClientFrame, ServerFrameSchema } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { errorCatalogue, PresenceError } from '../../core/errors.ts';
import { sessionEnds } from '../../presence/session-ends.ts';
import type { SessionMessage, SessionRequest } from '../../presence/session-messages.ts';
import { fromProtoActivity, fromProtoStatus, toEvent, toStatusData } from '../grpc/codec.ts';

/** What every welcome tells of this server. */
export interface WelcomeFacts {
  readonly heartbeatIntervalMs: number;
  readonly pongTimeoutMs: number;
  readonly idleAfterMs: number;
  readonly maxWatchedUsers: number;
  readonly maxFrameBytes: number;
}

/** @throws PresenceError INVALID_ARGUMENT, INVALID_STATUS: the frame is well formed, what it says is not possible */
export function toRequest({ requestId, frame }: ClientFrame): SessionRequest {
  switch (frame.case) {
    case 'hello': {
      const { userId, device, resumeToken, token, answersPings } = frame.value;
      const activity = fromProtoActivity(frame.value.activity);
      return { requestId, kind: 'hello', userId, device, resumeToken, activity, token, answersPings };
    }
    case 'setStatus': {
      const { status, activity } = frame.value;
      return {
        requestId,
        kind: 'set-status',
        status: status === 0 ? null : fromProtoStatus(status),
        activity: fromProtoActivity(activity),
      };
    }
    case 'setCustomStatus': {
      const { text, emoji, expiresInMs } = frame.value;
      return { requestId, kind: 'set-custom-status', request: { text, emoji, lifeMs: Number(expiresInMs) } };
    }
    case 'watch': {
      const { userIds, knownVersions } = frame.value;
      return { requestId, kind: 'watch', userIds, knownVersions: knownVersions.map(Number) };
    }
    case 'unwatch':
    case 'query':
      return { requestId, kind: frame.case, userIds: frame.value.userIds };
    case 'heartbeat':
      return { requestId, kind: 'heartbeat', activity: fromProtoActivity(frame.value.activity) };
    case 'goodbye':
      return { requestId, kind: 'goodbye' };
    case 'authenticate':
      return { requestId, kind: 'authenticate', token: frame.value.token };
    default:
      throw PresenceError.invalidArgument('the frame', 'must be one that this server knows');
  }
}

export function toFrame(
  message: SessionMessage,
  facts: WelcomeFacts,
): MessageInitShape<typeof ServerFrameSchema> {
  switch (message.kind) {
    case 'welcome':
      return {
        requestId: message.requestId,
        frame: {
          case: 'welcome',
          value: {
            sessionId: message.sessionId,
            resumeToken: message.resumeToken,
            resumed: message.isResumed,
            serverTime: BigInt(message.serverTimeMs),
            heartbeatIntervalMs: BigInt(facts.heartbeatIntervalMs),
            pongTimeoutMs: BigInt(facts.pongTimeoutMs),
            idleAfterMs: BigInt(facts.idleAfterMs),
            maxWatchedUsers: facts.maxWatchedUsers,
            maxFrameBytes: facts.maxFrameBytes,
            pingIntervalMs: BigInt(message.pingIntervalMs),
            ...(message.state && { state: toStatusData(message.state) }),
          },
        },
      };
    case 'ping':
      return { frame: { case: 'ping', value: {} } };
    case 'events':
      return { frame: { case: 'events', value: { events: message.events.map(toEvent) } } };
    case 'ack':
      return {
        requestId: message.requestId,
        frame: { case: 'ack', value: message.state ? { state: toStatusData(message.state) } : {} },
      };
    case 'error': {
      const { code, message: text, retryAfterMs = 0, userIds } = message.error;
      const { retryable } = errorCatalogue[code];
      return {
        requestId: message.requestId,
        frame: {
          case: 'error',
          value: {
            code,
            message: text,
            retryable,
            retryAfterMs: BigInt(Math.ceil(retryAfterMs)),
            userIds: [...userIds],
          },
        },
      };
    }
    case 'states':
      return {
        requestId: message.requestId,
        frame: { case: 'states', value: { states: message.states.map(toStatusData) } },
      };
    case 'token-expiring':
      return {
        frame: { case: 'tokenExpiring', value: { expiresInMs: BigInt(Math.ceil(message.expiresInMs)) } },
      };
    case 'going-away': {
      const { closeCode, reason } = sessionEnds[message.end];
      const reconnectInMs = BigInt(message.reconnectInMs);
      return { frame: { case: 'goingAway', value: { closeCode, reason, reconnectInMs } } };
    }
  }
}
