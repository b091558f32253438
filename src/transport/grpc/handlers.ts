import {
  create,
  type DescMessage,
  type DescMethod,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import {
  EncodedMessage,
  encodeMessage,
  type GrpcServer,
  type MethodDefinition,
  type ServerStream,
} from '@pilotlight/grpc-server';
import {
  PresenceService as PresenceContract,
  StatusUpdateEventSchema,
  type SubscribeStatusUpdatesRequest,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { UserState } from '../../core/presence.ts';
import { type EndableSink, type PresenceApi, tokenExpiryHeader } from '../../presence/presence-api.ts';
import type { WatchEvent } from '../../presence/subscription.ts';
import { Keepalive, keepaliveIntervalMs } from '../keepalive.ts';
import { type ListBounds, maxItems, maxRequestBytes } from '../message-shape.ts';
import { type Doorway, presenceCalls } from '../presence-calls.ts';
import { admitTo, callerOf } from './caller.ts';
import { defineMethod } from './codec.ts';
import { toGrpcError } from './errors.ts';
import { decodeStrings, encodeEvent, encodeHeartbeat, encodeStates } from './fast-codec.ts';

const methods = PresenceContract.method;

/** Registers the contract's rpcs: who calls, decode, presence, encode. */
export function registerPresence(server: GrpcServer, doorway: Doorway, bounds: ListBounds): void {
  const define = definer(doorway, maxItems(bounds));

  function unary<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethod & { readonly input: Input; readonly output: Output },
    handle: (presence: PresenceApi, request: MessageShape<Input>) => Promise<MessageInitShape<Output>>,
    users = 1,
  ): void {
    server.unary(define(method, users), (request, call) =>
      doorway.pass(method.name, callerOf(call), (presence) => handle(presence, request)),
    );
  }

  unary(methods.setUserStatus, (presence, request) => presenceCalls(presence).setUserStatus(request));
  unary(
    methods.setPrivacy,
    (presence, request) => presenceCalls(presence).setPrivacy(request),
    2 * bounds.maxBlockedUsers,
  );
  unary(methods.getPrivacy, (presence, request) => presenceCalls(presence).getPrivacy(request));
  unary(methods.getConnections, (presence, request) => presenceCalls(presence).getConnections(request));
  unary(methods.revokeTokens, (presence, request) => presenceCalls(presence).revokeTokens(request));
  unary(methods.deleteUser, (presence, request) => presenceCalls(presence).deleteUser(request));
  registerBusy(server, doorway, define, bounds);

  const subscribe = {
    ...define(methods.subscribeStatusUpdates, bounds.maxWatchedUsers),
    encode: encodeEvent,
  };
  const encoder = new EventEncoder(subscribe);
  server.serverStream(subscribe, (request: SubscribeStatusUpdatesRequest, stream) =>
    doorway.pass(methods.subscribeStatusUpdates.name, callerOf(stream), (presence) =>
      openWatch(presence, request, stream, encoder),
    ),
  );
}

type Define = ReturnType<typeof definer>;

/** Methods whose callers are known before a message is decoded, and whose messages are as large as they may name users. */
function definer(doorway: Doorway, items: number) {
  return <Input extends DescMessage, Output extends DescMessage>(
    method: DescMethod & { readonly input: Input; readonly output: Output },
    users: number,
  ) => ({
    ...defineMethod(method, items),
    maxRequestBytes: maxRequestBytes(users),
    admit: admitTo(doorway, method.name),
  });
}

/** The rpcs that make up nearly all traffic, past the generated codec where it can be. */
function registerBusy(
  server: GrpcServer,
  doorway: Doorway,
  define: Define,
  { maxBulkUsers }: ListBounds,
): void {
  const heartbeat = define(methods.sendHeartbeat, 1);
  server.unary(
    {
      ...heartbeat,
      decode: (bytes) => lastString(bytes) ?? heartbeat.decode(bytes).userId,
      encode: ({ accepted, nextInMs }) => encodeHeartbeat(accepted, nextInMs),
    },
    (userId: string, call) =>
      doorway.pass(methods.sendHeartbeat.name, callerOf(call), (presence) => presence.heartbeat(userId)),
  );

  const get = define(methods.getUserStatus, 1);
  server.unary(
    {
      ...get,
      decode: (bytes) => lastString(bytes) ?? get.decode(bytes).userId,
      encode: (state: UserState) => encodeStates([state]),
    },
    (userId: string, call) =>
      doorway.pass(methods.getUserStatus.name, callerOf(call), (presence) => presence.getStatus(userId)),
  );

  const getMany = define(methods.getMultipleUserStatus, maxBulkUsers);
  server.unary(
    {
      ...getMany,
      decode: (bytes) => decodeStrings(bytes, maxBulkUsers) ?? getMany.decode(bytes).userIds,
      encode: encodeStates,
    },
    (userIds: readonly string[], call) =>
      doorway.pass(methods.getMultipleUserStatus.name, callerOf(call), (presence) =>
        presence.getStatuses(userIds),
      ),
  );
}

/** Of a field that is no list, the last one counts. Nobody sends it often, and then the generated codec finds it. */
function lastString(bytes: Uint8Array): string | undefined {
  const strings = decodeStrings(bytes, 1);
  return strings?.length === 1 ? strings[0] : undefined;
}

async function openWatch(
  presence: PresenceApi,
  request: SubscribeStatusUpdatesRequest,
  stream: ServerStream<WatchEvent>,
  encoder: EventEncoder,
): Promise<void> {
  const keepalive = new Keepalive(keepaliveIntervalMs(request.keepaliveIntervalMs), () => {
    // What waits for the client is sign enough.
    if (stream.queuedBytes === 0) stream.sendEncoded(keepaliveMessage);
  });
  const sink: EndableSink = {
    send: (event) => {
      keepalive.spoke();
      return stream.sendEncoded(encoder.encode(event));
    },
    end: (error) => stream.fail(toGrpcError(error)),
  };
  stream.onClose(() => keepalive.stop());
  const watch = presence.watch(request.userId === '' ? null : request.userId, sink);
  if (watch.expiresAtMs !== Number.POSITIVE_INFINITY) {
    stream.setHeader(tokenExpiryHeader, String(watch.expiresAtMs));
  }
  stream.onDrain(() => watch.drained());
  stream.onClose(() => void watch.close());
  stream.sendHeaders();
  await watch.add(request.watchUserIds);
}

const keepaliveMessage = new EncodedMessage(
  toBinary(StatusUpdateEventSchema, create(StatusUpdateEventSchema, { keepalive: true })),
);

/** Fan-out offers one event to many streams in a row: it is encoded for the first. */
class EventEncoder {
  readonly #definition: MethodDefinition<SubscribeStatusUpdatesRequest, WatchEvent>;
  #event: WatchEvent | undefined;
  #encoded: EncodedMessage | undefined;

  constructor(definition: MethodDefinition<SubscribeStatusUpdatesRequest, WatchEvent>) {
    this.#definition = definition;
  }

  encode(event: WatchEvent): EncodedMessage {
    if (event !== this.#event || this.#encoded === undefined) {
      this.#event = event;
      this.#encoded = encodeMessage(this.#definition, event);
    }
    return this.#encoded;
  }
}
