import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from '@connectrpc/connect';
import { ErrorInfoSchema } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import {
  PresenceService as PresenceContract,
  type StatusUpdateEventSchema,
  type SubscribeStatusUpdatesRequest,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import { errorCatalogue, type PresenceError } from '../../core/errors.ts';
import type { PresenceService } from '../../presence/presence-service.ts';
import type { WatchEvent } from '../../presence/watch-hub.ts';
import { toEvent } from '../grpc/codec.ts';
import { type Doorway, presenceCalls } from '../presence-calls.ts';

/** Events that wait for a slow reader before it is told only latest states. */
const maxQueuedEvents = 256;

const codes: Readonly<Record<(typeof errorCatalogue)[keyof typeof errorCatalogue]['grpcStatus'], Code>> = {
  NOT_FOUND: Code.NotFound,
  INVALID_ARGUMENT: Code.InvalidArgument,
  PERMISSION_DENIED: Code.PermissionDenied,
  RESOURCE_EXHAUSTED: Code.ResourceExhausted,
  UNAVAILABLE: Code.Unavailable,
  INTERNAL: Code.Internal,
};

/** The Connect and gRPC-Web face of an error: the same status and the same ErrorInfo as over gRPC. */
export function toConnectError(error: PresenceError): ConnectError {
  const info = { desc: ErrorInfoSchema, value: { reason: error.code, domain: 'presence.v1' } };
  const code = codes[errorCatalogue[error.code].grpcStatus];
  return new ConnectError(error.message, code, undefined, [info], error.cause);
}

/** The contract for browsers that generate their client from it: Connect and gRPC-Web. */
export function connectRoutes(presence: PresenceService, doorway: Doorway): (router: ConnectRouter) => void {
  const calls = presenceCalls(presence);
  return (router) =>
    router.service(PresenceContract, {
      setUserStatus: (request) => doorway.pass('SetUserStatus', () => calls.setUserStatus(request)),
      getUserStatus: (request) => doorway.pass('GetUserStatus', () => calls.getUserStatus(request)),
      getMultipleUserStatus: (request) =>
        doorway.pass('GetMultipleUserStatus', () => calls.getMultipleUserStatus(request)),
      getConnections: (request) => doorway.pass('GetConnections', () => calls.getConnections(request)),
      sendHeartbeat: (request) => doorway.pass('SendHeartbeat', () => calls.sendHeartbeat(request)),
      subscribeStatusUpdates: (request, context) => watchEvents(presence, doorway, request, context),
    });
}

async function* watchEvents(
  presence: PresenceService,
  doorway: Doorway,
  request: SubscribeStatusUpdatesRequest,
  { signal }: HandlerContext,
): AsyncGenerator<MessageInitShape<typeof StatusUpdateEventSchema>> {
  let queue: WatchEvent[] = [];
  let wake: () => void = () => {};
  const watch = presence.watch(request.userId === '' ? null : request.userId, {
    send(event) {
      queue.push(event);
      wake();
      return queue.length < maxQueuedEvents;
    },
  });
  const aborted = () => wake();
  signal.addEventListener('abort', aborted);
  try {
    await doorway.pass('SubscribeStatusUpdates', () => watch.add(request.watchUserIds));
    while (!signal.aborted) {
      const events = queue;
      queue = [];
      for (const event of events) yield toEvent(event);
      if (events.length >= maxQueuedEvents) watch.drained();
      if (queue.length > 0 || signal.aborted) continue;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    signal.removeEventListener('abort', aborted);
    await watch.close();
  }
}
