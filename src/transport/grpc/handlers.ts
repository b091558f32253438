import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
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
import type { PresenceService } from '../../presence/presence-service.ts';
import type { WatchEvent, WatchSink } from '../../presence/watch-hub.ts';
import { type Doorway, presenceCalls } from '../presence-calls.ts';
import { defineMethod, toEvent } from './codec.ts';

type EventInit = MessageInitShape<typeof StatusUpdateEventSchema>;

const methods = PresenceContract.method;

/** Registers the contract's rpcs: decode, presence, encode. */
export function registerPresence(server: GrpcServer, presence: PresenceService, doorway: Doorway): void {
  function unary<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethod & { readonly input: Input; readonly output: Output },
    handle: (request: MessageShape<Input>) => Promise<MessageInitShape<Output>>,
  ): void {
    server.unary(defineMethod(method), (request) => doorway.pass(method.name, () => handle(request)));
  }

  const calls = presenceCalls(presence);
  unary(methods.setUserStatus, calls.setUserStatus);
  unary(methods.getUserStatus, calls.getUserStatus);
  unary(methods.getMultipleUserStatus, calls.getMultipleUserStatus);
  unary(methods.sendHeartbeat, calls.sendHeartbeat);

  const subscribe = defineMethod(methods.subscribeStatusUpdates);
  const encoder = new EventEncoder(subscribe);
  server.serverStream(subscribe, (request: SubscribeStatusUpdatesRequest, stream) =>
    doorway.pass(methods.subscribeStatusUpdates.name, () => openWatch(presence, request, stream, encoder)),
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
