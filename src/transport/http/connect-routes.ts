import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createContextKey,
  type HandlerContext,
} from '@connectrpc/connect';
import { compressionBrotli, compressionGzip } from '@connectrpc/connect-node';
import { ErrorInfoSchema, RetryInfoSchema } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import {
  PresenceService as PresenceContract,
  type StatusUpdateEventSchema,
  type SubscribeStatusUpdatesRequest,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import { PresenceError } from '../../core/errors.ts';
import { type RunningWatch, tokenExpiryHeader } from '../../presence/presence-api.ts';
import type { WatchEvent } from '../../presence/subscription.ts';
import type { Caller } from '../../security/gate.ts';
import { toEvent } from '../grpc/codec.ts';
import { errorInfo, retryInfo } from '../grpc/errors.ts';
import { Keepalive, keepaliveIntervalMs } from '../keepalive.ts';
import type { ListBounds } from '../message-shape.ts';
import { type Doorway, presenceCalls } from '../presence-calls.ts';
import { bounded, boundMessages } from './bounded-body.ts';
import { blameCallers } from './connect-garbage.ts';
import { retryAfterSeconds } from './http-errors.ts';

/** Events that wait for a slow reader before it is told only latest states. */
const maxQueuedEvents = 256;

const codes: Readonly<Record<PresenceError['grpcStatus'], Code>> = {
  NOT_FOUND: Code.NotFound,
  INVALID_ARGUMENT: Code.InvalidArgument,
  PERMISSION_DENIED: Code.PermissionDenied,
  UNAUTHENTICATED: Code.Unauthenticated,
  RESOURCE_EXHAUSTED: Code.ResourceExhausted,
  UNAVAILABLE: Code.Unavailable,
  INTERNAL: Code.Internal,
};

type OutgoingDetail = Extract<ConnectError['details'][number], { readonly desc: unknown }>;

/** The Connect and gRPC-Web face of an error: the same status and the same details as over gRPC. */
export function toConnectError(error: PresenceError): ConnectError {
  const { retryAfterMs } = error;
  const details: OutgoingDetail[] = [{ desc: ErrorInfoSchema, value: errorInfo(error) }];
  if (retryAfterMs !== undefined) details.push({ desc: RetryInfoSchema, value: retryInfo(retryAfterMs) });
  const headers =
    retryAfterMs === undefined ? undefined : { 'retry-after': String(retryAfterSeconds(retryAfterMs)) };
  return new ConnectError(error.message, codes[error.grpcStatus], headers, details, error.cause);
}

/** Who calls, as the request's headers say. */
export const callerKey = createContextKey<Caller>({ authorization: undefined, address: '' });

/** Settles who calls before the library reads a body. */
export function connectGate(doorway: Doorway): (context: HandlerContext) => Promise<void> {
  return async ({ values, method }) => {
    const caller = values.get(callerKey);
    values.set(callerKey, { ...caller, entered: await doorway.enter(method.name, caller) });
  };
}

/** What a message may inflate by, whatever its compression. */
export const compressions = [bounded(compressionGzip), bounded(compressionBrotli)];

/** The contract for browsers that generate their client from it: Connect and gRPC-Web. */
export function connectRoutes(doorway: Doorway, bounds: ListBounds): (router: ConnectRouter) => void {
  return (router) => {
    router.service(PresenceContract, {
      setUserStatus: (request, { values }) =>
        doorway.pass('SetUserStatus', values.get(callerKey), (presence) =>
          presenceCalls(presence).setUserStatus(request),
        ),
      getUserStatus: (request, { values }) =>
        doorway.pass('GetUserStatus', values.get(callerKey), (presence) =>
          presenceCalls(presence).getUserStatus(request),
        ),
      getMultipleUserStatus: (request, { values }) =>
        doorway.pass('GetMultipleUserStatus', values.get(callerKey), (presence) =>
          presenceCalls(presence).getMultipleUserStatus(request),
        ),
      getConnections: (request, { values }) =>
        doorway.pass('GetConnections', values.get(callerKey), (presence) =>
          presenceCalls(presence).getConnections(request),
        ),
      setPrivacy: (request, { values }) =>
        doorway.pass('SetPrivacy', values.get(callerKey), (presence) =>
          presenceCalls(presence).setPrivacy(request),
        ),
      getPrivacy: (request, { values }) =>
        doorway.pass('GetPrivacy', values.get(callerKey), (presence) =>
          presenceCalls(presence).getPrivacy(request),
        ),
      revokeTokens: (request, { values }) =>
        doorway.pass('RevokeTokens', values.get(callerKey), (presence) =>
          presenceCalls(presence).revokeTokens(request),
        ),
      deleteUser: (request, { values }) =>
        doorway.pass('DeleteUser', values.get(callerKey), (presence) =>
          presenceCalls(presence).deleteUser(request),
        ),
      sendHeartbeat: (request, { values }) =>
        doorway.pass('SendHeartbeat', values.get(callerKey), (presence) =>
          presenceCalls(presence).sendHeartbeat(request),
        ),
      subscribeStatusUpdates: (request, context) => watchEvents(doorway, request, context),
    });
    boundMessages(router, { ...bounds, compressions, toError: toConnectError });
    const garbage = PresenceError.invalidArgument('the message', 'is not valid protobuf');
    blameCallers(router, toConnectError(garbage), garbage.httpStatus);
  };
}

function isDeadline(reason: unknown): boolean {
  return reason instanceof ConnectError && reason.code === Code.DeadlineExceeded;
}

async function* watchEvents(
  doorway: Doorway,
  request: SubscribeStatusUpdatesRequest,
  { signal, values, responseHeader }: HandlerContext,
): AsyncGenerator<MessageInitShape<typeof StatusUpdateEventSchema>> {
  let queue: WatchEvent[] = [];
  let wake: () => void = () => {};
  let watch: RunningWatch | undefined;
  let ending: PresenceError | undefined;
  let isKeepaliveDue = false;
  let keepalive: Keepalive | undefined;
  const sink = {
    send(event: WatchEvent) {
      keepalive?.spoke();
      queue.push(event);
      wake();
      return queue.length < maxQueuedEvents;
    },
    end(error: PresenceError) {
      ending = error;
      wake();
    },
  };
  const aborted = () => wake();
  signal.addEventListener('abort', aborted);
  try {
    await doorway.pass('SubscribeStatusUpdates', values.get(callerKey), (presence) => {
      keepalive = new Keepalive(keepaliveIntervalMs(request.keepaliveIntervalMs), () => {
        isKeepaliveDue = true;
        wake();
      });
      watch = presence.watch(request.userId === '' ? null : request.userId, sink);
      if (watch.expiresAtMs !== Number.POSITIVE_INFINITY) {
        responseHeader.set(tokenExpiryHeader, String(watch.expiresAtMs));
      }
      return watch.add(request.watchUserIds);
    });
    while (!signal.aborted) {
      if (ending) throw toConnectError(ending);
      const events = queue;
      queue = [];
      for (const event of events) yield toEvent(event);
      if (isKeepaliveDue) {
        isKeepaliveDue = false;
        if (events.length === 0) yield { keepalive: true };
      }
      if (events.length >= maxQueuedEvents) watch?.drained();
      if (queue.length > 0 || isKeepaliveDue || ending || signal.aborted) continue;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    // A stream that is cut short by its deadline did not end well.
    if (isDeadline(signal.reason)) throw signal.reason;
  } finally {
    signal.removeEventListener('abort', aborted);
    keepalive?.stop();
    await watch?.close();
  }
}
