import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from './config.ts';
import { isLoopback } from './config-security.ts';
import type { Log } from './observe/log.ts';
import { Metrics } from './observe/metrics.ts';
import { Monitor, type Sources } from './observe/monitor.ts';
import { Tracing } from './observe/tracing.ts';
import { Connections } from './presence/connections.ts';
import { PresenceService } from './presence/presence-service.ts';
import { Sessions } from './presence/sessions.ts';
import { TransitionLog } from './presence/transition-log.ts';
import { WatchHub } from './presence/watch-hub.ts';
import { AllowedHosts } from './security/allowed-hosts.ts';
import { Audit } from './security/audit.ts';
import { Authenticator } from './security/authenticator.ts';
import { ClientAddresses } from './security/client-addresses.ts';
import { Gate } from './security/gate.ts';
import { Limits } from './security/limits.ts';
import { Revocations } from './security/revocations.ts';
import { TlsFiles } from './security/tls.ts';
import { CachedDirectory, httpDirectory } from './security/user-directory.ts';
import { WatchPolicy } from './security/watch-policy.ts';
import { type Clock, monotonicClock, wallClock } from './store/clock.ts';
import { MemoryStore } from './store/memory-store.ts';
import { RedisStore } from './store/redis/redis-store.ts';
import { GrpcTransport } from './transport/grpc/grpc-transport.ts';
import { HttpTransport } from './transport/http/http-transport.ts';
import { PageRules } from './transport/http/origins.ts';
import { WebSocketTransport } from './transport/websocket/websocket-transport.ts';
import { version } from './version.ts';

/** How long calls that are no sessions may take to end when the server stops, ms. */
const callDrainTimeoutMs = 5000;
const healthIntervalMs = 250;

/** Calls of the store that get a span of their own. */
const tracedStoreCalls = [
  'setOnline',
  'setOffline',
  'heartbeat',
  'read',
  'connect',
  'disconnect',
  'renewConnections',
  'setConnectionActivity',
  'readConnections',
  'setCustomStatus',
  'setPrivacy',
  'deleteUser',
  'follow',
] as const;

export interface Addresses {
  readonly grpc: { readonly host: string; readonly port: number };
  readonly http: { readonly host: string; readonly port: number };
}

/** Everything wired together: config -> store -> presence -> transports. */
export class Server {
  readonly #config: Config;
  readonly #log: Log;
  readonly #nodeId = randomUUID();
  /** As the engine has it: its own, or this machine's for that of Redis. */
  readonly #clock: Clock;
  readonly #store: MemoryStore | RedisStore;
  readonly #hub: WatchHub;
  readonly #connections: Connections;
  readonly #transitions: TransitionLog;
  readonly #presence: PresenceService;
  readonly #limits: Limits;
  readonly #audit: Audit;
  readonly #addresses: ClientAddresses;
  readonly #tls: TlsFiles | undefined;
  readonly #revocations: Revocations | undefined;
  readonly #authenticator: Authenticator | undefined;
  readonly #directory: CachedDirectory | undefined;
  readonly #policy: WatchPolicy | undefined;
  readonly #monitor: Monitor;
  readonly #sessions: Sessions;
  readonly #webSocket: WebSocketTransport;
  readonly #grpc: GrpcTransport;
  readonly #http: HttpTransport;
  /** Why calls cannot be served; one judgement for HTTP and gRPC probes. */
  #notReadyReasons: readonly string[] = ['the server is starting'];
  #healthTimer: NodeJS.Timeout | undefined;
  #isStopping = false;
  #stopping: Promise<void> | undefined;

  constructor(config: Config, log: Log) {
    this.#config = config;
    this.#log = log;
    this.#clock = config.redisUrl === undefined ? monotonicClock() : wallClock;
    const { nowMs } = this.#clock;
    this.#store = createStore(config, this.#nodeId, this.#clock, log);
    const tracing = new Tracing();
    const store = tracing.around<MemoryStore | RedisStore>(this.#store, 'store', tracedStoreCalls);
    this.#hub = new WatchHub({
      store,
      partitions: config.partitions,
      maxWatchedUsers: config.maxWatchedUsers,
      ttlMs: config.ttlMs,
      lastSeenTtlMs: config.lastSeenTtlMs,
      nowMs,
      log,
      tracing,
    });
    this.#transitions = new TransitionLog({ hub: this.#hub, ttlMs: config.ttlMs, nowMs, log });
    this.#connections = new Connections({ store, ttlMs: config.ttlMs, log });
    this.#directory = createDirectory(config, this.#store, log);
    this.#revocations = config.auth.includes('jwt')
      ? new Revocations({ store: this.#store.revocations, log })
      : undefined;
    this.#presence = new PresenceService({
      ...config,
      revocations: this.#revocations,
      directory: this.#directory,
      store,
      hub: this.#hub,
      connections: this.#connections,
    });
    this.#sessions = new Sessions({
      ...config,
      helloTimeoutMs: config.requestTimeoutMs,
      presence: this.#presence,
      connections: this.#connections,
      log,
    });
    this.#authenticator =
      config.auth.length > 0
        ? new Authenticator({ ...config, revocations: this.#revocations, log })
        : undefined;
    this.#limits = new Limits(config, () => {
      const { subscriptions, watches } = this.#hub.stats();
      return { streams: subscriptions, watchEdges: watches, memoryBytes: process.memoryUsage.rss() };
    });
    const { watchPolicy } = config;
    this.#policy = watchPolicy === 'all' ? undefined : new WatchPolicy({ ...config, watchPolicy, log });
    this.#addresses = new ClientAddresses(config);
    this.#audit = new Audit(log);
    const gate = new Gate({
      audit: this.#audit,
      addresses: this.#addresses,
      directory: this.#directory,
      policy: this.#policy,
      presence: this.#presence,
      authenticator: this.#authenticator,
      limits: this.#limits,
    });
    const { tlsCert, tlsKey } = config;
    const isSecure = tlsCert !== undefined && tlsKey !== undefined;
    this.#tls = isSecure ? new TlsFiles({ ...config, tlsCert, tlsKey, log }) : undefined;
    const shared = { gate, tls: this.#tls, host: config.host, log, tracing };
    this.#grpc = new GrpcTransport({ ...config, ...shared, sessions: this.#sessions, port: config.grpcPort });
    const sources = this.#sources();
    const monitor = new Monitor(sources, log);
    this.#monitor = monitor;
    const transitions = this.#transitions;
    const pages = new PageRules({
      hosts: new AllowedHosts({ ...config, isExposed: !isLoopback(config.host) }),
      addresses: this.#addresses,
      allowedOrigins: config.allowedOrigins,
      audit: this.#audit,
    });
    this.#webSocket = new WebSocketTransport({ ...config, gate, pages, sessions: this.#sessions });
    this.#http = new HttpTransport({
      ...config,
      ...shared,
      pages,
      webSocket: this.#webSocket,
      port: config.httpPort,
      version,
      notReadyReasons: sources.notReadyReasons,
      refused: () => (this.#store instanceof RedisStore ? this.#store.refused : []),
      metrics: new Metrics(sources, monitor),
      stats: {
        stats: () => monitor.stats(),
        recentTransitions: () => transitions.recent(),
        onTick: (listener) => monitor.listen(listener),
        onTransitions: (listener) => transitions.listen(listener),
      },
    });
    this.#webSocket.attach(this.#http.server);
  }

  /** Which engine serves: `memory` or `redis`. */
  get engine(): 'memory' | 'redis' {
    return this.#config.redisUrl === undefined ? 'memory' : 'redis';
  }

  /** @throws Error when a port is taken or Redis holds data of other PARTITIONS; nothing is left running then */
  async start(): Promise<Addresses> {
    try {
      await this.#store.start();
      this.#connections.start();
      this.#sessions.start();
      await this.#revocations?.start();
      this.#authenticator?.start();
      this.#tls?.start();
      this.#warnIfOpen();
      await this.#transitions.start();
      this.#monitor.start();
      const grpc = await this.#grpc.start();
      const http = await this.#http.start();
      this.#healthTimer = setInterval(() => this.#judgeHealth(), healthIntervalMs);
      this.#judgeHealth();
      return { grpc, http };
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Takes no more calls, lets open ones end for a while, and leaves all leases to run. */
  stop(): Promise<void> {
    this.#isStopping = true;
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** Sizes of everything that could leak, for tests and metrics. */
  stats() {
    return {
      grpc: this.#grpc.stats(),
      webSocket: this.#webSocket.stats(),
      http: this.#http.stats(),
      hub: this.#hub.stats(),
      sessions: this.#sessions.stats(),
      connections: this.#connections.stats(),
    };
  }

  async #stop(): Promise<void> {
    clearInterval(this.#healthTimer);
    // Readiness goes red first: whoever balances load sends nobody new.
    this.#judgeHealth();
    const { drainTimeoutMs } = this.#config;
    this.#connections.handOver();
    const calls = this.#grpc.drain(drainTimeoutMs);
    await this.#sessions.drain(drainTimeoutMs);
    const timer = new AbortController();
    const callDrainMs = Math.min(drainTimeoutMs, callDrainTimeoutMs);
    await Promise.race([calls, sleep(callDrainMs, undefined, { signal: timer.signal }).catch(() => {})]);
    timer.abort();
    this.#addresses.stop();
    await this.#grpc.close();
    this.#webSocket.stop();
    await this.#http.stop();
    await this.#monitor.stop();
    this.#transitions.stop();
    this.#hub.stop();
    this.#sessions.stop();
    this.#audit.stop();
    this.#authenticator?.stop();
    this.#revocations?.stop();
    this.#tls?.stop();
    this.#connections.stop();
    await this.#store.stop();
    this.#log.info('stopped');
  }

  #warnIfOpen(): void {
    const { auth, host } = this.#config;
    if (isLoopback(host)) return;
    if (auth.length > 0) {
      if (this.#tls) return;
      this.#log.warn(
        { host },
        'AUTH without TLS_CERT: tokens can be read on the way, unless a proxy ends TLS',
      );
      return;
    }
    this.#log.warn({ host }, 'ALLOW_INSECURE: whoever reaches this address may change and see everything');
  }

  #judgeHealth(): void {
    const reasons: string[] = [];
    if (this.#isStopping) reasons.push('the server is stopping');
    if (!this.#store.available) reasons.push('the engine does not answer');
    if (this.#store instanceof RedisStore) reasons.push(...this.#store.troubles);
    if (this.#store.available && !this.#isFeedCaughtUp()) reasons.push('the feed is not caught up');
    this.#notReadyReasons = reasons;
    this.#grpc.setServing(reasons.length === 0);
  }

  #isFeedCaughtUp(): boolean {
    const silentPartitions = this.#redisStats()?.silentPartitions ?? 0;
    return (
      this.#transitions.stats().isFollowing && this.#hub.stats().reloading === 0 && silentPartitions === 0
    );
  }

  #redisStats() {
    return this.#store instanceof RedisStore ? this.#store.stats() : null;
  }

  /** Where monitor and metrics look: only now does one place know every room. */
  #sources(): Sources {
    const { partitions, ttlMs, heartbeatIntervalMs } = this.#config;
    return {
      nodeId: this.#nodeId,
      version,
      engine: this.engine,
      partitions,
      ttlMs,
      heartbeatIntervalMs,
      overview: this.#store instanceof RedisStore ? this.#store.overview : this.#store,
      nowMs: this.#clock.nowMs,
      isEngineAvailable: () => this.#store.available,
      notReadyReasons: () => this.#notReadyReasons,
      redis: () => this.#redisStats(),
      hub: () => this.#hub.stats(),
      transitions: () => this.#transitions.stats(),
      heartbeats: () => this.#presence.stats(),
      refused: () => this.#limits.refused,
      lookups: () => ({ directory: this.#directory?.stats(), policy: this.#policy?.stats() }),
      connections: () => ({
        grpc: this.#grpc.stats().streams,
        websocket: this.#webSocket.stats().connections,
        events: this.#http.stats().streams,
      }),
      queuedBytes: () => ({
        grpc: this.#grpc.stats().queuedBytes,
        websocket: this.#webSocket.stats().queuedBytes,
        events: this.#http.stats().queuedBytes,
      }),
      calls: () => ({ grpc: this.#grpc.calls, ...this.#http.calls }),
    };
  }
}

function createStore(config: Config, nodeId: string, clock: Clock, log: Log): MemoryStore | RedisStore {
  if (config.redisUrl === undefined) return new MemoryStore({ ...config, clock });
  return new RedisStore({
    ...config,
    url: config.redisUrl,
    ca: config.redisTlsCa === undefined ? undefined : readFileSync(config.redisTlsCa, 'utf8'),
    passwordFile: config.redisPasswordFile,
    prefix: config.redisPrefix,
    timeoutMs: config.redisTimeoutMs,
    nodeId,
    log,
  });
}

/** undefined: every id is somebody's. */
function createDirectory(
  config: Config,
  store: MemoryStore | RedisStore,
  log: Log,
): CachedDirectory | undefined {
  const { userDirectory, userDirectoryUrl, userDirectoryKey } = config;
  if (userDirectory === 'http') {
    return new CachedDirectory({ ...config, ask: httpDirectory(userDirectoryUrl as string), log });
  }
  if (userDirectory === 'open' || !(store instanceof RedisStore)) return undefined;
  return new CachedDirectory({
    ...config,
    ask: async (userIds) => ({
      yes: await store.membersAmong(userDirectoryKey, userIds),
      maxAgeMs: undefined,
    }),
    log,
  });
}
