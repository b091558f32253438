import { PresenceError } from '../core/errors.ts';
import type { UserState } from '../core/presence.ts';

/** What a watcher is told. One object serves all watchers of a change, so that it can be encoded once. */
export interface WatchEvent {
  readonly state: UserState;
  /** The state when the watch began, rather than a change. */
  readonly snapshot: boolean;
}

/** Where a watcher's events go: a stream, a socket. */
export interface WatchSink {
  /** Takes an event. false: it is full now, and wants no more until `Subscription.drained` is called. */
  send(event: WatchEvent): boolean;
}

/** A user whom somebody on this node watches. */
export interface WatchedUser {
  readonly userId: string;
  readonly partition: WatchedPartition;
  /** The latest known; undefined until the first read or transition. */
  state: UserState | undefined;
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
  /** Registers a watch. Its first state comes with `load`. */
  add(subscription: Subscription, userId: string): WatchedUser;
  remove(subscription: Subscription, user: WatchedUser): void;
  /** Resolves when every user's state is known and its feed followed. Rejects with REDIS_ERROR. */
  load(users: readonly WatchedUser[]): Promise<void>;
  countConflated(): void;
  countClosed(): void;
}

/** One watcher: a watch list, and what it has not been told yet. */
export class Subscription {
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
  #isFull = false;
  #isClosed = false;
  #onClosed: (() => void) | undefined;

  constructor(hub: WatchRegistry, sink: WatchSink, maxWatchedUsers: number) {
    this.#hub = hub;
    this.#sink = sink;
    this.#maxWatchedUsers = maxWatchedUsers;
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
    const users = added.map((userId) => this.#hub.add(this, userId));
    for (const user of users) {
      this.#watched.set(user.userId, user);
      // Telling the one before may have emptied it and put it away.
      this.#unintroduced ??= new Set();
      this.#unintroduced.add(user);
      this.#remember(user, knownVersions?.get(user.userId) ?? 0);
      if (user.state !== undefined) this.offer(user, { state: user.state, snapshot: true });
    }
    try {
      await this.#hub.load(users);
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
      this.#hub.remove(this, user);
    }
  }

  /** The sink has room again. */
  drained(): void {
    this.#isFull = false;
    if (!this.#untold) return;
    for (const user of this.#untold) {
      if (this.#isFull) return;
      this.#untold.delete(user);
      if (user.state) this.offer(user, { state: user.state, snapshot: false });
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#hub.countClosed();
    this.unwatch([...this.#watched.keys()]);
    this.#onClosed?.();
  }

  /** For the hub: a state to tell, now or, where the sink is full, when it drains. */
  offer(user: WatchedUser, event: WatchEvent): void {
    if (this.#isClosed) return;
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
