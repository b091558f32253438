import { type CustomStatusRequest, checkCustomStatus } from '../core/custom-status.ts';
import { PresenceError } from '../core/errors.ts';
import type { Activity, Status, UserState } from '../core/presence.ts';
import type { ConnectionSeen, PresenceStore } from '../core/store.ts';
import { checkUserId, checkUserIds } from '../core/user-id.ts';
import type { Connections, HeldConnection } from './connections.ts';
import type { HeartbeatResult, PresenceApi, RunningWatch, UserDirectory } from './presence-api.ts';
import { StateReader } from './state-reader.ts';
import type { Subscription, WatchSink } from './subscription.ts';
import type { WatchHub } from './watch-hub.ts';

export interface PresenceServiceOptions {
  readonly store: PresenceStore;
  readonly hub: WatchHub;
  readonly connections: Connections;
  readonly heartbeatIntervalMs: number;
  /** Most users of one bulk query. */
  readonly maxBulkUsers: number;
  readonly maxWatchedUsers: number;
  /** undefined: every id that is asked for is somebody's. */
  readonly directory?: UserDirectory | undefined;
}

/** What callers can do, whatever transport they come by. Every argument is checked here. */
export class PresenceService implements PresenceApi {
  readonly #options: PresenceServiceOptions;
  readonly #reader: StateReader;
  #renewedHeartbeats = 0;
  #refusedHeartbeats = 0;

  constructor(options: PresenceServiceOptions) {
    this.#options = options;
    this.#reader = new StateReader(options.store, options.hub);
  }

  /** For metrics: heartbeats that the engine answered, by outcome. */
  stats(): { renewedHeartbeats: number; refusedHeartbeats: number } {
    return { renewedHeartbeats: this.#renewedHeartbeats, refusedHeartbeats: this.#refusedHeartbeats };
  }

  /** @throws PresenceError INVALID_ARGUMENT, USER_NOT_FOUND, REDIS_ERROR */
  async setStatus(userId: string, status: Status, activity: Activity | null): Promise<UserState> {
    checkUserId(userId, 'user_id');
    const { store, hub } = this.#options;
    if (status === 'OFFLINE' && activity !== null) {
      throw PresenceError.invalidArgument('activity', 'is only for status ONLINE');
    }
    await this.requireKnown([userId]);
    const state =
      status === 'ONLINE' ? await store.setOnline(userId, activity) : await store.setOffline(userId);
    hub.noteWritten(state);
    return state;
  }

  /** @throws PresenceError INVALID_ARGUMENT, USER_NOT_FOUND, REDIS_ERROR */
  async getStatus(userId: string): Promise<UserState> {
    checkUserId(userId, 'user_id');
    await this.requireKnown([userId]);
    const [state] = await this.#reader.read([userId]);
    return state as UserState;
  }

  /**
   * States in the order asked for; users whom the directory lacks are left out.
   *
   * @throws PresenceError INVALID_ARGUMENT: an id, or more than MAX_BULK_USERS; REDIS_ERROR
   */
  async getStatuses(userIds: readonly string[]): Promise<UserState[]> {
    checkUserIds(userIds, 'user_ids', this.#options.maxBulkUsers);
    const known = (await this.#options.directory?.known(userIds)) ?? userIds;
    return known.length === 0 ? [] : this.#reader.read(known);
  }

  /** @throws PresenceError INVALID_ARGUMENT, USER_NOT_FOUND, REDIS_ERROR */
  async heartbeat(userId: string): Promise<HeartbeatResult> {
    checkUserId(userId, 'user_id');
    await this.requireKnown([userId]);
    const accepted = await this.#options.store.heartbeat(userId);
    if (accepted) this.#renewedHeartbeats++;
    else this.#refusedHeartbeats++;
    return { accepted, nextInMs: this.#options.heartbeatIntervalMs };
  }

  /** @throws PresenceError INVALID_ARGUMENT, USER_NOT_FOUND, REDIS_ERROR */
  async setCustomStatus(userId: string, request: CustomStatusRequest): Promise<UserState> {
    checkUserId(userId, 'user_id');
    checkCustomStatus(request);
    await this.requireKnown([userId]);
    return this.#options.store.setCustomStatus(userId, request);
  }

  /**
   * A user's open connections on all nodes, oldest first.
   *
   * @throws PresenceError INVALID_ARGUMENT, USER_NOT_FOUND, REDIS_ERROR
   */
  async getConnections(userId: string): Promise<ConnectionSeen[]> {
    checkUserId(userId, 'user_id');
    await this.requireKnown([userId]);
    return this.#options.store.readConnections(userId);
  }

  /**
   * Opens a watch; `add` gives it users. Until `close` it counts as a connection of `userId`, unless that is null: then
   * nobody watches.
   *
   * @throws PresenceError INVALID_ARGUMENT
   */
  watch(userId: string | null, sink: WatchSink): Watch {
    if (userId !== null) checkUserId(userId, 'user_id');
    return new Watch(this, this.#options.connections, this.subscribe(sink), userId);
  }

  /** Opens an empty subscription, for a session, which is a connection by itself. */
  subscribe(sink: WatchSink): Subscription {
    return this.#options.hub.subscribe(sink);
  }

  /** @throws PresenceError INVALID_ARGUMENT: an id, or more than MAX_WATCHED_USERS in all; USER_NOT_FOUND, REDIS_ERROR */
  async addWatched(
    subscription: Subscription,
    userIds: readonly string[],
    knownVersions?: ReadonlyMap<string, number>,
  ): Promise<void> {
    this.checkWatched(userIds, 'user_ids');
    await this.requireKnown(userIds);
    await subscription.watch(userIds, knownVersions);
  }

  /** @throws PresenceError INVALID_ARGUMENT */
  checkWatched(userIds: readonly string[], field: string): void {
    checkUserIds(userIds, field, this.#options.maxWatchedUsers);
  }

  /** @throws PresenceError USER_NOT_FOUND: the directory lacks one of these; REDIS_ERROR: it does not answer */
  requireKnown(userIds: readonly string[]): void | Promise<void> {
    return this.#options.directory?.require(userIds);
  }
}

/** A running watch. Close it when its sink is gone. */
export class Watch implements RunningWatch {
  readonly expiresAtMs = Number.POSITIVE_INFINITY;
  readonly #presence: PresenceService;
  readonly #connections: Connections;
  readonly #subscription: Subscription;
  readonly #userId: string | null;
  #held: HeldConnection | undefined;
  #isClosed = false;

  constructor(
    presence: PresenceService,
    connections: Connections,
    subscription: Subscription,
    userId: string | null,
  ) {
    this.#presence = presence;
    this.#connections = connections;
    this.#subscription = subscription;
    this.#userId = userId;
  }

  /**
   * Watches users: the snapshot of each goes to the sink, then its changes.
   *
   * @throws PresenceError INVALID_ARGUMENT: an id, none, or more than MAX_WATCHED_USERS; USER_NOT_FOUND,
   *   the watcher included; REDIS_ERROR
   */
  async add(userIds: readonly string[]): Promise<void> {
    if (userIds.length === 0)
      throw PresenceError.invalidArgument('watch_user_ids', 'must name at least one user');
    this.#presence.checkWatched(userIds, 'watch_user_ids');
    await this.#presence.requireKnown(this.#userId === null ? userIds : [this.#userId, ...userIds]);
    await this.#count();
    await this.#subscription.watch(userIds);
  }

  /** The sink has room again. */
  drained(): void {
    this.#subscription.drained();
  }

  /** Ends the watch. Never rejects: a connection that cannot be taken back now is so later. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#subscription.close();
    if (this.#held) await this.#connections.close(this.#held, false);
  }

  async #count(): Promise<void> {
    if (this.#userId === null || this.#held) return;
    const { held } = await this.#connections.open(this.#userId, 'stream', '', null, null, () => {});
    this.#held = held;
    if (this.#isClosed) await this.#connections.close(held, false);
  }
}
