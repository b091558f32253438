import type { Connection } from './connections.ts';
import type { CustomStatusRequest } from './custom-status.ts';
import type { Activity, NewConnection, UserState } from './presence.ts';
import type { Privacy, PrivacyChange } from './privacy.ts';

/**
 * The contract that every engine keeps. One suite (test/store-contract.ts) checks all of it on each of them.
 *
 * - Every change of a user is atomic, and every user's changes are totally ordered by version.
 * - Time is the engine's clock alone.
 * - A lease is never judged before its deadline; what is past it and not yet judged still reads as ONLINE, so that
 *   readers and watchers never disagree.
 * - Each method rejects with PresenceError REDIS_ERROR, within the engine's timeout, when the engine cannot answer. An
 *   operation that failed so may or may not have happened; repeating it is harmless.
 * - User ids come checked (core/user-id.ts).
 */
export interface PresenceStore {
  /** Connects and starts to judge leases. Resolves when the engine answers, or while it goes on trying. */
  start(): Promise<void>;
  /** Stops judging, hands over what other nodes can take, closes connections. Leases are left to run. */
  stop(): Promise<void>;
  /** Whether the engine answered when last asked. */
  readonly available: boolean;

  /** Lights or renews the lease. `activity` null: as it is, ACTIVE for a user who comes ONLINE. Idempotent. */
  setOnline(userId: string, activity: Activity | null): Promise<UserState>;
  /** Puts the light out at once, and refuses heartbeats for one TTL. Idempotent. */
  setOffline(userId: string): Promise<UserState>;
  /** Renews the lease, or lights it. false: signed out less than one TTL ago, nothing changed. */
  heartbeat(userId: string): Promise<boolean>;
  /**
   * Present states in the order asked for; unknown users are OFFLINE with version 0. Of users who have privacy it comes with
   * the state, as both were at one time.
   */
  read(userIds: readonly string[]): Promise<UserState[]>;

  /**
   * Counts a connection of a user, and ends a running disconnect grace. A session lights or renews the lease, unless it
   * resumes and the user was set OFFLINE meanwhile. Connections of its kind that are too many for the user lose their place,
   * the oldest first. Idempotent.
   */
  connect(opening: ConnectionOpening): Promise<ConnectionOpened>;
  /** Takes it back; the last one of an ONLINE user starts the disconnect grace. Idempotent. */
  disconnect(userId: string, connectionId: string): Promise<void>;
  /**
   * Renews connections, and the leases of sessions' users; to be called for every open one at least twice per TTL.
   * A session lights a user who is OFFLINE without having been set so: leases heal by themselves.
   *
   * @returns ids of connections that lost their place to newer ones
   */
  renewConnections(connections: readonly ConnectionRenewal[]): Promise<readonly string[]>;
  /** Says what activity a connection has, and answers the user's state. A connection that is not known is ignored. */
  setConnectionActivity(userId: string, connectionId: string, activity: Activity): Promise<UserState>;
  /** A user's connections that somebody still renews, oldest first. */
  readConnections(userId: string): Promise<ConnectionSeen[]>;
  /** Sets the custom status; empty text and emoji clear it. */
  setCustomStatus(userId: string, request: CustomStatusRequest): Promise<UserState>;
  /**
   * Changes what a user hides, and from whom, and answers the state with it. Where the user appears to somebody, the lease
   * of an ONLINE user is renewed and a running disconnect grace ends. Rejects also with INVALID_ARGUMENT: more than
   * `maxBlockedUsers`.
   */
  setPrivacy(userId: string, change: PrivacyChange): Promise<UserState>;
  /** Who is told, soon, of this node's connections that are to be closed; set once, before `start`. Must not throw. */
  onEvicted(listener: EvictionListener): void;
  /**
   * Deletes all that is stored of a user, and closes the user's connections on every node. Watchers are told of an OFFLINE user
   * never heard of. For two TTLs heartbeats and sessions that are still open do not set the user online. Answers what watchers
   * are told. Idempotent.
   */
  deleteUser(userId: string): Promise<UserState>;
  /** Who is asked to renew all connections soon, since the engine may have lost some; set once, before `start`. */
  onRenewalWanted(listener: () => void): void;

  /** Who is told of transitions; set once, before `start`. */
  onFeed(listener: FeedListener): void;
  /** From its resolution on, every later transition of the partition reaches the listener. */
  follow(partition: number): Promise<void>;
  unfollow(partition: number): void;
  /** Whether what the listener was told of a followed partition is the truth, but for the last few seconds at most. */
  isCurrent(partition: number): boolean;
}

/** `REPLACED`: a connection that lost its place to a newer one of its kind. `DELETED`: the user was deleted. */
export type EvictionReason = 'REPLACED' | 'DELETED';
export type EvictionListener = (connectionId: string, reason: EvictionReason) => void;

export interface ConnectionOpening {
  readonly userId: string;
  readonly connection: NewConnection;
  /** Id of the connection whose place it takes; null = none. */
  readonly replaces: string | null;
  /** Whether the client comes back rather than starts anew. */
  readonly isResumed: boolean;
}

export interface ConnectionOpened {
  readonly state: UserState;
  /** The engine's clock. */
  readonly nowMs: number;
  /** When the connection opened; earlier than now if it took another's place. */
  readonly sinceMs: number;
  /** Whether the connection to be replaced still counted. */
  readonly replaced: boolean;
}

/** All of a connection that its node knows, so that an engine that lost its data can have it back. */
export interface ConnectionRenewal {
  readonly userId: string;
  readonly connection: NewConnection & { readonly sinceMs: number };
}

export interface ConnectionSeen extends Omit<Connection, 'deadlineMs'> {
  /** Last renewal. */
  readonly lastSeenMs: number;
}

/** Privacy after a change. */
export interface PrivacyNews {
  /** Of the change. */
  readonly version: number;
  /** Of the user's state at the change: to be seen with that one. */
  readonly stateVersion: number;
  /** null: there is none any more. */
  readonly privacy: Privacy | null;
}

export interface FeedListener {
  /**
   * A caller of this node changed a user, whose version is this now: no read of this node may answer an older one. Called
   * before the write resolves. Absent: nobody reads here. Must not throw.
   */
  written?(userId: string, version: number): void;
  /**
   * Users of a partition as they were last known here: their privacy and sign-outs go back into an engine that lost them.
   * Absent: nobody is known here. Must not throw.
   */
  known?(partition: number): Iterable<UserState>;
  /** Transitions of one partition, in order, each once; without privacy. Must not throw. */
  transitions(states: readonly UserState[]): void;
  /**
   * A user's privacy changed, in order with the transitions: a read from now on brings it. `news`: what it is now, where that is
   * told at once, so that a hide shows no later than a sign-out. Must not throw.
   */
  privacyChanged(userId: string, news?: PrivacyNews): void;
  /** Transitions of a followed partition were missed for good: what is known of its users must be read again. */
  lost(partition: number): void;
}
