import type { CustomStatusRequest } from '../core/custom-status.ts';
import type { PresenceError } from '../core/errors.ts';
import type { Activity, Status, UserState } from '../core/presence.ts';
import type { Privacy, PrivacyChange } from '../core/privacy.ts';
import type { RevocationRequest } from '../core/revocations.ts';
import type { Viewer } from '../core/sight.ts';
import type { ConnectionSeen } from '../core/store.ts';
import type { Subscription, WatchSink } from './subscription.ts';

export interface HeartbeatResult {
  /** false: the user signed out less than one TTL ago, nothing changed. */
  readonly accepted: boolean;
  readonly nextInMs: number;
}

/**
 * Which users there are. What needs no question is answered at once. `payer` asks: too many questions of one payer wait for
 * each other, and not the others for them.
 */
export interface UserDirectory {
  /** @throws PresenceError USER_NOT_FOUND: one of these is not there; REDIS_ERROR: the directory does not answer */
  require(userIds: readonly string[], payer: string): void | Promise<void>;
  /**
   * Those that are there, in the order given.
   *
   * @throws PresenceError REDIS_ERROR
   */
  known(userIds: readonly string[], payer: string): readonly string[] | Promise<readonly string[]>;
}

/** What a caller asks to change of a user's privacy; the bound is the server's. */
export type PrivacyRequest = Omit<PrivacyChange, 'maxBlockedUsers'>;

/** What a caller can do: PresenceService for everybody, or the same within what one caller may. */
export interface PresenceApi {
  setStatus(userId: string, status: Status, activity: Activity | null): Promise<UserState>;
  getStatus(userId: string): Promise<UserState>;
  getStatuses(userIds: readonly string[]): Promise<UserState[]>;
  heartbeat(userId: string): Promise<HeartbeatResult>;
  setCustomStatus(userId: string, request: CustomStatusRequest): Promise<UserState>;
  getConnections(userId: string): Promise<ConnectionSeen[]>;
  setPrivacy(userId: string, request: PrivacyRequest): Promise<Privacy>;
  getPrivacy(userId: string): Promise<Privacy>;
  /** Refuses tokens from now on. @returns until when, Unix ms */
  revokeTokens(request: RevocationRequest): Promise<number>;
  deleteUser(userId: string): Promise<void>;
  watch(userId: string | null, sink: EndableSink): RunningWatch;
  subscribe(sink: RevocableSink): Subscription;
  addWatched(
    subscription: Subscription,
    userIds: readonly string[],
    knownVersions?: ReadonlyMap<string, number>,
  ): Promise<void>;
}

/** How long before a token expires whoever holds it is told, ms. */
export const tokenNoticeMs = 60_000;
/** gRPC and Connect: response metadata of a subscription, when the caller's token expires, Unix ms. */
export const tokenExpiryHeader = 'presence-token-expires-at';

/** Presence as different viewers see it. */
export interface ViewedPresence extends PresenceApi {
  as(viewer: Viewer): PresenceApi;
}

export interface EndableSink extends WatchSink {
  /** The caller's token expires in so many ms; absent: this sink has no way to tell. */
  expiring?(expiresInMs: number): void;
  /** The caller may watch no longer: whatever carries the events is to be closed with this error. */
  end(error: PresenceError): void;
}

/** A session's sink: it goes on without some of its users. */
export interface RevocableSink extends WatchSink {
  /** The error's users are not watched any more, because the caller may not, or nobody can say that it may. */
  revoked(error: PresenceError): void;
}

/** A watch to which users can be added until it is closed. */
export interface RunningWatch {
  /** When the caller's credentials expire, Unix ms; Infinity: never. The watch ends a tolerance later. */
  readonly expiresAtMs: number;
  add(userIds: readonly string[]): Promise<void>;
  /** The sink has room again. */
  drained(): void;
  /** Never rejects. */
  close(): Promise<void>;
}

/** Who a session speaks for. */
export interface SessionAccess {
  /** What the session may do; as a whole only after `enter`. */
  readonly presence: PresenceApi;
  /** When the credentials expire, Unix ms; Infinity: never. */
  readonly expiresAtMs: number;
  /** How long after that they still count, ms. */
  readonly toleranceMs: number;
  /**
   * Checks the credentials of the handshake or, where `token` is not empty, this one, for a session of `userId`; empty:
   * an observer session.
   *
   * @param onWithdrawn called at most once, before or after `enter` resolves: the session must end
   * @throws PresenceError UNAUTHORIZED, RATE_LIMITED
   */
  enter(token: string, userId: string, onWithdrawn: (error: PresenceError) => void): Promise<void>;
  /** The session is over. */
  leave(): void;
  /**
   * Takes a newer token of the same principal in place of the one before.
   *
   * @throws PresenceError UNAUTHORIZED, RATE_LIMITED: the one before still counts
   */
  renew(token: string): Promise<void>;
  /**
   * Counts a change of activity, which the session makes by itself.
   *
   * @throws PresenceError RATE_LIMITED
   */
  countUpdate(): void;
  /**
   * Bytes of a frame that came and is to be decoded.
   *
   * @returns 0: it may be; else how long to keep it as it is, ms
   */
  takeBytes(bytes: number): number;
}

/**
 * Everybody may do everything, and sees what the user sees whom they name.
 *
 * @param admit what a caller may do who sees no more than this
 * @param onEnter rejects with what `enter` does
 * @param countUpdate throws what `countUpdate` does
 */
export function openAccess(
  presence: ViewedPresence,
  admit: (seen: PresenceApi) => PresenceApi = (seen) => seen,
  onEnter: (userId: string) => Promise<void> = async () => {},
  countUpdate: () => void = () => {},
): SessionAccess {
  let own = admit(presence);
  return {
    get presence() {
      return own;
    },
    expiresAtMs: Number.POSITIVE_INFINITY,
    toleranceMs: 0,
    enter: async (_token, userId) => {
      await onEnter(userId);
      if (userId !== '') own = admit(presence.as({ userId, seesAll: false }));
    },
    renew: async () => {},
    leave: () => {},
    countUpdate,
    takeBytes: () => 0,
  };
}
