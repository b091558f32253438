import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import type { MethodDefinition, MethodKind } from '@pilotlight/grpc-server';
import {
  type Connection,
  ConnectionKind,
  ConnectionSchema,
  type CustomStatus,
  CustomStatusSchema,
  Activity as ProtoActivity,
  Cause as ProtoCause,
  type StatusUpdateEvent,
  StatusUpdateEventSchema,
  UserStatus,
  type UserStatusData,
  UserStatusDataSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import { PresenceError } from '../../core/errors.ts';
import type { Activity, Cause, Status, UserState } from '../../core/presence.ts';
import type { ConnectionSeen } from '../../core/store.ts';
import type { WatchEvent } from '../../presence/subscription.ts';
import { checkProto } from '../message-shape.ts';
import { toGrpcError } from './errors.ts';

const activities: Readonly<Record<Activity, ProtoActivity>> = {
  ACTIVE: ProtoActivity.ACTIVE,
  IDLE: ProtoActivity.IDLE,
  AWAY: ProtoActivity.AWAY,
  DO_NOT_DISTURB: ProtoActivity.DO_NOT_DISTURB,
};

const causes: Readonly<Record<Cause, ProtoCause>> = {
  SET: ProtoCause.SET,
  HEARTBEAT: ProtoCause.HEARTBEAT,
  CONNECT: ProtoCause.CONNECT,
  DISCONNECT: ProtoCause.DISCONNECT,
  EXPIRED: ProtoCause.EXPIRED,
  NODE_LOST: ProtoCause.NODE_LOST,
};

const activitiesByNumber = new Map(
  Object.entries(activities).map(([name, number]) => [number, name as Activity]),
);

/** @throws PresenceError INVALID_STATUS */
export function fromProtoStatus(status: UserStatus): Status {
  if (status === UserStatus.ONLINE) return 'ONLINE';
  if (status === UserStatus.OFFLINE) return 'OFFLINE';
  throw new PresenceError('INVALID_STATUS', 'status must be ONLINE or OFFLINE');
}

/** null: not given. @throws PresenceError INVALID_ARGUMENT */
export function fromProtoActivity(activity: ProtoActivity): Activity | null {
  if (activity === ProtoActivity.UNSPECIFIED) return null;
  const known = activitiesByNumber.get(activity);
  if (!known) throw PresenceError.invalidArgument('activity', 'is not one that this server knows');
  return known;
}

export function toStatusData(state: UserState): UserStatusData {
  return create(UserStatusDataSchema, {
    userId: state.userId,
    status: UserStatus[state.status],
    lastSeen: BigInt(state.lastSeenMs),
    activity: state.activity === null ? ProtoActivity.UNSPECIFIED : activities[state.activity],
    since: BigInt(state.sinceMs),
    version: BigInt(state.version),
    ...customStatusOf(state),
  });
}

function customStatusOf({ customStatus }: UserState): { customStatus?: CustomStatus } {
  if (customStatus === null) return {};
  const { text, emoji, expiresAtMs } = customStatus;
  return { customStatus: create(CustomStatusSchema, { text, emoji, expiresAt: BigInt(expiresAtMs) }) };
}

export function toConnection(connection: ConnectionSeen): Connection {
  return create(ConnectionSchema, {
    connectionId: connection.connectionId,
    kind: connection.kind === 'session' ? ConnectionKind.SESSION : ConnectionKind.STREAM,
    device: connection.device,
    activity: connection.activity === null ? ProtoActivity.UNSPECIFIED : activities[connection.activity],
    since: BigInt(connection.sinceMs),
    lastSeen: BigInt(connection.lastSeenMs),
  });
}

export function toEvent({ state, snapshot }: WatchEvent): StatusUpdateEvent {
  return create(StatusUpdateEventSchema, {
    userId: state.userId,
    status: UserStatus[state.status],
    timestamp: BigInt(state.changedAtMs),
    snapshot,
    activity: state.activity === null ? ProtoActivity.UNSPECIFIED : activities[state.activity],
    lastSeen: BigInt(state.lastSeenMs),
    cause: state.cause === null ? ProtoCause.UNSPECIFIED : causes[state.cause],
    version: BigInt(state.version),
    ...customStatusOf(state),
  });
}

function checkShape(desc: DescMessage, bytes: Uint8Array, items: number): void {
  try {
    checkProto(desc, bytes, items);
  } catch (error) {
    throw toGrpcError(PresenceError.from(error));
  }
}

const kinds: Readonly<Record<DescMethod['methodKind'], MethodKind>> = {
  unary: 'unary',
  server_streaming: 'server-stream',
  client_streaming: 'client-stream',
  bidi_streaming: 'bidi',
};

/**
 * A method of the contract, as the gRPC server wants it. Handlers may answer with plain objects.
 *
 * @param items most fields and list items of a request
 */
export function defineMethod<Input extends DescMessage, Output extends DescMessage>(
  method: DescMethod & { readonly input: Input; readonly output: Output },
  items: number,
): MethodDefinition<MessageShape<Input>, MessageInitShape<Output>> {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    kind: kinds[method.methodKind],
    decode: (bytes) => {
      checkShape(method.input, bytes, items);
      try {
        return fromBinary(method.input, bytes, { readUnknownFields: false });
      } catch (error) {
        throw toGrpcError(
          new PresenceError('INVALID_ARGUMENT', `the request is not a valid ${method.input.typeName}`, {
            cause: error,
          }),
        );
      }
    },
    encode: (message) => toBinary(method.output, create(method.output, message)),
  };
}
