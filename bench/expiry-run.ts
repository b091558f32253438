import { setTimeout as sleep } from 'node:timers/promises';
import { UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { createClient } from 'redis';
import { silentLog } from '../src/observe/log.ts';
import { RedisStore } from '../src/store/redis/redis-store.ts';
import { Nodes } from '../test/faults/nodes.ts';
import { ServerProcess } from '../test/faults/server-process.ts';
import { redisCommand } from '../test/support/redis-command.ts';
import { RedisServer } from '../test/support/redis-server.ts';
import { seedUsers } from './seed-users.ts';

export interface ExpiryOptions {
  /** Leases that are renewed all the while. */
  readonly live: number;
  /** Leases that end, spread over `spreadMs`. */
  readonly ending: number;
  readonly spreadMs: number;
  readonly ttlMs: number;
  /** How long to wait after the last deadline. */
  readonly patienceMs: number;
  /** Whether a second Redis with as many keys tells of the same deadlines by its expired-key notification. */
  readonly compare: boolean;
  readonly say: (line: string) => void;
}

export interface Lateness {
  /** After the deadline, ms, ascending. */
  readonly lateMs: readonly number[];
  readonly early: number;
  readonly missing: number;
}

export interface ExpiryResult {
  readonly watcher: Lateness;
  readonly notification: Lateness | undefined;
  /** Live users that were said to be OFFLINE. */
  readonly falselyEnded: number;
  /** The latest that this program renewed a live lease, ms: beyond half a TTL it is to blame itself. */
  readonly renewedLateMs: number;
  /** Share of one core that Redis used while leases ended. */
  readonly redisCpu: number;
}

const partitions = 64;
/** Most that one subscription watches. */
const watchedEach = 5000;
const chunk = 5000;

const liveUser = (i: number): string => `live-${i}`;
const endingUser = (i: number): string => `ending-${i}`;

/**
 * Lets many leases end among far more that are renewed, and takes the time from each deadline to the event at a watcher
 * of a real server. Deadlines and arrivals are read from the one clock of this machine.
 */
export async function measureExpiry(options: ExpiryOptions): Promise<ExpiryResult> {
  const { ttlMs, live, ending, say } = options;
  const redis = await RedisServer.start();
  const baseline = options.compare ? await Baseline.start(options) : undefined;
  const server = await ServerProcess.start('server', {
    REDIS_URL: redis.url,
    USER_STATUS_TTL: `${ttlMs}ms`,
    HEARTBEAT_INTERVAL: `${ttlMs / 2}ms`,
    PARTITIONS: String(partitions),
  });
  const store = await startWriter(redis.url, ttlMs);
  const renewals = new Renewals(store, live, ttlMs / 2);
  try {
    say(`writing ${live} live users`);
    await baseline?.fill();
    await seedUsers(redis.url, { count: live, nameOf: liveUser }, { ttlMs, partitions });
    renewals.start();
    say(`lighting ${ending} users whose leases end within ${options.spreadMs} ms`);
    const deadlines = new Deadlines(ending);
    const watcher = new Watcher(new Nodes([server]), deadlines, ttlMs);
    await Promise.all([
      spread(options, async (users) => {
        await Promise.all(users.map((i) => store.heartbeat(endingUser(i))));
      }),
      baseline?.light(),
    ]);
    await watcher.start();
    const startMs = Date.now();
    const cpuBefore = await cpuSeconds(redis.port);
    say('waiting for the leases to end');
    await waitUntil(() => watcher.isComplete, ttlMs + options.patienceMs);
    const redisCpu = ((await cpuSeconds(redis.port)) - cpuBefore) / ((Date.now() - startMs) / 1000);
    if (baseline) await waitUntil(() => baseline.isComplete, options.patienceMs);
    const ended = deadlines.lateness();
    // Whoever is ONLINE is in the index.
    const falselyEnded = live + ended.missing - (await store.overview.countOnline());
    return {
      watcher: ended,
      notification: baseline?.lateness(),
      falselyEnded,
      renewedLateMs: renewals.lateMs,
      redisCpu,
    };
  } finally {
    await renewals.stop();
    await store.stop();
    await server.stop();
    await baseline?.stop();
    await redis.stop();
  }
}

/** Writes as a node would, but judges nothing. */
async function startWriter(url: string, ttlMs: number): Promise<RedisStore> {
  const store = new RedisStore({
    url,
    ttlMs,
    disconnectGraceMs: 0,
    timeoutMs: 5000,
    partitions,
    lastSeenTtlMs: 3_600_000,
    maxConnectionsPerUser: 20,
    nodeId: 'bench-writer',
    log: silentLog,
    sweeps: false,
  });
  await store.start();
  return store;
}

/** Calls `light` with every number of an ending user, evenly over the time. */
async function spread(
  { ending, spreadMs }: ExpiryOptions,
  light: (users: readonly number[]) => Promise<void>,
): Promise<void> {
  const startMs = performance.now();
  for (let next = 0; next < ending; ) {
    const due = Math.min(ending, Math.ceil(((performance.now() - startMs) / spreadMs) * ending));
    if (due > next) {
      await light(Array.from({ length: due - next }, (_, i) => next + i));
      next = due;
    }
    await sleep(10);
  }
}

async function waitUntil(condition: () => boolean, timeoutMs: number): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!condition() && performance.now() < endMs) await sleep(20);
}

async function cpuSeconds(port: number): Promise<number> {
  const info = await redisCommand<string>(port, 'INFO', 'cpu');
  const read = (field: string) => Number(new RegExp(`${field}:([\\d.]+)`).exec(info)?.[1]);
  return read('used_cpu_user') + read('used_cpu_sys');
}

/** When each ending lease was over, and was said to be. */
class Deadlines {
  readonly #lateMs = new Map<string, number>();
  readonly #ending: number;

  constructor(ending: number) {
    this.#ending = ending;
  }

  get isComplete(): boolean {
    return this.#lateMs.size === this.#ending;
  }

  get count(): number {
    return this.#ending;
  }

  tell(userId: string, deadlineMs: number): void {
    if (!this.#lateMs.has(userId)) this.#lateMs.set(userId, Date.now() - deadlineMs);
  }

  lateness(): Lateness {
    const lateMs = [...this.#lateMs.values()].sort((a, b) => a - b);
    return {
      lateMs,
      early: lateMs.filter((ms) => ms < 0).length,
      missing: this.#ending - lateMs.length,
    };
  }
}

/** Watches all ending users at a real server. */
class Watcher {
  readonly #nodes: Nodes;
  readonly #deadlines: Deadlines;
  readonly #ttlMs: number;

  constructor(nodes: Nodes, deadlines: Deadlines, ttlMs: number) {
    this.#nodes = nodes;
    this.#deadlines = deadlines;
    this.#ttlMs = ttlMs;
  }

  get isComplete(): boolean {
    return this.#deadlines.isComplete;
  }

  /** Resolves when every snapshot is there. */
  async start(): Promise<void> {
    const streams: Promise<void>[] = [];
    for (let from = 0; from < this.#deadlines.count; from += watchedEach) {
      const users = Array.from({ length: Math.min(watchedEach, this.#deadlines.count - from) }, (_, i) =>
        endingUser(from + i),
      );
      streams.push(this.#watch(`watcher-${from}`, users));
    }
    await Promise.all(streams);
  }

  #watch(userId: string, watchUserIds: string[]): Promise<void> {
    const introduced = Promise.withResolvers<void>();
    let snapshots = 0;
    const read = async () => {
      for await (const event of this.#nodes.client(0).subscribeStatusUpdates({ userId, watchUserIds })) {
        if (event.snapshot && ++snapshots === watchUserIds.length) introduced.resolve();
        if (event.status !== UserStatus.OFFLINE) continue;
        this.#deadlines.tell(event.userId, Number(event.lastSeen) + this.#ttlMs);
      }
    };
    // The server stops in the end, and the stream with it.
    read().catch((error: unknown) => introduced.reject(error));
    return introduced.promise;
  }
}

/** Keeps the live users alive, evenly over each interval, as their clients would. */
class Renewals {
  readonly #store: RedisStore;
  readonly #live: number;
  readonly #intervalMs: number;
  /** The latest of all renewals, ms. */
  lateMs = 0;
  #isStopped = false;
  #done = 0;
  #running: Promise<void> | undefined;

  constructor(store: RedisStore, live: number, intervalMs: number) {
    this.#store = store;
    this.#live = live;
    this.#intervalMs = intervalMs;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#running;
  }

  async #renew(from: number, to: number): Promise<void> {
    const beats: Promise<boolean>[] = [];
    for (let i = from; i < to; i++) beats.push(this.#store.heartbeat(liveUser(i)));
    await Promise.all(beats);
  }

  async #run(): Promise<void> {
    const startMs = performance.now();
    while (!this.#isStopped) {
      const due = Math.floor(((performance.now() - startMs) / this.#intervalMs) * this.#live);
      this.lateMs = Math.max(this.lateMs, ((due - this.#done) / this.#live) * this.#intervalMs);
      const from = this.#done % this.#live;
      const to = Math.min(this.#live, from + Math.min(chunk, due - this.#done));
      if (to > from) await this.#renew(from, to);
      this.#done += to - from;
      await sleep(5);
    }
  }
}

const setAll = "for _, key in ipairs(ARGV) do redis.call('SET', key, 'online', 'PX', 3600000) end";

/** The same deadlines as keys of another Redis that tells of expired keys, among as many keys with a TTL. */
class Baseline {
  readonly #redis: RedisServer;
  readonly #options: ExpiryOptions;
  readonly #deadlines: Deadlines;
  readonly #deadlineMs = new Map<string, number>();
  readonly #client: ReturnType<typeof createClient>;
  readonly #subscriber: ReturnType<typeof createClient>;

  constructor(redis: RedisServer, options: ExpiryOptions) {
    this.#redis = redis;
    this.#options = options;
    this.#deadlines = new Deadlines(options.ending);
    this.#client = createClient({ url: redis.url });
    this.#subscriber = createClient({ url: redis.url });
  }

  static async start(options: ExpiryOptions): Promise<Baseline> {
    const redis = await RedisServer.start(['--notify-keyspace-events', 'Ex']);
    const baseline = new Baseline(redis, options);
    await baseline.#client.connect();
    await baseline.#subscriber.connect();
    await baseline.#subscriber.subscribe('__keyevent@0__:expired', (key) => {
      const deadlineMs = baseline.#deadlineMs.get(key);
      if (deadlineMs !== undefined) baseline.#deadlines.tell(key, deadlineMs);
    });
    return baseline;
  }

  get isComplete(): boolean {
    return this.#deadlines.isComplete;
  }

  async fill(): Promise<void> {
    for (let from = 0; from < this.#options.live; from += chunk) {
      const count = Math.min(chunk, this.#options.live - from);
      const keys = Array.from({ length: count }, (_, i) => `user:status:${liveUser(from + i)}`);
      await this.#client.eval(setAll, { arguments: keys });
    }
  }

  light(): Promise<void> {
    return spread(this.#options, async (users) => {
      const sets = users.map((i) => {
        const key = `user:status:${endingUser(i)}`;
        const deadlineMs = Date.now() + this.#options.ttlMs;
        this.#deadlineMs.set(key, deadlineMs);
        return this.#client.set(key, 'online', { PXAT: deadlineMs });
      });
      await Promise.all(sets);
    });
  }

  lateness(): Lateness {
    return this.#deadlines.lateness();
  }

  async stop(): Promise<void> {
    this.#client.destroy();
    this.#subscriber.destroy();
    await this.#redis.stop();
  }
}
