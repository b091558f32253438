import { PresenceError } from '../core/errors.ts';
import type { UserState } from '../core/presence.ts';
import type { Viewer } from '../core/sight.ts';
import type { Sights } from './sights.ts';

/** What a watcher is told. One object serves all watchers of a change, so that it can be encoded once. */
export interface WatchEvent {
  readonly state: UserState;
  /** The state when the watch began, rather than a change. */
  readonly snapshot: boolean;
}

/** To how many watchers is written in one turn of the event loop, about 5 ms; the gRPC server's outbox has the same. */
export const watchersToldInTurn = 512;

/** Where a watcher's events go: a stream, a socket. */
export interface WatchSink {
  /** Takes an event. false: it is full now, and wants no more until `Subscription.drained` is called. */
  send(event: WatchEvent): boolean;
}

/** A user whom somebody on this node watches. */
export interface WatchedUser {
  readonly userId: string;
  readonly partition: WatchedPartition;
  /** The latest known, with privacy; undefined until the first read. */
  state: UserState | undefined;
  /** A transition that waits for the read that tells whom it may be shown to. */
  held: UserState | undefined;
  /** How often privacy was said to have changed, and how often when what is known was read. */
  privacyChanges: number;
  knownPrivacyChanges: number;
  /** Of the latest change of privacy that is known; 0: of none. */
  privacyVersion: number;
  /** When watchers were last told what they see, where privacy decides that; Unix ms. */
  toldAtMs: number;
  faceTimer: NodeJS.Timeout | undefined;
  readonly watchers: Set<Subscription>;
  /** The read that will bring the first state. */
  loading: Promise<void> | undefined;
  /** Whether the state came after the feed last lost track. */
  isFresh: boolean;
  /** Until when the engine, which lost data, is not believed that the user is OFFLINE; 0 = it is. */
  doubtedUntilMs: number;
  /** When the engine said this state. */
  readAtMs: number;
  /** Version that a caller of this node knows of, because it wrote it. */
  writtenVersion: number;
}

/** The watched users of a partition. */
export interface WatchedPartition {
  readonly number: number;
  readonly users: Set<WatchedUser>;
  /** A fresh read is under way because the feed lost track. */
  reloading: boolean;
  /** How often it did. */
  losses: number;
  doubtTimer: NodeJS.Timeout | undefined;
}

/** What a subscription asks of the hub. */
export interface WatchRegistry {
  readonly sights: Sights;
  /** Registers a watch. Its first state comes with `load`. */
  add(subscription: Subscription, userId: string): WatchedUser;
  remove(subscription: Subscription, user: WatchedUser): void;
  /** Resolves when every user's state is up to date and its feed followed. Rejects with REDIS_ERROR. */
  load(users: readonly WatchedUser[]): Promise<void>;
  countConflated(): void;
  countClosed(): void;
  /** A failure that the next try heals. */
  later(error: unknown): void;
}

/** One watcher: a watch list, and what it has not been told yet. */
export class Subscription {
  readonly viewer: Viewer;
  readonly #hub: WatchRegistry;
  readonly #sink: WatchSink;
  readonly #maxWatchedUsers: number;
  readonly #watched = new Map<string, WatchedUser>();
  /** Users whose latest state the sink has still to get. */
  #untold: Set<WatchedUser> | undefined;
  /** Users of whom the sink has not had a snapshot. */
  #unintroduced: Set<WatchedUser> | undefined;
  /** Versions that the sink has from an earlier subscription. */
  #known: Map<WatchedUser, number> | undefined;
  /** The viewer, followed once it watches a user whose last seen is for those only who show their own. */
  #self: WatchedUser | undefined;
  #isReciprocal = false;
  #isFull = false;
  #isClosed = false;
  #onClosed: (() => void) | undefined;

  constructor(hub: WatchRegistry, sink: WatchSink, maxWatchedUsers: number, viewer: Viewer) {
    this.#hub = hub;
    this.#sink = sink;
    this.#maxWatchedUsers = maxWatchedUsers;
    this.viewer = viewer;
  }

  /** Whether the viewer's own last seen is shown to others, as far as that matters here. */
  get isReciprocal(): boolean {
    return this.#isReciprocal;
  }

  /** Users watched now. */
  get size(): number {
    return this.#watched.size;
  }

  get userIds(): string[] {
    return [...this.#watched.keys()];
  }

  /** Who is told when it closes; set once. */
  onClosed(listener: () => void): void {
    this.#onClosed = listener;
  }

  /** Whether the sink has been told less than is known here, because it was full. */
  get isBehind(): boolean {
    return this.#untold !== undefined && this.#untold.size > 0;
  }

  /**
   * Watches more users; each one's snapshot goes to the sink before any change. Those watched already are left as they
   * are. When it fails, none of `userIds` was added.
   *
   * @param knownVersions versions that the watcher has already: a user who still has that one is left out of the snapshot
   * @throws PresenceError INVALID_ARGUMENT: more than MAX_WATCHED_USERS; REDIS_ERROR
   */
  async watch(userIds: readonly string[], knownVersions?: ReadonlyMap<string, number>): Promise<void> {
    if (this.#isClosed) return;
    const added = [...new Set(userIds)].filter((userId) => !this.#watched.has(userId));
    if (this.#watched.size + added.length > this.#maxWatchedUsers) {
      throw PresenceError.invalidArgument(
        'watch_user_ids',
        `must name at most ${this.#maxWatchedUsers} users`,
      );
    }
    const users = added.map((userId) =>
      userId === this.#self?.userId ? this.#self : this.#hub.add(this, userId),
    );
    for (const user of users) {
      this.#watched.set(user.userId, user);
      // Telling the one before may have emptied it and put it away.
      this.#unintroduced ??= new Set();
      this.#unintroduced.add(user);
      this.#remember(user, knownVersions?.get(user.userId) ?? 0);
      if (isUpToDate(user)) this.#introduce(user);
    }
    try {
      await this.#hub.load(users);
      // A read that brought no news told nobody.
      for (const user of users) if (this.#unintroduced?.has(user)) this.#introduce(user);
      if (users.some(isForReciprocal)) await this.#followSelf();
    } catch (error) {
      this.unwatch(added);
      throw error;
    }
  }

  /** Watches these users no more; those not watched are ignored. */
  unwatch(userIds: readonly string[]): void {
    for (const userId of userIds) {
      const user = this.#watched.get(userId);
      if (!user) continue;
      this.#watched.delete(userId);
      this.#untold?.delete(user);
      this.#unintroduced?.delete(user);
      this.#known?.delete(user);
      if (user !== this.#self) this.#hub.remove(this, user);
    }
  }

  /** The sink has room again. */
  drained(): void {
    this.#isFull = false;
    if (!this.#untold) return;
    for (const user of this.#untold) {
      if (this.#isFull) return;
      this.#untold.delete(user);
      if (user.state) this.offer(user, { state: this.#seen(user.state), snapshot: false });
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#hub.countClosed();
    this.unwatch([...this.#watched.keys()]);
    if (this.#self) this.#hub.remove(this, this.#self);
    this.#onClosed?.();
  }

  /** For the hub: the viewer's own state changed, or privacy. Users whose last seen depends on it are told of anew. */
  ownChanged(): void {
    const isReciprocal = this.#self?.state !== undefined && this.#self.state.privacy?.lastSeen !== 'nobody';
    if (isReciprocal === this.#isReciprocal) return;
    this.#isReciprocal = isReciprocal;
    for (const user of this.#watched.values()) {
      if (!user.state || !isForReciprocal(user)) continue;
      const state = this.#seen(user.state);
      if (state.status === 'OFFLINE') this.offer(user, { state, snapshot: false });
    }
  }

  /** For the hub: a watched user shows last seen only to those who show theirs. */
  metReciprocal(): void {
    this.#followSelf().catch((error: unknown) => this.#hub.later(error));
  }

  /** For the hub: a state to tell, now or, where the sink is full, when it drains. */
  offer(user: WatchedUser, event: WatchEvent): void {
    if (this.#isClosed || (user === this.#self && !this.#watched.has(user.userId))) return;
    if (this.#isFull) {
      this.#untold ??= new Set();
      if (this.#untold.has(user)) this.#hub.countConflated();
      this.#untold.add(user);
      return;
    }
    const isFirst = this.#unintroduced?.delete(user) ?? false;
    if (this.#unintroduced?.size === 0) this.#unintroduced = undefined;
    if (isFirst && this.#takeKnown(user) === event.state.version) return;
    const told = isFirst === event.snapshot ? event : { state: event.state, snapshot: isFirst };
    this.#isFull = !this.#sink.send(told);
  }

  #introduce(user: WatchedUser): void {
    if (user.state && !this.#untold?.has(user)) {
      this.offer(user, { state: this.#seen(user.state), snapshot: true });
    }
  }

  #seen(state: UserState): UserState {
    return this.#hub.sights.of(this.viewer, state, this.#isReciprocal);
  }

  async #followSelf(): Promise<void> {
    const { userId } = this.viewer;
    if (userId === null || this.#self || this.#isClosed) return;
    const self = this.#watched.get(userId) ?? this.#hub.add(this, userId);
    this.#self = self;
    try {
      await this.#hub.load([self]);
    } catch (error) {
      this.#self = undefined;
      if (!this.#watched.has(userId)) this.#hub.remove(this, self);
      throw error;
    }
    this.ownChanged();
  }

  #remember(user: WatchedUser, version: number): void {
    if (version === 0) return;
    this.#known ??= new Map();
    this.#known.set(user, version);
  }

  #takeKnown(user: WatchedUser): number | undefined {
    const version = this.#known?.get(user);
    this.#known?.delete(user);
    if (this.#known?.size === 0) this.#known = undefined;
    return version;
  }
}

function isForReciprocal(user: WatchedUser): boolean {
  return user.state?.privacy?.lastSeen === 'reciprocal';
}

/** Whether privacy was read since it was last said to have changed. */
export function isPrivacyKnown(user: WatchedUser): boolean {
  return user.privacyChanges === user.knownPrivacyChanges;
}

/** Whether what is known is no older than what callers of this node wrote. */
export function isUpToDate(user: WatchedUser): boolean {
  return user.state !== undefined && user.state.version >= user.writtenVersion && isPrivacyKnown(user);
}
