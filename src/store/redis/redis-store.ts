import type { CustomStatusRequest } from '../../core/custom-status.ts';
import { PresenceError } from '../../core/errors.ts';
import { partitionOf } from '../../core/partition.ts';
import type { Activity, LeasePolicy, UserState } from '../../core/presence.ts';
import type { PrivacyChange } from '../../core/privacy.ts';
import { parseRedisTarget } from '../../core/redis-target.ts';
import type {
  ConnectionOpened,
  ConnectionOpening,
  ConnectionRenewal,
  ConnectionSeen,
  EvictionListener,
  EvictionReason,
  FeedListener,
  PresenceStore,
} from '../../core/store.ts';
import type { Log } from '../../observe/log.ts';
import { Feed, type FeedStats } from './feed.ts';
import { Heartbeats } from './heartbeats.ts';
import { Keys } from './keys.ts';
import { OutsideWrites } from './outside-writes.ts';
import { RedisOverview } from './overview.ts';
import { Privacies } from './privacies.ts';
import { Reader } from './reader.ts';
import { type EngineStats, RedisEngine } from './redis-engine.ts';
import { Renewals } from './renewals.ts';
import { Restorer } from './restorer.ts';
import { RedisRevocations } from './revocations.ts';
import { type Script, scripts } from './scripts.ts';
import { activityNumber, activityOf, causeNumber, decodeStateOf, kindNumber } from './state-line.ts';
import { Sweeper, type SweeperStats } from './sweeper.ts';

export interface RedisStoreOptions extends LeasePolicy {
  /** REDIS_URL: `redis://`, `rediss://`, `redis+sentinel://`, `redis+cluster://`. */
  readonly url: string;
  /** PEM of the authorities that Redis' certificates are signed by; default those that Node trusts. */
  readonly ca?: string | undefined;
  /** A file that holds the password; default: the URL does. Read for every connection. */
  readonly passwordFile?: string | undefined;
  /** Goes before every key; default none. */
  readonly prefix?: string;
  readonly timeoutMs: number;
  readonly partitions: number;
  readonly lastSeenTtlMs: number;
  /** How long entries of the log are kept, ms; default one day. */
  readonly eventLogMaxAgeMs?: number;
  /** Unique among running nodes. */
  readonly nodeId: string;
  readonly log: Log;
  /** Whether this node judges leases; default true. false is for tests that want them unjudged. */
  readonly sweeps?: boolean;
  /** How long nodes have to write back what they know into a Redis that lost its data, ms; default by the TTL. */
  readonly restoreMs?: number;
}

export interface RedisStoreStats extends EngineStats, FeedStats, SweeperStats {
  /** Partitions whose data went, because Redis was emptied or came back without it. */
  readonly dataGone: number;
  /** Writes of status keys that were looked at because Redis told of them, our own included. */
  readonly outsideWrites: number;
}

/** The engine that many servers share. Each method is one command or one script; lua/ says what they do. */
export class RedisStore implements PresenceStore {
  readonly overview: RedisOverview;
  readonly revocations: RedisRevocations;
  readonly #options: RedisStoreOptions;
  readonly #keys: Keys;
  readonly #engine: RedisEngine;
  readonly #feed: Feed;
  readonly #sweeper: Sweeper;
  readonly #reader: Reader;
  readonly #heartbeats: Heartbeats;
  readonly #renewals: Renewals;
  readonly #privacies: Privacies;
  readonly #restorer: Restorer;
  readonly #outsideWrites: OutsideWrites;
  readonly #partitionOf: (userId: string) => number;
  readonly #ttl: string;
  #onEvicted: EvictionListener = () => {};
  #onRenewalWanted: () => void = () => {};
  #dataGone = 0;
  /** What this node knows is being written back, after Redis was away. */
  #resuming: Promise<void> = Promise.resolve();

  constructor(options: RedisStoreOptions) {
    this.#options = options;
    this.#ttl = String(options.ttlMs);
    this.#partitionOf = (userId) => partitionOf(userId, options.partitions);
    const target = { ...parseRedisTarget(options.url), ca: options.ca, passwordFile: options.passwordFile };
    const keys = new Keys({
      prefix: options.prefix ?? '',
      tagged: target.mode === 'cluster',
      partitions: options.partitions,
      partitionOf: this.#partitionOf,
    });
    this.#keys = keys;
    const engine = new RedisEngine({ ...options, target, keys });
    this.#engine = engine;
    this.overview = new RedisOverview({ ...options, engine, keys });
    this.revocations = new RedisRevocations(engine, keys);
    this.#feed = new Feed({
      ...options,
      target,
      keys,
      engine,
      beforeLoss: (partition) => this.#restorer.restore([partition]),
    });
    const epochOf = (partition: number) => this.#sweeper.epochOf(partition);
    const shared = { ...options, engine, keys, partitionOf: this.#partitionOf, epochOf };
    this.#privacies = new Privacies({ ...shared, run: (...call) => this.#run(...call) });
    this.#reader = new Reader({ ...shared, privacies: this.#privacies });
    this.#heartbeats = new Heartbeats(shared);
    this.#renewals = new Renewals({ ...shared, learn: (...marks) => this.#learn(...marks) });
    this.#restorer = new Restorer({
      ...shared,
      privacies: () => this.#privacies.known(),
      watched: (partition) => this.#feed.known(partition),
    });
    this.#sweeper = new Sweeper({
      ...options,
      engine,
      keys,
      sweeps: options.sweeps ?? true,
      onDataGone: (partitions) => this.#restore(partitions),
      onOutage: () => this.#onRenewalWanted(),
      onNote: (note) => this.#takeNote(note),
    });
    this.#outsideWrites = new OutsideWrites({
      target,
      statusPattern: keys.statusPattern,
      userOfStatusKey: (key) => keys.userOfStatusKey(key),
      adopt: (userId) => this.#adopt(userId),
      isMine: (userId) => this.#sweeper.owns(this.#partitionOf(userId)),
      refusals: engine.refusals,
    });
    engine.onMoved(() => {
      this.#feed.settle();
      this.#outsideWrites.listenTo(engine.addresses());
    });
    engine.onAvailable((partitions) => this.#resume(partitions));
  }

  get available(): boolean {
    return this.#engine.available;
  }

  /** Why calls cannot be served, as far as Redis says. */
  get troubles(): readonly string[] {
    const refused = this.#engine.refusalsNow(false);
    const { trouble } = this.#engine;
    if (refused.length > 0 || this.available || trouble === undefined) return refused;
    return [trouble];
  }

  /** What is refused, while the rest is served. */
  get refused(): readonly string[] {
    return this.#engine.refusalsNow(true);
  }

  /** @throws PresenceError INTERNAL if Redis is too old, of another mode than the URL says, or holds the data of servers with other PARTITIONS */
  async start(): Promise<void> {
    await this.#engine.start();
    if (!this.#engine.available) {
      const { trouble } = this.#engine;
      this.#options.log.warn(
        { reason: trouble },
        'redis is not reachable yet: calls fail with REDIS_ERROR until it is',
      );
    }
    this.#feed.start();
    this.#sweeper.start();
  }

  async stop(): Promise<void> {
    this.#outsideWrites.stop();
    await this.#sweeper.stop();
    this.#feed.stop();
    this.#engine.stop();
  }

  async setOnline(userId: string, activity: Activity | null): Promise<UserState> {
    return this.#wrote(userId, await this.#light(userId, activity, causeNumber('SET')));
  }

  async setOffline(userId: string): Promise<UserState> {
    const [line, now] = await this.#run<[string, string]>(
      userId,
      scripts.putOut,
      [],
      [this.#ttl, String(this.#options.lastSeenTtlMs)],
    );
    this.#restorer.note(userId, Number(now), true);
    return this.#wrote(userId, line);
  }

  async heartbeat(userId: string): Promise<boolean> {
    if (await this.#heartbeats.renew(userId)) return true;
    const line = await this.#light(userId, null, causeNumber('HEARTBEAT'));
    if (line === null) return false;
    this.#wrote(userId, line);
    return true;
  }

  read(userIds: readonly string[]): Promise<UserState[]> {
    return this.#reader.read(userIds);
  }

  async connect({ userId, connection, replaces, isResumed }: ConnectionOpening): Promise<ConnectionOpened> {
    const { nodeId, maxConnectionsPerUser } = this.#options;
    const partition = this.#partitionOf(userId);
    const keys = [...this.#connectionKeys(userId), this.#keys.sweeper(partition)];
    const [line, now, since, replaced, evicted, signedOut, privacyVersion] = await this.#run<
      [string | null, string, string, string, string[], string, string]
    >(userId, scripts.connect, keys, [
      this.#ttl,
      connection.connectionId,
      kindNumber(connection.kind),
      connection.device,
      activityNumber(connection.activity),
      nodeId,
      replaces ?? '',
      isResumed ? '1' : '0',
      String(maxConnectionsPerUser),
      this.#sweeper.epochOf(partition),
    ]);
    this.#tellEvicted(evicted, 'REPLACED');
    this.#learn(userId, Number(signedOut), Number(privacyVersion), Number(now));
    return {
      state: this.#wrote(userId, line),
      nowMs: Number(now),
      sinceMs: Number(since),
      replaced: replaced === '1',
    };
  }

  async disconnect(userId: string, connectionId: string): Promise<void> {
    const { disconnectGraceMs, lastSeenTtlMs } = this.#options;
    const line = await this.#run<string | null>(userId, scripts.disconnect, this.#connectionKeys(userId), [
      this.#ttl,
      connectionId,
      String(disconnectGraceMs),
      String(lastSeenTtlMs),
    ]);
    if (line !== null) this.#wrote(userId, line);
  }

  async renewConnections(renewals: readonly ConnectionRenewal[]): Promise<readonly string[]> {
    await this.#resuming;
    return this.#renewals.renew(renewals);
  }

  async setConnectionActivity(userId: string, connectionId: string, activity: Activity): Promise<UserState> {
    const line = await this.#run<string | null>(
      userId,
      scripts.connectionActivity,
      this.#connectionKeys(userId),
      [this.#ttl, connectionId, activityNumber(activity)],
    );
    return this.#wrote(userId, line);
  }

  async readConnections(userId: string): Promise<ConnectionSeen[]> {
    const rows = await this.#engine.run<[string, string, string, string, string, string][]>(
      this.#partitionOf(userId),
      scripts.connectionList,
      this.#connectionKeys(userId),
      [],
    );
    return rows.map(([connectionId, kind, device, activity, since, deadline]) => ({
      connectionId,
      kind: kind === kindNumber('session') ? 'session' : 'stream',
      device,
      activity: activityOf(activity),
      sinceMs: Number(since),
      lastSeenMs: Number(deadline) - this.#options.ttlMs,
    }));
  }

  async setCustomStatus(userId: string, { text, emoji, lifeMs }: CustomStatusRequest): Promise<UserState> {
    const line = await this.#run<string | null>(
      userId,
      scripts.customStatus,
      [this.#keys.returns(this.#partitionOf(userId))],
      [this.#ttl, String(this.#options.lastSeenTtlMs), String(lifeMs), text, emoji],
    );
    return this.#wrote(userId, line);
  }

  setPrivacy(userId: string, change: PrivacyChange): Promise<UserState> {
    return this.#privacies.change(userId, change);
  }

  async deleteUser(userId: string): Promise<UserState> {
    const [line, connections] = await this.#run<[string | null, string[]]>(
      userId,
      scripts.delete,
      [
        ...this.#connectionKeys(userId),
        this.#keys.privacy(userId),
        this.#keys.returns(this.#partitionOf(userId)),
      ],
      [this.#ttl],
    );
    this.#tellEvicted(connections, 'DELETED');
    this.#forget(userId);
    await this.#leaveNote(await this.#nodes(), { kind: 'forget', id: userId });
    return this.#wrote(userId, line);
  }

  onEvicted(listener: EvictionListener): void {
    this.#onEvicted = listener;
  }

  onRenewalWanted(listener: () => void): void {
    this.#onRenewalWanted = listener;
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

  /**
   * Which of these are in a set that the application keeps. An empty set is taken for lost data, not for an application
   * without users.
   *
   * @throws PresenceError REDIS_ERROR
   */
  async membersAmong(setKey: string, members: readonly string[]): Promise<Set<string>> {
    const key = this.#keys.directory(setKey);
    const flags = await this.#engine.command<number[]>(0, ['SMISMEMBER', key, ...members]);
    const found = new Set(members.filter((_, index) => flags[index] === 1));
    if (found.size === 0 && (await this.#engine.command<number>(0, ['EXISTS', key])) === 0) {
      throw new PresenceError('REDIS_ERROR', `the set ${key} is empty, or not there`);
    }
    return found;
  }

  /** Sizes of everything that could leak and counts of what went wrong, for tests and metrics. */
  stats(): RedisStoreStats {
    return {
      ...this.#engine.stats(),
      ...this.#feed.stats(),
      ...this.#sweeper.stats(),
      dataGone: this.#dataGone,
      outsideWrites: this.#outsideWrites.noticed,
    };
  }

  /** The state that a write answers, once this node's readers know that there is one so new. */
  #wrote(userId: string, line: string | null): UserState {
    const state = decodeStateOf(userId, line);
    this.#feed.written(state);
    const { status, sinceMs, changedAtMs } = state;
    if (status === 'ONLINE' && sinceMs === changedAtMs) this.#restorer.note(userId, sinceMs, false);
    return state;
  }

  /** What the engine knows of a user with a connection here, in case that it loses it. */
  #learn(userId: string, signedOutMs: number, privacyVersion: number, nowMs: number): void {
    if (signedOutMs > 0) this.#restorer.note(userId, signedOutMs, true);
    if (privacyVersion === 0) {
      this.#privacies.absent(userId, nowMs * 1000);
      return;
    }
    this.#privacies
      .read(userId, privacyVersion)
      .catch((error: unknown) => this.#options.log.debug({ err: error }, 'privacy not read yet'));
  }

  async #adopt(userId: string): Promise<void> {
    const { lastSeenTtlMs } = this.#options;
    await this.#run(userId, scripts.adopt, this.#connectionKeys(userId), [this.#ttl, String(lastSeenTtlMs)]);
  }

  #light(userId: string, activity: Activity | null, cause: string): Promise<string | null> {
    const partition = this.#partitionOf(userId);
    const keys = [...this.#connectionKeys(userId), this.#keys.sweeper(partition)];
    return this.#run<string | null>(userId, scripts.light, keys, [
      this.#ttl,
      activityNumber(activity),
      cause,
      this.#sweeper.epochOf(partition),
    ]);
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

  #connectionKeys(userId: string): string[] {
    return [this.#keys.connections(userId), this.#keys.details(userId)];
  }

  /** Tells the nodes of connections that are to be closed; should that fail, they learn it when they renew. */
  #tellEvicted(evicted: readonly string[], reason: EvictionReason): void {
    for (let i = 0; i < evicted.length; i += 2) {
      const [nodeId, id] = evicted.slice(i, i + 2) as [string, string];
      if (nodeId === this.#options.nodeId) this.#onEvicted(id, reason);
      else {
        this.#leaveNote([nodeId], { kind: reason, id }).catch((error: unknown) =>
          this.#options.log.debug({ err: error }, 'eviction not passed on'),
        );
      }
    }
  }

  async #nodes(): Promise<string[]> {
    return this.#engine.command<string[]>(0, ['ZRANGE', this.#keys.nodes(), '0', '-1']);
  }

  /** Rejects with REDIS_ERROR. */
  async #leaveNote(nodeIds: readonly string[], { kind, id }: Note): Promise<void> {
    await Promise.all(
      nodeIds.map(async (nodeId) => {
        const key = this.#keys.evicted(nodeId);
        await this.#engine.command(0, ['RPUSH', key, `${kind} ${id}`]);
        await this.#engine.command(0, ['PEXPIRE', key, String(noteLifeMs)]);
      }),
    );
  }

  #takeNote(note: string): void {
    const space = note.indexOf(' ');
    const [kind, id] = [note.slice(0, space) as Note['kind'], note.slice(space + 1)];
    if (kind === 'forget') this.#forget(id);
    else this.#onEvicted(id, kind === 'DELETED' ? kind : 'REPLACED');
  }

  #forget(userId: string): void {
    this.#privacies.forget(userId);
    this.#restorer.forget(userId);
  }

  /** Redis answers again, the same or another: what this node knows goes back before anything is renewed or shown by it. */
  #resume(partitions: readonly number[]): void {
    this.#resuming = this.#restorer
      .restore(partitions)
      .catch((error: unknown) => this.#options.log.debug({ err: error }, 'not all written back yet'))
      .then(() => {
        this.#feed.verifyNow(partitions);
        this.#onRenewalWanted();
      });
  }

  /** Redis lost these partitions' data. Rejects with REDIS_ERROR: not all that this node knows was written back. */
  async #restore(partitions: readonly number[]): Promise<void> {
    const { log } = this.#options;
    await this.#restorer.restore(partitions);
    this.#dataGone += partitions.length;
    log.warn(
      { partitions: partitions.length },
      'redis came back without its data: privacy, sign-outs and connections are written again, users come back with their heartbeats',
    );
    if (partitions.includes(0)) {
      const args = ['SET', this.#keys.partitions(), String(this.#options.partitions), 'NX'];
      this.#engine
        .command(0, args)
        .catch((error: unknown) => log.debug({ err: error }, 'PARTITIONS not written'));
    }
    this.#feed.verifyNow(partitions);
    this.#onRenewalWanted();
  }
}

/** What one node leaves for another: a connection to be closed, or a user to be forgotten. */
interface Note {
  readonly kind: EvictionReason | 'forget';
  readonly id: string;
}

/** How long a node may take to fetch what was left for it, ms. */
const noteLifeMs = 60_000;
