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
/** Nobody has to say who they are to ask: a request holds one name of a service, and of those the longest is known. */
const MAX_REQUEST_BYTES = 512;
/** Watches open at one time, and of one connection: beyond either the oldest one ends, and its client may ask again. */
const MAX_WATCHES = 1_000;
const MAX_WATCHES_PER_PEER = 8;

const CHECK: MethodDefinition<string, ServingStatus> = {
  path: '/grpc.health.v1.Health/Check',
  kind: 'unary',
  maxRequestBytes: MAX_REQUEST_BYTES,
  decode: decodeRequest,
  encode: encodeResponse,
};
const WATCH: MethodDefinition<string, ServingStatus> = {
  path: '/grpc.health.v1.Health/Watch',
  kind: 'server-stream',
  maxRequestBytes: MAX_REQUEST_BYTES,
  decode: decodeRequest,
  encode: encodeResponse,
};
const LIST: MethodDefinition<undefined, ReadonlyMap<string, ServingStatus>> = {
  path: '/grpc.health.v1.Health/List',
  kind: 'unary',
  maxRequestBytes: MAX_REQUEST_BYTES,
  decode: () => undefined,
  encode: encodeList,
};

/** Registers the health service. The server as a whole ('') starts as serving. */
export function healthService(server: GrpcServer): HealthService {
  const statuses = new Map<string, ServingStatus>([['', ServingStatus.SERVING]]);
  const watches = new Watches();
  const messages = new Map<ServingStatus, EncodedMessage>(
    Object.values(ServingStatus).map((status) => [status, encodeMessage(WATCH, status)]),
  );

  server.unary(CHECK, (service) => {
    const status = statuses.get(service);
    if (status === undefined) throw new GrpcError(Status.NOT_FOUND, 'unknown service');
    return status;
  });

  server.serverStream(WATCH, (service, stream) => {
    const status = statuses.get(service);
    watches.add(stream, status === undefined ? undefined : service);
    stream.send(status ?? ServingStatus.SERVICE_UNKNOWN);
  });

  server.unary(LIST, () => statuses);

  return {
    setStatus(service, serving) {
      const status = serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
      if (statuses.get(service) === status) return;
      if (!statuses.has(service) && statuses.size >= MAX_SERVICES) {
        throw new RangeError(`health knows at most ${MAX_SERVICES} services`);
      }
      const isNew = !statuses.has(service);
      statuses.set(service, status);
      const message = messages.get(status) as EncodedMessage;
      for (const stream of watches.of(service)) stream.sendEncoded(message);
      // The names of unknown services were not kept: who watches one of them has to ask again.
      if (isNew) for (const stream of watches.of(undefined)) stream.fail(newService());
    },
  };
}

/** Who watches which service, oldest first. */
class Watches {
  /** undefined: a service that is not known, whose name is not kept. */
  private readonly services = new Map<ServerStream<ServingStatus>, string | undefined>();
  private readonly peers = new Map<string, Set<ServerStream<ServingStatus>>>();

  add(stream: ServerStream<ServingStatus>, service: string | undefined): void {
    const { peer } = stream;
    const own = this.peers.get(peer) ?? new Set();
    this.peers.set(peer, own.add(stream));
    this.services.set(stream, service);
    stream.onClose(() => this.forget(stream, peer));
    if (own.size > MAX_WATCHES_PER_PEER) this.end(own.values());
    if (this.services.size > MAX_WATCHES) this.end(this.services.keys());
  }

  of(service: string | undefined): ServerStream<ServingStatus>[] {
    return [...this.services].filter(([, watched]) => watched === service).map(([stream]) => stream);
  }

  private forget(stream: ServerStream<ServingStatus>, peer: string): void {
    this.services.delete(stream);
    const own = this.peers.get(peer);
    own?.delete(stream);
    if (own?.size === 0) this.peers.delete(peer);
  }

  private end(oldestFirst: Iterator<ServerStream<ServingStatus>>): void {
    const oldest = oldestFirst.next().value as ServerStream<ServingStatus>;
    this.forget(oldest, oldest.peer);
    oldest.fail(new GrpcError(Status.RESOURCE_EXHAUSTED, 'too many health watches'));
  }
}

function newService(): GrpcError {
  return new GrpcError(Status.UNAVAILABLE, 'a service was added; watch again');
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
