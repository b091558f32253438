import { GrpcServer, type HealthService, healthService, reflectionService } from '@pilotlight/grpc-server';
import { PresenceService as PresenceContract } from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { Log } from '../../observe/log.ts';
import type { CallMeter } from '../../observe/measure.ts';
import type { Tracing } from '../../observe/tracing.ts';
import type { Sessions } from '../../presence/sessions.ts';
import type { Gate } from '../../security/gate.ts';
import { busy } from '../../security/limits.ts';
import type { TlsFiles } from '../../security/tls.ts';
import type { ListBounds } from '../message-shape.ts';
import { Doorway } from '../presence-calls.ts';
import type { WelcomeFacts } from '../session/frames.ts';
import { behindScope } from './caller.ts';
import { registerConnect } from './connect.ts';
import { describedFiles } from './described-files.ts';
import { toGrpcError } from './errors.ts';
import { registerPresence } from './handlers.ts';

export interface GrpcTransportOptions extends WelcomeFacts, ListBounds {
  readonly gate: Gate;
  readonly sessions: Sessions;
  /** Silence of a connection after which the client is pinged; it has `pongTimeoutMs` to answer. */
  readonly pingIntervalMs: number;
  /** Clients may send one HTTP/2 PING per interval; 0: any number. */
  readonly grpcMinPingIntervalMs: number;
  /** 0: connections may get as old as they like. */
  readonly grpcMaxConnectionAgeMs: number;
  /** 0: calls of a connection that is too old may go on. */
  readonly grpcMaxConnectionAgeGraceMs: number;
  readonly grpcMaxStreamsPerConnection: number;
  /** undefined: plain text. */
  readonly tls: TlsFiles | undefined;
  readonly maxConnections: number;
  /** How long the message of a call, or the rest of one, may take to come. */
  readonly requestTimeoutMs: number;
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly log: Log;
  readonly tracing: Tracing;
}

/** Lists of ids deflate to a tenth. */
const maxInflateRatio = 100;
const contractPath = `/${PresenceContract.typeName}/`;
/** One for all calls, so that refusing costs no encoding. */
const busyError = toGrpcError(busy());

/** The gRPC face of the server: the contract, health and reflection. */
export class GrpcTransport {
  readonly #options: GrpcTransportOptions;
  readonly #server: GrpcServer;
  readonly #health: HealthService;
  readonly #doorway: Doorway;

  constructor(options: GrpcTransportOptions) {
    this.#options = options;
    this.#server = new GrpcServer({
      tls: options.tls?.options,
      limits: {
        maxConnections: options.maxConnections,
        maxConcurrentStreams: options.grpcMaxStreamsPerConnection,
        messageTimeoutMs: options.requestTimeoutMs,
        maxInflateRatio,
      },
      maxConnectionAgeMs: options.grpcMaxConnectionAgeMs,
      maxConnectionAgeGraceMs: options.grpcMaxConnectionAgeGraceMs,
      accept: (address, port) => options.gate.mayConnect(address, port),
      prepareListener: (listener) => options.gate.addresses.readPreambles(listener),
      refuse: (path) =>
        !path.startsWith(contractPath) || options.gate.limits.mayCall() ? undefined : busyError,
      keepalive: {
        timeMs: options.pingIntervalMs,
        timeoutMs: options.pongTimeoutMs,
        minClientPingMs: options.grpcMinPingIntervalMs,
      },
      onError: (error, context) => options.log.error({ err: error, context }, 'gRPC server error'),
    });
    options.tls?.onChange((tls) => this.#server.renewTls(tls));
    this.#doorway = new Doorway({ ...options, transport: 'grpc', toError: toGrpcError });
    registerPresence(this.#server, this.#doorway, options);
    registerConnect(this.#server, options.sessions, options.gate, options);
    this.#health = healthService(this.#server);
    reflectionService(behindScope(this.#server, options.gate), describedFiles());
  }

  /** @returns the address that clients can use */
  async start(): Promise<{ host: string; port: number }> {
    return this.#server.listen({ host: this.#options.host, port: this.#options.port });
  }

  /** What probes are told: whether calls can be served now. */
  setServing(isServing: boolean): void {
    this.#health.setStatus('', isServing);
    this.#health.setStatus(PresenceContract.typeName, isServing);
  }

  /** Accepts no more, lets open calls end for at most `timeoutMs`, then closes what is left. */
  async drain(timeoutMs: number): Promise<void> {
    this.setServing(false);
    await this.#server.drain(timeoutMs);
  }

  /** Closes what is left at once. */
  async close(): Promise<void> {
    await this.#server.close();
  }

  /** How many calls, and how long they took. */
  get calls(): CallMeter {
    return this.#doorway.calls;
  }

  /** Sizes of everything that could leak, for tests and metrics. */
  stats(): ReturnType<GrpcServer['stats']> {
    return this.#server.stats();
  }
}
