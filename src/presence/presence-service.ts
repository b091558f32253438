import { randomUUID } from 'node:crypto';
import { PresenceError } from '../core/errors.ts';
import type { Activity, Status, UserState } from '../core/presence.ts';
import type { PresenceStore } from '../core/store.ts';
import { checkUserId } from '../core/user-id.ts';
import type { Log } from '../observe/log.ts';
import type { Subscription, WatchHub, WatchSink } from './watch-hub.ts';

export interface PresenceServiceOptions {
  readonly store: PresenceStore;
  readonly hub: WatchHub;
  readonly heartbeatIntervalMs: number;
  /** Most users of one bulk query. */
  readonly maxBulkUsers: number;
  readonly maxWatchedUsers: number;
  readonly log: Log;
}

export interface HeartbeatResult {
  /** false: the user signed out less than one TTL ago, nothing changed. */
  readonly accepted: boolean;
  readonly nextInMs: number;
}

/** What callers can do, whatever transport they come by. Every argument is checked here. */
export class PresenceService {
  readonly #options: PresenceServiceOptions;
  #renewedHeartbeats = 0;
  #refusedHeartbeats = 0;

  constructor(options: PresenceServiceOptions) {
    this.#options = options;
  }

  /** For metrics: heartbeats that the engine answered, by outcome. */
  stats(): { renewedHeartbeats: number; refusedHeartbeats: number } {
    return { renewedHeartbeats: this.#renewedHeartbeats, refusedHeartbeats: this.#refusedHeartbeats };
  }

  /** @throws PresenceError INVALID_ARGUMENT, REDIS_ERROR */
  async setStatus(userId: string, status: Status, activity: Activity | null): Promise<UserState> {
    checkUserId(userId, 'user_id');
    if (status === 'ONLINE') return this.#options.store.setOnline(userId, activity);
    if (activity !== null) throw PresenceError.invalidArgument('activity', 'is only for status ONLINE');
    return this.#options.store.setOffline(userId);
  }

  /** @throws PresenceError INVALID_ARGUMENT, REDIS_ERROR */
  async getStatus(userId: string): Promise<UserState> {
    checkUserId(userId, 'user_id');
    const [state] = await this.#options.store.read([userId]);
    return state as UserState;
  }

  /**
   * States in the order asked for.
   *
   * @throws PresenceError INVALID_ARGUMENT: an id, or more than MAX_BULK_USERS; REDIS_ERROR
   */
  async getStatuses(userIds: readonly string[]): Promise<UserState[]> {
    checkUserIds(userIds, 'user_ids', this.#options.maxBulkUsers);
    return userIds.length === 0 ? [] : this.#options.store.read(userIds);
  }

  /** @throws PresenceError INVALID_ARGUMENT, REDIS_ERROR */
  async heartbeat(userId: string): Promise<HeartbeatResult> {
    checkUserId(userId, 'user_id');
    const accepted = await this.#options.store.heartbeat(userId);
    if (accepted) this.#renewedHeartbeats++;
    else this.#refusedHeartbeats++;
    return { accepted, nextInMs: this.#options.heartbeatIntervalMs };
  }

  /**
   * Opens a watch; `add` gives it users. Until `close` it counts as a connection of `userId`, unless that is null: then
   * nobody watches.
   *
   * @throws PresenceError INVALID_ARGUMENT
   */
  watch(userId: string | null, sink: WatchSink): Watch {
    if (userId !== null) checkUserId(userId, 'user_id');
    return new Watch(this.#options, this.#options.hub.subscribe(sink), userId);
  }
}

/** A running watch. Close it when its sink is gone. */
export class Watch {
  readonly #options: PresenceServiceOptions;
  readonly #subscription: Subscription;
  readonly #userId: string | null;
  readonly #connectionId = randomUUID();
  #isCounted = false;

  constructor(options: PresenceServiceOptions, subscription: Subscription, userId: string | null) {
    this.#options = options;
    this.#subscription = subscription;
    this.#userId = userId;
  }

  /**
   * Watches users: the snapshot of each goes to the sink, then its changes.
   *
   * @throws PresenceError INVALID_ARGUMENT: an id, none, or more than MAX_WATCHED_USERS; REDIS_ERROR
   */
  async add(userIds: readonly string[]): Promise<void> {
    if (userIds.length === 0)
      throw PresenceError.invalidArgument('watch_user_ids', 'must name at least one user');
    checkUserIds(userIds, 'watch_user_ids', this.#options.maxWatchedUsers);
    if (this.#userId !== null && !this.#isCounted) {
      this.#isCounted = true;
      await this.#options.store.openConnection(this.#userId, this.#connectionId);
    }
    await this.#subscription.watch(userIds);
  }

  /** The sink has room again. */
  drained(): void {
    this.#subscription.drained();
  }

  /** Ends the watch. Never rejects: a connection that cannot be taken back now is so by the store later. */
  async close(): Promise<void> {
    this.#subscription.close();
    if (this.#userId === null || !this.#isCounted) return;
    this.#isCounted = false;
    try {
      await this.#options.store.closeConnection(this.#userId, this.#connectionId);
    } catch (error) {
      this.#options.log.debug({ err: error }, 'connection not taken back yet');
    }
  }
}

function checkUserIds(userIds: readonly string[], field: string, maxUsers: number): void {
  if (userIds.length > maxUsers)
    throw PresenceError.invalidArgument(field, `must name at most ${maxUsers} users`);
  for (const [index, userId] of userIds.entries()) checkUserId(userId, `${field}[${index}]`);
}
