import { partitionOf } from '../../core/partition.ts';
import type { Activity, LeasePolicy, UserState } from '../../core/presence.ts';
import { parseRedisTarget } from '../../core/redis-target.ts';
import type { FeedListener, PresenceStore } from '../../core/store.ts';
import type { Log } from '../../observe/log.ts';
import { Feed, type FeedStats } from './feed.ts';
import { Keys } from './keys.ts';
import { RedisOverview } from './overview.ts';
import { Reader } from './reader.ts';
import { type EngineStats, RedisEngine } from './redis-engine.ts';
import { type Script, scripts } from './scripts.ts';
import { activityNumber, causeNumber, decodeState } from './state-line.ts';
import { Sweeper, type SweeperStats } from './sweeper.ts';

export interface RedisStoreOptions extends LeasePolicy {
  /** REDIS_URL: `redis://`, `rediss://`, `redis+sentinel://`, `redis+cluster://`. */
  readonly url: string;
  /** Goes before every key; default none. */
  readonly prefix?: string;
  readonly timeoutMs: number;
  readonly partitions: number;
  readonly lastSeenTtlMs: number;
  /** Unique among running nodes. */
  readonly nodeId: string;
  readonly log: Log;
  /** Whether this node judges leases; default true. false is for tests that want them unjudged. */
  readonly sweeps?: boolean;
}

export interface RedisStoreStats extends EngineStats, FeedStats, SweeperStats {
  /** Partitions whose data went, because Redis was emptied or came back without it. */
  readonly dataGone: number;
  /** Connections of this node's users. */
  readonly openConnections: number;
  /** Closed connections that Redis has still to be told of. */
  readonly unclosedConnections: number;
}

/** The engine that many servers share. Each method is one command or one script; lua/ says what they do. */
export class RedisStore implements PresenceStore {
  readonly overview: RedisOverview;
  readonly #options: RedisStoreOptions;
  readonly #keys: Keys;
  readonly #engine: RedisEngine;
  readonly #feed: Feed;
  readonly #sweeper: Sweeper;
  readonly #reader: Reader;
  /** Connections of this node's users, which it renews while they are open. */
  readonly #openConnections = new Map<string, string>();
  /** Connections that closed while Redis was away; taken back when it answers. */
  readonly #unclosedConnections = new Map<string, string>();
  readonly #partitionOf: (userId: string) => number;
  readonly #ttl: string;
  #renewTimer: NodeJS.Timeout | undefined;
  #dataGone = 0;

  constructor(options: RedisStoreOptions) {
    this.#options = options;
    this.#ttl = String(options.ttlMs);
    this.#partitionOf = (userId) => partitionOf(userId, options.partitions);
    const target = parseRedisTarget(options.url);
    const keys = new Keys({
      prefix: options.prefix ?? '',
      tagged: target.mode === 'cluster',
      partitions: options.partitions,
      partitionOf: this.#partitionOf,
    });
    this.#keys = keys;
    const engine = new RedisEngine({ ...options, target, partitionsKey: keys.partitions() });
    this.#engine = engine;
    this.overview = new RedisOverview({ ...options, engine, keys });
    this.#feed = new Feed({ ...options, target, keys, engine });
    this.#reader = new Reader({ engine, keys, partitionOf: this.#partitionOf, ttlMs: options.ttlMs });
    this.#sweeper = new Sweeper({
      ...options,
      engine,
      keys,
      sweeps: options.sweeps ?? true,
      onDataGone: (partitions) => this.#restore(partitions),
    });
    engine.onMoved(() => this.#feed.settle());
    engine.onAvailable((partitions) => this.#resume(partitions));
  }

  get available(): boolean {
    return this.#engine.available;
  }

  /** @throws PresenceError INTERNAL if Redis is too old, of another mode than the URL says, or holds the data of servers with other PARTITIONS */
  async start(): Promise<void> {
    await this.#engine.start();
    if (!this.#engine.available) {
      this.#options.log.warn('redis is not reachable yet: calls fail with REDIS_ERROR until it is');
    }
    this.#feed.start();
    this.#sweeper.start();
    this.#renewTimer = setInterval(() => this.#renewConnections(), this.#options.ttlMs / 2);
  }

  async stop(): Promise<void> {
    clearInterval(this.#renewTimer);
    await this.#sweeper.stop();
    this.#feed.stop();
    this.#engine.stop();
  }

  async setOnline(userId: string, activity: Activity | null): Promise<UserState> {
    return decodeState((await this.#light(userId, activity, causeNumber('SET'))) as string);
  }

  async setOffline(userId: string): Promise<UserState> {
    const line = await this.#run<string>(
      userId,
      scripts.putOut,
      [],
      [this.#ttl, String(this.#options.lastSeenTtlMs)],
    );
    return decodeState(line);
  }

  async heartbeat(userId: string): Promise<boolean> {
    const status = await this.#engine.command<string | null>(this.#partitionOf(userId), [
      'GETEX',
      this.#keys.status(userId),
      'PX',
      this.#ttl,
    ]);
    if (status === 'online') return true;
    return (await this.#light(userId, null, causeNumber('HEARTBEAT'))) !== null;
  }

  read(userIds: readonly string[]): Promise<UserState[]> {
    return this.#reader.read(userIds);
  }

  async openConnection(userId: string, connectionId: string): Promise<void> {
    this.#openConnections.set(connectionId, userId);
    await this.#renewConnection(userId, connectionId);
  }

  async closeConnection(userId: string, connectionId: string): Promise<void> {
    this.#openConnections.delete(connectionId);
    this.#unclosedConnections.set(connectionId, userId);
    await this.#run(
      userId,
      scripts.connectionClose,
      [this.#keys.connections(userId)],
      [connectionId, String(this.#options.disconnectGraceMs), String(this.#options.lastSeenTtlMs)],
    );
    this.#unclosedConnections.delete(connectionId);
  }

  onFeed(listener: FeedListener): void {
    this.#feed.onFeed(listener);
  }

  follow(partition: number): Promise<void> {
    return this.#feed.follow(partition);
  }

  unfollow(partition: number): void {
    this.#feed.unfollow(partition);
  }

  isCurrent(partition: number): boolean {
    return this.#feed.isCurrent(partition);
  }

  /** Sizes of everything that could leak and counts of what went wrong, for tests and metrics. */
  stats(): RedisStoreStats {
    return {
      ...this.#engine.stats(),
      ...this.#feed.stats(),
      ...this.#sweeper.stats(),
      dataGone: this.#dataGone,
      openConnections: this.#openConnections.size,
      unclosedConnections: this.#unclosedConnections.size,
    };
  }

  #light(userId: string, activity: Activity | null, cause: string): Promise<string | null> {
    return this.#run<string | null>(userId, scripts.light, [], [this.#ttl, activityNumber(activity), cause]);
  }

  /**
   * Runs a script that may change a user. KEYS are status, meta, deadlines, log and seq, then `moreKeys`; ARGV are the
   * user and the partition's channel, then `args`.
   */
  #run<Reply>(
    userId: string,
    script: Script,
    moreKeys: readonly string[],
    args: readonly string[],
  ): Promise<Reply> {
    const keys = this.#keys;
    const partition = this.#partitionOf(userId);
    return this.#engine.run<Reply>(
      partition,
      script,
      [
        keys.status(userId),
        keys.meta(userId),
        keys.deadlines(partition),
        keys.log(partition),
        keys.seq(partition),
        ...moreKeys,
      ],
      [userId, keys.channel(partition), ...args],
    );
  }

  async #renewConnection(userId: string, connectionId: string): Promise<void> {
    await this.#run(
      userId,
      scripts.connectionOpen,
      [this.#keys.connections(userId)],
      [connectionId, this.#ttl],
    );
  }

  /** Redis answers again, the same or another: nobody knows what it missed. */
  #resume(partitions: readonly number[]): void {
    this.#feed.verifyNow(partitions);
    this.#renewConnections(new Set(partitions));
  }

  /** Redis lost these partitions' data: what this node vouches for is written again at once. */
  #restore(partitions: readonly number[]): void {
    const { log } = this.#options;
    this.#dataGone += partitions.length;
    log.warn(
      { partitions: partitions.length },
      'redis came back without its data: connections are written again, users come back with their heartbeats',
    );
    if (partitions.includes(0)) {
      const args = ['SET', this.#keys.partitions(), String(this.#options.partitions), 'NX'];
      this.#engine
        .command(0, args)
        .catch((error: unknown) => log.debug({ err: error }, 'PARTITIONS not written'));
    }
    this.#resume(partitions);
  }

  /** Takes back connections that closed, and renews those that are open; of all partitions, or of some. */
  #renewConnections(partitions?: ReadonlySet<number>): void {
    const failed = (error: unknown) =>
      this.#options.log.debug({ err: error }, 'connection not renewed or closed; the next round tries again');
    const isMeant = (userId: string) => partitions?.has(this.#partitionOf(userId)) ?? true;
    for (const [connectionId, userId] of this.#unclosedConnections) {
      if (isMeant(userId)) this.closeConnection(userId, connectionId).catch(failed);
    }
    for (const [connectionId, userId] of this.#openConnections) {
      if (isMeant(userId)) this.#renewConnection(userId, connectionId).catch(failed);
    }
  }
}
