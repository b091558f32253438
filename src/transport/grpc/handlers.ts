import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  type EncodedMessage,
  encodeMessage,
  type GrpcServer,
  type MethodDefinition,
  type ServerStream,
} from '@pilotlight/grpc-server';
import {
  PresenceService as PresenceContract,
  type StatusUpdateEventSchema,
  type SubscribeStatusUpdatesRequest,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import { PresenceError } from '../../core/errors.ts';
import type { Log } from '../../observe/log.ts';
import type { PresenceService } from '../../presence/presence-service.ts';
import type { WatchEvent, WatchSink } from '../../presence/watch-hub.ts';
import { defineMethod, fromProtoActivity, fromProtoStatus, toEvent, toStatusData } from './codec.ts';
import { toGrpcError } from './errors.ts';

type EventInit = MessageInitShape<typeof StatusUpdateEventSchema>;

const methods = PresenceContract.method;

/** Registers the contract's rpcs: decode, presence, encode. */
export function registerPresence(server: GrpcServer, presence: PresenceService, log: Log): void {
  /** The boundary's one doorway: what a use case throws becomes a gRPC error; a bug is logged, its cause never sent. */
  function failure(error: unknown): Error {
    const known = PresenceError.from(error);
    if (known.code === 'INTERNAL') log.error({ err: error }, 'internal error');
    return toGrpcError(known);
  }

  function unary<Input, Output>(
    definition: MethodDefinition<Input, Output>,
    handle: (request: Input) => Promise<Output>,
  ): void {
    server.unary(definition, async (request) => {
      try {
        return await handle(request);
      } catch (error) {
        throw failure(error);
      }
    });
  }

  unary(defineMethod(methods.setUserStatus), async ({ userId, status, activity }) => {
    const state = await presence.setStatus(userId, fromProtoStatus(status), fromProtoActivity(activity));
    return { success: true, message: `${state.userId} is ${state.status}`, data: toStatusData(state) };
  });

  unary(defineMethod(methods.getUserStatus), async ({ userId }) => {
    return { success: true, data: toStatusData(await presence.getStatus(userId)) };
  });

  unary(defineMethod(methods.getMultipleUserStatus), async ({ userIds }) => {
    return { success: true, data: (await presence.getStatuses(userIds)).map(toStatusData) };
  });

  unary(defineMethod(methods.sendHeartbeat), async ({ userId }) => {
    const { accepted, nextInMs } = await presence.heartbeat(userId);
    return {
      success: accepted,
      nextHeartbeatInSeconds: BigInt(Math.max(1, Math.floor(nextInMs / 1000))),
      nextHeartbeatInMs: BigInt(nextInMs),
    };
  });

  const subscribe = defineMethod(methods.subscribeStatusUpdates);
  const encoder = new EventEncoder(subscribe);
  server.serverStream(subscribe, (request: SubscribeStatusUpdatesRequest, stream) =>
    openWatch(presence, request, stream, encoder).catch((error: unknown) => {
      throw failure(error);
    }),
  );
}

async function openWatch(
  presence: PresenceService,
  request: SubscribeStatusUpdatesRequest,
  stream: ServerStream<EventInit>,
  encoder: EventEncoder,
): Promise<void> {
  const sink: WatchSink = { send: (event) => stream.sendEncoded(encoder.encode(event)) };
  const watch = presence.watch(request.userId === '' ? null : request.userId, sink);
  stream.onDrain(() => watch.drained());
  stream.onClose(() => void watch.close());
  await watch.add(request.watchUserIds);
}

/** Fan-out offers one event to many streams in a row: it is encoded for the first. */
class EventEncoder {
  readonly #definition: MethodDefinition<SubscribeStatusUpdatesRequest, EventInit>;
  #event: WatchEvent | undefined;
  #encoded: EncodedMessage | undefined;

  constructor(definition: MethodDefinition<SubscribeStatusUpdatesRequest, EventInit>) {
    this.#definition = definition;
  }

  encode(event: WatchEvent): EncodedMessage {
    if (event !== this.#event || this.#encoded === undefined) {
      this.#event = event;
      this.#encoded = encodeMessage(this.#definition, toEvent(event));
    }
    return this.#encoded;
  }
}
