/** grpc.health.v1.Health: Check, Watch and List (grpc/grpc doc/health-checking.md). */
import type { MethodDefinition, ServerStream } from './api.ts';
import { type EncodedMessage, encodeMessage } from './encoded-message.ts';
import { GrpcError, Status } from './errors.ts';
import { ProtoWriter, readFields, utf8 } from './protobuf-lite.ts';
import type { GrpcServer } from './server.ts';

const ServingStatus = { SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 } as const;
type ServingStatus = (typeof ServingStatus)[keyof typeof ServingStatus];

export interface HealthService {
  /** Sets the status of a service by its full name; '' stands for the server as a whole. Watchers are told of changes. */
  setStatus(service: string, serving: boolean): void;
}

/** Names kept for one List answer, and services that may be set. */
const MAX_SERVICES = 100;

const CHECK: MethodDefinition<string, ServingStatus> = {
  path: '/grpc.health.v1.Health/Check',
  kind: 'unary',
  decode: decodeRequest,
  encode: encodeResponse,
};
const WATCH: MethodDefinition<string, ServingStatus> = {
  path: '/grpc.health.v1.Health/Watch',
  kind: 'server-stream',
  decode: decodeRequest,
  encode: encodeResponse,
};
const LIST: MethodDefinition<undefined, ReadonlyMap<string, ServingStatus>> = {
  path: '/grpc.health.v1.Health/List',
  kind: 'unary',
  decode: () => undefined,
  encode: encodeList,
};

/** Registers the health service. The server as a whole ('') starts as serving. */
export function healthService(server: GrpcServer): HealthService {
  const statuses = new Map<string, ServingStatus>([['', ServingStatus.SERVING]]);
  const watchers = new Map<string, Set<ServerStream<ServingStatus>>>();
  const messages = new Map<ServingStatus, EncodedMessage>(
    Object.values(ServingStatus).map((status) => [status, encodeMessage(WATCH, status)]),
  );

  server.unary(CHECK, (service) => {
    const status = statuses.get(service);
    if (status === undefined) throw new GrpcError(Status.NOT_FOUND, `unknown service ${service}`);
    return status;
  });

  server.serverStream(WATCH, (service, stream) => {
    const streams = watchers.get(service) ?? new Set();
    watchers.set(service, streams.add(stream));
    stream.onClose(() => {
      streams.delete(stream);
      if (streams.size === 0 && watchers.get(service) === streams) watchers.delete(service);
    });
    stream.send(statuses.get(service) ?? ServingStatus.SERVICE_UNKNOWN);
  });

  server.unary(LIST, () => statuses);

  return {
    setStatus(service, serving) {
      const status = serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
      if (statuses.get(service) === status) return;
      if (!statuses.has(service) && statuses.size >= MAX_SERVICES) {
        throw new RangeError(`health knows at most ${MAX_SERVICES} services`);
      }
      statuses.set(service, status);
      const message = messages.get(status) as EncodedMessage;
      for (const stream of [...(watchers.get(service) ?? [])]) stream.sendEncoded(message);
    },
  };
}

/** HealthCheckRequest { string service = 1; } */
function decodeRequest(bytes: Uint8Array): string {
  let service = '';
  for (const field of readFields(bytes)) if (field.number === 1) service = utf8(field.bytes);
  return service;
}

/** HealthCheckResponse { ServingStatus status = 1; } */
function encodeResponse(status: ServingStatus): Uint8Array {
  const writer = new ProtoWriter();
  writer.int32(1, status);
  return writer.finish();
}

/** HealthListResponse { map<string, HealthCheckResponse> statuses = 1; } */
function encodeList(statuses: ReadonlyMap<string, ServingStatus>): Uint8Array {
  const writer = new ProtoWriter();
  for (const [service, status] of statuses) {
    const entry = new ProtoWriter();
    entry.string(1, service);
    entry.bytes(2, encodeResponse(status));
    writer.message(1, entry);
  }
  return writer.finish();
}
