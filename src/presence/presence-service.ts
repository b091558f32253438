import { type CustomStatusRequest, checkCustomStatus } from '../core/custom-status.ts';
import { PresenceError } from '../core/errors.ts';
import type { Activity, Status, UserState } from '../core/presence.ts';
import { openPrivacy, type Privacy } from '../core/privacy.ts';
import type { RevocationRequest } from '../core/revocations.ts';
import { connectionsSeenBy, stranger, type Viewer } from '../core/sight.ts';
import type { ConnectionSeen, PresenceStore } from '../core/store.ts';
import { checkUserId, checkUserIds } from '../core/user-id.ts';
import { nameSince } from './connection-names.ts';
import type { Connections, HeldConnection } from './connections.ts';
import type {
  EndableSink,
  HeartbeatResult,
  PrivacyRequest,
  RunningWatch,
  UserDirectory,
  ViewedPresence,
} from './presence-api.ts';
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
  /** Most users of a block list. */
  readonly maxBlockedUsers: number;
  /** undefined: every id that is asked for is somebody's. */
  readonly directory?: UserDirectory | undefined;
  /** undefined: this server takes no tokens. */
  readonly revocations?: { revoke(request: RevocationRequest): Promise<number> } | undefined;
}

/** What callers can do, whatever transport they come by. Every argument is checked here. */
export class PresenceService implements ViewedPresence {
  readonly #options: PresenceServiceOptions;
  readonly #reader: StateReader;
  readonly #viewer: Viewer;
  readonly #counts: { renewedHeartbeats: number; refusedHeartbeats: number };

  /** @param viewer who sees what is read and watched; default: somebody who is not known */
  constructor(options: PresenceServiceOptions, viewer: Viewer = stranger, original?: PresenceService) {
    this.#options = options;
    this.#viewer = viewer;
    this.#reader = new StateReader(options.store, options.hub, viewer);
    this.#counts = original ? original.#counts : { renewedHeartbeats: 0, refusedHeartbeats: 0 };
  }

  /** The same presence, seen by somebody else. */
  as(viewer: Viewer): PresenceService {
    return new PresenceService(this.#options, viewer, this);
  }

  /** For metrics: heartbeats that the engine answered, by outcome; all viewers together. */
  stats(): { renewedHeartbeats: number; refusedHeartbeats: number } {
    return { ...this.#counts };
  }

  /** @throws PresenceError INVALID_ARGUMENT, USER_NOT_FOUND, REDIS_ERROR */
  async setStatus(userId: string, status: Status, activity: Activity | null): Promise<UserState> {
    checkUserId(userId, 'user_id');
    const { store } = this.#options;
    if (status === 'OFFLINE' && activity !== null) {
      throw PresenceError.invalidArgument('activity', 'is only for status ONLINE');
    }
    await this.requireKnown([userId]);
    return status === 'ONLINE' ? store.setOnline(userId, activity) : store.setOffline(userId);
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
    const known = (await this.#options.directory?.known(userIds, this.#payer)) ?? userIds;
    return known.length === 0 ? [] : this.#reader.read(known);
  }

  /** @throws PresenceError INVALID_ARGUMENT, USER_NOT_FOUND, REDIS_ERROR */
  async heartbeat(userId: string): Promise<HeartbeatResult> {
    checkUserId(userId, 'user_id');
    await this.requireKnown([userId]);
    const accepted = await this.#options.store.heartbeat(userId);
    if (accepted) this.#counts.renewedHeartbeats++;
    else this.#counts.refusedHeartbeats++;
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
    const connections = await this.#options.store.readConnections(userId);
    if (this.#viewer.seesAll || this.#viewer.userId === userId || connections.length === 0)
      return connections;
    // Read after them, so that what was hidden meanwhile is.
    const truth = await this.#reader.readTruth(userId);
    const [seen] = await this.#reader.see([truth]);
    return connectionsSeenBy(this.#viewer, truth, seen as UserState, connections, nameSince);
  }

  /**
   * Changes what a user hides, and from whom, and answers it. Whoever sees something else by that is told at once.
   *
   * @throws PresenceError INVALID_ARGUMENT: an id, the user among them, one in both lists, or more than MAX_BLOCKED_USERS;
   *   USER_NOT_FOUND, REDIS_ERROR
   */
  async setPrivacy(userId: string, request: PrivacyRequest): Promise<Privacy> {
    const { store, hub, maxBlockedUsers } = this.#options;
    const { addBlocked, removeBlocked } = request;
    checkUserId(userId, 'user_id');
    checkUserIds(addBlocked, 'add_blocked', maxBlockedUsers);
    checkUserIds(removeBlocked, 'remove_blocked', maxBlockedUsers);
    if (addBlocked.includes(userId)) throw PresenceError.invalidArgument('add_blocked', 'names the user');
    const removed = new Set(removeBlocked);
    if (addBlocked.some((it) => removed.has(it))) {
      throw PresenceError.invalidArgument('remove_blocked', 'names a user whom add_blocked names too');
    }
    await this.requireKnown([userId]);
    const state = await store.setPrivacy(userId, { ...request, maxBlockedUsers });
    const { privacy } = state;
    hub.privacyChanged(userId, privacy && { version: privacy.version, stateVersion: state.version, privacy });
    return privacy ?? openPrivacy;
  }

  /** @throws PresenceError INVALID_ARGUMENT, USER_NOT_FOUND, REDIS_ERROR */
  async getPrivacy(userId: string): Promise<Privacy> {
    checkUserId(userId, 'user_id');
    await this.requireKnown([userId]);
    const [state] = await this.#options.store.read([userId]);
    return state?.privacy ?? openPrivacy;
  }

  /**
   * Refuses tokens of a user, or one token, from now on: open sessions and subscriptions of theirs end within 2 s.
   *
   * @returns until when they are refused, Unix ms
   * @throws PresenceError INVALID_ARGUMENT: both ids or none, or this server takes no tokens; RATE_LIMITED: no more
   *   revocations can be kept; REDIS_ERROR
   */
  async revokeTokens(request: RevocationRequest): Promise<number> {
    const { revocations } = this.#options;
    if (!revocations)
      throw new PresenceError('INVALID_ARGUMENT', 'this server takes no tokens: AUTH has no jwt');
    return revocations.revoke(request);
  }

  /**
   * Deletes all that is stored of a user, whether the directory has them or not, and closes their connections.
   *
   * @throws PresenceError INVALID_ARGUMENT, REDIS_ERROR
   */
  async deleteUser(userId: string): Promise<void> {
    checkUserId(userId, 'user_id');
    const { store, hub } = this.#options;
    // A read of this user has no version to go by, so the hub must not wait for the feed.
    hub.take(await store.deleteUser(userId));
    hub.privacyChanged(userId);
  }

  /**
   * Opens a watch; `add` gives it users. Until `close` it counts as a connection of `userId`, who is the one who sees,
   * unless that is null. Where newer subscriptions of the user take its place, the sink is ended with RATE_LIMITED.
   *
   * @throws PresenceError INVALID_ARGUMENT
   */
  watch(userId: string | null, sink: EndableSink): Watch {
    if (userId !== null) checkUserId(userId, 'user_id');
    const { hub, connections } = this.#options;
    const viewer = userId === null ? this.#viewer : { userId, seesAll: false };
    return new Watch(this, connections, hub.subscribe(sink, viewer), userId, sink);
  }

  /** Opens an empty subscription, for a session, which is a connection by itself. */
  subscribe(sink: WatchSink): Subscription {
    return this.#options.hub.subscribe(sink, this.#viewer);
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
    return this.#options.directory?.require(userIds, this.#payer);
  }

  /** All backends are one: they are trusted not to ask too much. */
  get #payer(): string {
    return this.#viewer.userId ?? '';
  }
}

/** A running watch. Close it when its sink is gone. */
export class Watch implements RunningWatch {
  readonly expiresAtMs = Number.POSITIVE_INFINITY;
  readonly #presence: PresenceService;
  readonly #connections: Connections;
  readonly #subscription: Subscription;
  readonly #userId: string | null;
  readonly #sink: EndableSink;
  #held: HeldConnection | undefined;
  #isClosed = false;

  constructor(
    presence: PresenceService,
    connections: Connections,
    subscription: Subscription,
    userId: string | null,
    sink: EndableSink,
  ) {
    this.#sink = sink;
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
    const { held } = await this.#connections.open(this.#userId, 'stream', '', null, null, (reason) => {
      // A deleted user's subscription goes on: it watches others.
      if (reason === 'REPLACED') this.#sink.end(replaced());
    });
    this.#held = held;
    if (this.#isClosed) await this.#connections.close(held, false);
  }
}

/** A client that comes back sooner would take the place of another subscription of its user again, ms. */
const replacedRetryMs = 5000;

function replaced(): PresenceError {
  const message = 'the user opened more than MAX_CONNECTIONS_PER_USER subscriptions, and this was the oldest';
  return new PresenceError('RATE_LIMITED', message, { retryAfterMs: replacedRetryMs });
}
