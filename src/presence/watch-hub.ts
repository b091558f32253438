import { partitionOf } from '../core/partition.ts';
import type { UserState } from '../core/presence.ts';
import { insider, stranger, type Viewer } from '../core/sight.ts';
import type { FeedListener, PresenceStore, PrivacyNews } from '../core/store.ts';
import type { Log } from '../observe/log.ts';
import { Histogram } from '../observe/measure.ts';
import type { Tracing } from '../observe/tracing.ts';
import { tellApart } from './private-fan-out.ts';
import { Reloads } from './reloads.ts';
import { isSeenAlike, isSeenSame, Sights, type SightsOptions } from './sights.ts';
import {
  isPrivacyKnown,
  isUpToDate,
  Subscription,
  type WatchEvent,
  type WatchedPartition,
  type WatchedUser,
  type WatchRegistry,
  type WatchSink,
  watchersToldInTurn,
} from './subscription.ts';

export interface WatchHubOptions extends SightsOptions {
  readonly store: PresenceStore;
  readonly partitions: number;
  /** Most users that one subscription may watch. */
  readonly maxWatchedUsers: number;
  /** Length of a lease: for how long an engine that lost data is not believed that a user is OFFLINE. */
  readonly ttlMs: number;
  readonly log: Log;
  /** Who is told of fan-outs, besides the metrics; default: nobody. */
  readonly tracing?: Tracing;
}

export interface HubStats {
  /** Users that somebody watches here. */
  readonly users: number;
  /** Partitions of these users. */
  readonly partitions: number;
  /** Open subscriptions. */
  readonly subscriptions: number;
  /** Pairs of a subscription and a user that it watches. */
  readonly watches: number;
  /** Steps left out for watchers that were too slow. */
  readonly conflated: number;
  /** How often the feed lost track of a watched partition. */
  readonly losses: number;
  /** Partitions being read afresh because of it. */
  readonly reloading: number;
  /** From the arrival of transitions until they were written to every watcher's socket, seconds. */
  readonly fanOut: Histogram;
}

/** Last seen of an ONLINE user moves with every heartbeat, unseen by the feed: how old it may be in an answer, ms. */
const lastSeenStaleMs = 1000;

/**
 * Who watches whom on this node. A watched user's state is held once, kept true by the store's feed, and fanned out:
 * first a snapshot, then every change, in order, without duplicates. A watcher that is full gets, when it drains, the
 * latest state of each user that changed meanwhile: what is kept for it never exceeds its watch list.
 */
export class WatchHub implements FeedListener, WatchRegistry {
  readonly sights: Sights;
  readonly #options: WatchHubOptions;
  readonly #reloads: Reloads;
  readonly #users = new Map<string, WatchedUser>();
  readonly #partitions = new Map<number, WatchedPartition>();
  /** Partitions whose feed is asked for, or comes. */
  readonly #following = new Map<number, Promise<void>>();
  /** From the arrival of a transition until it was written to every watcher's socket, seconds. */
  readonly #fanOut = new Histogram();
  #fanOutBeganMs: number | undefined;
  #fanOutOffers = 0;
  #onTransitions: ((states: readonly UserState[]) => void) | undefined;
  #subscriptions = 0;
  #watches = 0;
  #conflated = 0;
  #losses = 0;

  constructor(options: WatchHubOptions) {
    this.#options = options;
    this.sights = new Sights(options);
    this.#reloads = new Reloads({ ...options, adopt: (user, state) => this.#adopt(user, state) });
    options.store.onFeed(this);
  }

  /** Opens an empty subscription. Close it when its sink is gone. */
  subscribe(sink: WatchSink, viewer: Viewer = stranger): Subscription {
    this.#subscriptions++;
    return new Subscription(this, sink, this.#options.maxWatchedUsers, viewer);
  }

  /** Whom to show the transitions of all followed partitions, watched users or not. Must not throw. */
  onTransitions(listener: (states: readonly UserState[]) => void): void {
    this.#onTransitions = listener;
  }

  /** Follows every partition for good. Rejects with REDIS_ERROR where it cannot; asking again is harmless. */
  async followAll(): Promise<void> {
    const partitions = Array.from({ length: this.#options.partitions }, (_, partition) => partition);
    await Promise.all(partitions.map((partition) => this.#follow(partition)));
  }

  /** No fresh read is begun any more. */
  stop(): void {
    this.#reloads.stop();
  }

  /** Sizes of everything that could leak, for tests and metrics. */
  stats(): HubStats {
    return {
      users: this.#users.size,
      partitions: this.#partitions.size,
      subscriptions: this.#subscriptions,
      watches: this.#watches,
      conflated: this.#conflated,
      losses: this.#losses,
      reloading: this.#reloadingPartitions(),
      fanOut: this.#fanOut,
    };
  }

  /**
   * What is known here of a watched user, true but for the last few seconds at most; undefined = ask the store. Whether the store
   * is asked goes by what the viewer sees: how long it takes must not tell who hides.
   */
  stateOf(userId: string, viewer = insider): UserState | undefined {
    const user = this.#users.get(userId);
    if (!user?.state || user.partition.reloading || !isUpToDate(user)) return undefined;
    if (!this.#options.store.isCurrent(user.partition.number)) return undefined;
    const isLastSeenOld =
      user.state.status === 'ONLINE' &&
      performance.now() - user.readAtMs > lastSeenStaleMs &&
      this.sights.of(viewer, user.state, false).status === 'ONLINE';
    return isLastSeenOld && user.doubtedUntilMs === 0 ? undefined : user.state;
  }

  written(userId: string, version: number): void {
    const user = this.#users.get(userId);
    if (user) user.writtenVersion = Math.max(user.writtenVersion, version);
  }

  /** Takes note of a state that was read for a query: its last seen may be newer. */
  noteRead(state: UserState): void {
    const user = this.#users.get(state.userId);
    if (!user?.isFresh || user.state?.version !== state.version) return;
    if (user.state.privacy?.version !== state.privacy?.version) return;
    user.state = state;
    user.readAtMs = performance.now();
  }

  *known(partition: number): Iterable<UserState> {
    for (const { state } of this.#partitions.get(partition)?.users ?? []) if (state) yield state;
  }

  transitions(states: readonly UserState[]): void {
    for (const state of states) this.take(state);
    this.#onTransitions?.(states);
  }

  /** Takes a transition, of the feed or, before it, of a caller of this node. */
  take(state: UserState): void {
    const user = this.#users.get(state.userId);
    if (!user || (user.isFresh && user.state !== undefined && state.version <= user.state.version)) return;
    this.#timeFanOut();
    if (user.state !== undefined && isPrivacyKnown(user) && user.isFresh) {
      this.#settle(user, withPrivacyOf(user.state, state));
      return;
    }
    user.held = state;
    // Privacy may have changed in what was missed.
    if (user.state !== undefined && isPrivacyKnown(user)) this.privacyChanged(user.userId);
  }

  privacyChanged(userId: string, news?: PrivacyNews): void {
    const user = this.#users.get(userId);
    if (!user) return;
    const isReading = user.state === undefined || !isPrivacyKnown(user);
    if (!isReading && news?.version === user.privacyVersion) return;
    user.privacyChanges++;
    // Whoever is reading looks again.
    if (isReading) return;
    this.#timeFanOut();
    if (news && this.#takePrivacy(user, news)) return;
    this.#readStates([user]).catch((error: unknown) => {
      this.later(error);
      this.lost(user.partition.number);
    });
  }

  /** Without asking the engine, where it is the privacy of the very state that is known here: another would show too much. */
  #takePrivacy(user: WatchedUser, { version, stateVersion, privacy }: PrivacyNews): boolean {
    const { state } = user;
    if (!state || !user.isFresh || user.doubtedUntilMs !== 0) return false;
    if (state.version !== stateVersion || version < user.privacyVersion) return false;
    user.privacyVersion = version;
    user.knownPrivacyChanges = user.privacyChanges;
    const { privacy: _before, ...rest } = state;
    this.#change(user, privacy ? { ...rest, privacy } : rest);
    return true;
  }

  lost(partition: number): void {
    const watched = this.#partitions.get(partition);
    if (!watched) return;
    this.#losses++;
    this.#reloads.lost(watched);
  }

  /** Registers a watch. Its first state comes with `load`. */
  add(subscription: Subscription, userId: string): WatchedUser {
    let user = this.#users.get(userId);
    if (!user) {
      const partition = this.#partition(partitionOf(userId, this.#options.partitions));
      user = {
        userId,
        partition,
        state: undefined,
        held: undefined,
        privacyChanges: 0,
        knownPrivacyChanges: 0,
        privacyVersion: 0,
        toldAtMs: 0,
        faceTimer: undefined,
        watchers: new Set(),
        loading: undefined,
        isFresh: true,
        doubtedUntilMs: 0,
        readAtMs: 0,
        writtenVersion: 0,
      };
      this.#users.set(userId, user);
      partition.users.add(user);
    }
    user.watchers.add(subscription);
    this.#watches++;
    return user;
  }

  remove(subscription: Subscription, user: WatchedUser): void {
    if (!user.watchers.delete(subscription)) return;
    this.#watches--;
    if (user.watchers.size > 0) return;
    this.#users.delete(user.userId);
    clearTimeout(user.faceTimer);
    const { partition } = user;
    partition.users.delete(user);
    if (partition.users.size > 0) return;
    this.#partitions.delete(partition.number);
    clearTimeout(partition.doubtTimer);
    if (this.#onTransitions) return;
    this.#following.delete(partition.number);
    this.#options.store.unfollow(partition.number);
  }

  /** Resolves when every user's state is up to date and its feed followed. Reads under way are shared. */
  async load(users: readonly WatchedUser[]): Promise<void> {
    const unloaded = users.filter((user) => !isUpToDate(user) && !user.loading);
    if (unloaded.length > 0) {
      const loading = this.#read(unloaded);
      for (const user of unloaded) user.loading = loading;
    }
    await Promise.all(new Set(users.map((user) => user.loading)));
  }

  countConflated(): void {
    this.#conflated++;
  }

  countClosed(): void {
    this.#subscriptions--;
  }

  later(error: unknown): void {
    this.#options.log.debug({ err: error }, 'privacy not read yet');
  }

  /** Sockets are written in the turns of the event loop after this one, so many in each; then the fan-out is over. */
  #timeFanOut(): void {
    if (this.#fanOutBeganMs !== undefined) return;
    const beganMs = performance.now();
    this.#fanOutBeganMs = beganMs;
    this.#fanOutOffers = 0;
    let turns = 0;
    const turn = () => {
      if (turns++ * watchersToldInTurn < this.#fanOutOffers) {
        setImmediate(turn);
        return;
      }
      this.#fanOut.observeSince(beganMs);
      this.#options.tracing?.report('fan-out', beganMs, { 'pilotlight.watches': this.#watches });
      this.#fanOutBeganMs = undefined;
    };
    setImmediate(turn);
  }

  #reloadingPartitions(): number {
    let reloading = 0;
    for (const partition of this.#partitions.values()) if (partition.reloading) reloading++;
    return reloading;
  }

  #partition(number: number): WatchedPartition {
    let partition = this.#partitions.get(number);
    if (!partition) {
      partition = { number, users: new Set(), reloading: false, losses: 0, doubtTimer: undefined };
      this.#partitions.set(number, partition);
    }
    return partition;
  }

  async #read(users: readonly WatchedUser[]): Promise<void> {
    try {
      await Promise.all(
        [...new Set(users.map((user) => user.partition.number))].map((it) => this.#follow(it)),
      );
      await this.#readStates(users);
    } finally {
      for (const user of users) user.loading = undefined;
    }
    // The feed lost track while these were read, so the read may have been too early.
    for (const user of users) if (!user.isFresh) this.lost(user.partition.number);
  }

  /** Until each is what it is by now: privacy may change while it is read, and callers of this node may write. */
  async #readStates(users: readonly WatchedUser[]): Promise<void> {
    let left = users;
    while (left.length > 0) {
      const before = left.map(({ privacyChanges, writtenVersion }) => ({ privacyChanges, writtenVersion }));
      const states = await this.#options.store.read(left.map((user) => user.userId));
      left = left.filter((user, index) => {
        const { privacyChanges, writtenVersion } = before[index] as (typeof before)[0];
        const state = states[index] as UserState;
        const isBehind = user.writtenVersion !== writtenVersion && state.version < user.writtenVersion;
        if (isBehind || user.privacyChanges !== privacyChanges) return true;
        this.#adopt(user, state);
        return false;
      });
    }
  }

  /** One follow serves all watches of a partition; a failed one is tried again by the next. */
  #follow(partition: number): Promise<void> {
    let following = this.#following.get(partition);
    if (!following) {
      following = this.#options.store.follow(partition).catch((error: unknown) => {
        this.#following.delete(partition);
        throw error;
      });
      this.#following.set(partition, following);
    }
    return following;
  }

  /** Takes a state that was read, unless the feed has brought a newer one, or the engine is not to be believed. */
  #adopt(user: WatchedUser, read: UserState): void {
    const { state, held } = user;
    const isAwaited = !isPrivacyKnown(user);
    user.held = undefined;
    user.knownPrivacyChanges = user.privacyChanges;
    user.privacyVersion = Math.max(user.privacyVersion, read.privacy?.version ?? 0);
    if (state === undefined) this.#change(user, read);
    else if (user.isFresh && read.version <= state.version) {
      // One that nobody waits for can be older than what is known.
      const isNewer = (read.privacy?.version ?? 0) > (state.privacy?.version ?? 0);
      if ((isAwaited || isNewer) && read.privacy !== state.privacy)
        this.#change(user, withPrivacyOf(read, state));
    } else if (!this.#reloads.isDoubtful(user, state, read)) this.#settle(user, read);
    else if (read.privacy && read.privacy !== state.privacy)
      this.#change(user, withPrivacyOf(read, state), isSeenAlike);
    if (held && user.state && held.version > user.state.version)
      this.#settle(user, withPrivacyOf(user.state, held));
  }

  /** What comes after a loss may be no news to watchers. */
  #settle(user: WatchedUser, state: UserState): void {
    const isAfterLoss = !user.isFresh;
    const isNews =
      !isAfterLoss ||
      user.state === undefined ||
      user.state.privacy !== state.privacy ||
      !isSeenAlike(user.state, state);
    user.isFresh = true;
    user.doubtedUntilMs = 0;
    if (isNews) {
      this.#change(user, state, isAfterLoss ? isSeenAlike : isSeenSame);
      return;
    }
    user.state = state;
    user.readAtMs = performance.now();
  }

  /** @param isOld whether a viewer of a user with privacy, who sees the one now, is told of the other: not of what looks like it */
  #change(user: WatchedUser, state: UserState, isOld = isSeenSame): void {
    const before = user.state;
    user.state = state;
    user.readAtMs = performance.now();
    this.#fanOutOffers += user.watchers.size;
    if (before?.privacy || state.privacy) {
      tellApart(this.sights, user, before, state, isOld);
      return;
    }
    const event: WatchEvent = { state, snapshot: false };
    for (const watcher of user.watchers) watcher.offer(user, event);
  }
}

function withPrivacyOf({ privacy }: UserState, state: UserState): UserState {
  if (privacy === state.privacy) return state;
  const { privacy: _old, ...rest } = state;
  return privacy ? { ...rest, privacy } : rest;
}
