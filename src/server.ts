import { randomUUID } from 'node:crypto';
import type { Config } from './config.ts';
import type { PresenceStore } from './core/store.ts';
import type { Log } from './observe/log.ts';
import { Tracing } from './observe/tracing.ts';
import { PresenceService } from './presence/presence-service.ts';
import { WatchHub } from './presence/watch-hub.ts';
import { MemoryStore } from './store/memory-store.ts';
import { RedisStore } from './store/redis/redis-store.ts';
import { GrpcTransport } from './transport/grpc/grpc-transport.ts';
import { HttpTransport } from './transport/http/http-transport.ts';

/** How long open calls may take to end when the server stops, ms. */
const drainTimeoutMs = 5000;
const healthIntervalMs = 250;

export interface Addresses {
  readonly grpc: { readonly host: string; readonly port: number };
  readonly http: { readonly host: string; readonly port: number };
}

/** Everything wired together: config -> store -> presence -> transports. */
export class Server {
  readonly #config: Config;
  readonly #log: Log;
  readonly #store: PresenceStore;
  readonly #hub: WatchHub;
  readonly #grpc: GrpcTransport;
  readonly #http: HttpTransport;
  #healthTimer: NodeJS.Timeout | undefined;
  #stopping: Promise<void> | undefined;

  constructor(config: Config, log: Log) {
    this.#config = config;
    this.#log = log;
    this.#store = createStore(config, log);
    this.#hub = new WatchHub({
      store: this.#store,
      partitions: config.partitions,
      maxWatchedUsers: config.maxWatchedUsers,
      log,
    });
    const presence = new PresenceService({ ...config, store: this.#store, hub: this.#hub, log });
    const tracing = new Tracing();
    this.#grpc = new GrpcTransport({ presence, host: config.host, port: config.grpcPort, log, tracing });
    this.#http = new HttpTransport({
      host: config.host,
      port: config.httpPort,
      notReadyReason: () => this.#notReadyReason(),
    });
  }

  /** Which engine serves: `memory` or `redis`. */
  get engine(): string {
    return this.#config.redisUrl === undefined ? 'memory' : 'redis';
  }

  /** @throws Error when a port is taken or Redis holds data of other PARTITIONS; nothing is left running then */
  async start(): Promise<Addresses> {
    try {
      await this.#store.start();
      const grpc = await this.#grpc.start();
      const http = await this.#http.start();
      this.#healthTimer = setInterval(() => this.#grpc.setServing(this.#store.available), healthIntervalMs);
      this.#grpc.setServing(this.#store.available);
      return { grpc, http };
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Takes no more calls, lets open ones end for a while, and leaves all leases to run. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** Sizes of everything that could leak, for tests and metrics. */
  stats(): { grpc: ReturnType<GrpcTransport['stats']>; hub: ReturnType<WatchHub['stats']> } {
    return { grpc: this.#grpc.stats(), hub: this.#hub.stats() };
  }

  async #stop(): Promise<void> {
    clearInterval(this.#healthTimer);
    await this.#grpc.drain(drainTimeoutMs);
    await this.#http.stop();
    this.#hub.stop();
    await this.#store.stop();
    this.#log.info('stopped');
  }

  #notReadyReason(): string | null {
    if (this.#stopping) return 'the server is stopping';
    return this.#store.available ? null : 'the engine does not answer';
  }
}

function createStore(config: Config, log: Log): PresenceStore {
  if (config.redisUrl === undefined) return new MemoryStore({ ...config, clock: { nowMs: Date.now } });
  return new RedisStore({
    ...config,
    url: config.redisUrl,
    prefix: config.redisPrefix,
    timeoutMs: config.redisTimeoutMs,
    nodeId: randomUUID(),
    log,
  });
}
