import { PresenceError } from '../../core/errors.ts';
import { partitionOf } from '../../core/partition.ts';
import type { Activity, LeasePolicy, UserState } from '../../core/presence.ts';
import type { FeedListener, PresenceStore } from '../../core/store.ts';
import type { Log } from '../../observe/log.ts';
import { Feed } from './feed.ts';
import { keys } from './keys.ts';
import { RedisConnection } from './redis-connection.ts';
import { scripts } from './scripts.ts';
import { activityNumber, causeNumber, decodeState } from './state-line.ts';
import { Sweeper } from './sweeper.ts';

export interface RedisStoreOptions extends LeasePolicy {
  readonly url: string;
  readonly timeoutMs: number;
  readonly partitions: number;
  readonly lastSeenTtlMs: number;
  /** Unique among running nodes. */
  readonly nodeId: string;
  readonly log: Log;
  /** Whether this node judges leases; default true. false is for tests that want them unjudged. */
  readonly sweeps?: boolean;
}

/** Users read by one script call: about 1 ms of Redis. */
const readBatchUsers = 500;

/** The engine that many servers share. Each method is one command or one script; lua/ says what they do. */
export class RedisStore implements PresenceStore {
  readonly #options: RedisStoreOptions;
  readonly #connection: RedisConnection;
  readonly #feed: Feed;
  readonly #sweeper: Sweeper;
  /** Connections of this node's users, which it renews while they are open. */
  readonly #openConnections = new Map<string, string>();
  /** Connections that closed while Redis was away; taken back when it answers. */
  readonly #unclosedConnections = new Map<string, string>();
  #renewTimer: NodeJS.Timeout | undefined;
  readonly #ttl: string;

  constructor(options: RedisStoreOptions) {
    this.#options = options;
    this.#ttl = String(options.ttlMs);
    this.#connection = new RedisConnection(options);
    this.#feed = new Feed({ url: options.url, log: options.log, commands: this.#connection });
    this.#sweeper = new Sweeper({ ...options, connection: this.#connection });
  }

  get available(): boolean {
    return this.#connection.available;
  }

  /** @throws PresenceError INTERNAL if Redis holds the data of servers with other PARTITIONS */
  async start(): Promise<void> {
    await this.#connection.start();
    if (this.#connection.available) await this.#checkPartitions();
    else this.#options.log.warn('redis is not reachable yet: calls fail with REDIS_ERROR until it is');
    this.#feed.start();
    if (this.#options.sweeps ?? true) this.#sweeper.start();
    this.#renewTimer = setInterval(() => this.#renewConnections(), this.#options.ttlMs / 2);
  }

  async stop(): Promise<void> {
    clearInterval(this.#renewTimer);
    await this.#sweeper.stop();
    this.#feed.stop();
    await this.#connection.stop();
  }

  async setOnline(userId: string, activity: Activity | null): Promise<UserState> {
    return decodeState((await this.#light(userId, activity, causeNumber('SET'))) as string);
  }

  async setOffline(userId: string): Promise<UserState> {
    const partition = this.#partitionOf(userId);
    const line = await this.#connection.run<string>(
      scripts.putOut,
      [
        keys.status(userId),
        keys.meta(userId),
        keys.deadlines(partition),
        keys.log(partition),
        keys.seq(partition),
      ],
      [userId, this.#ttl, String(this.#options.lastSeenTtlMs), keys.channel(partition)],
    );
    return decodeState(line);
  }

  async heartbeat(userId: string): Promise<boolean> {
    const status = await this.#connection.command<string | null>([
      'GETEX',
      keys.status(userId),
      'PX',
      this.#ttl,
    ]);
    if (status === 'online') return true;
    return (await this.#light(userId, null, causeNumber('HEARTBEAT'))) !== null;
  }

  async read(userIds: readonly string[]): Promise<UserState[]> {
    const batches: Promise<(string | null)[]>[] = [];
    for (let start = 0; start < userIds.length; start += readBatchUsers) {
      const users = userIds.slice(start, start + readBatchUsers);
      const userKeys = users.flatMap((userId) => [
        keys.status(userId),
        keys.meta(userId),
        keys.deadlines(this.#partitionOf(userId)),
      ]);
      batches.push(this.#connection.run<(string | null)[]>(scripts.read, userKeys, [this.#ttl, ...users]));
    }
    const lines = (await Promise.all(batches)).flat();
    return userIds.map((userId, index) => {
      const line = lines[index];
      return line == null ? unknownState(userId) : decodeState(line);
    });
  }

  async openConnection(userId: string, connectionId: string): Promise<void> {
    this.#openConnections.set(connectionId, userId);
    await this.#renewConnection(userId, connectionId);
  }

  async closeConnection(userId: string, connectionId: string): Promise<void> {
    this.#openConnections.delete(connectionId);
    this.#unclosedConnections.set(connectionId, userId);
    const partition = this.#partitionOf(userId);
    await this.#connection.run(
      scripts.connectionClose,
      [
        keys.connections(userId),
        keys.status(userId),
        keys.meta(userId),
        keys.deadlines(partition),
        keys.log(partition),
        keys.seq(partition),
      ],
      [
        userId,
        connectionId,
        String(this.#options.disconnectGraceMs),
        String(this.#options.lastSeenTtlMs),
        keys.channel(partition),
      ],
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

  #partitionOf(userId: string): number {
    return partitionOf(userId, this.#options.partitions);
  }

  #light(userId: string, activity: Activity | null, cause: string): Promise<string | null> {
    const partition = this.#partitionOf(userId);
    return this.#connection.run<string | null>(
      scripts.light,
      [
        keys.status(userId),
        keys.meta(userId),
        keys.deadlines(partition),
        keys.log(partition),
        keys.seq(partition),
      ],
      [userId, this.#ttl, activityNumber(activity), cause, keys.channel(partition)],
    );
  }

  async #renewConnection(userId: string, connectionId: string): Promise<void> {
    await this.#connection.run(
      scripts.connectionOpen,
      [keys.connections(userId), keys.meta(userId)],
      [connectionId, this.#ttl],
    );
  }

  #renewConnections(): void {
    const failed = (error: unknown) =>
      this.#options.log.debug({ err: error }, 'connection not renewed or closed; the next round tries again');
    for (const [connectionId, userId] of this.#unclosedConnections) {
      this.closeConnection(userId, connectionId).catch(failed);
    }
    for (const [connectionId, userId] of this.#openConnections) {
      this.#renewConnection(userId, connectionId).catch(failed);
    }
  }

  async #checkPartitions(): Promise<void> {
    const own = String(this.#options.partitions);
    await this.#connection.command(['SET', keys.partitions(), own, 'NX']);
    const stored = await this.#connection.command<string | null>(['GET', keys.partitions()]);
    if (stored !== own) {
      throw new PresenceError(
        'INTERNAL',
        `this Redis holds data in ${stored} partitions; start with PARTITIONS=${stored}, not ${own}`,
      );
    }
  }
}

function unknownState(userId: string): UserState {
  return {
    userId,
    status: 'OFFLINE',
    activity: null,
    cause: null,
    sinceMs: 0,
    changedAtMs: 0,
    lastSeenMs: 0,
    version: 0,
  };
}
