import type { CustomStatusRequest } from '../core/custom-status.ts';
import { PresenceError } from '../core/errors.ts';
import type { Activity, Status, UserState } from '../core/presence.ts';
import {
  mayOperate,
  mayRead,
  mayReadConnections,
  mayUpdate,
  type Principal,
  viewerOf,
} from '../core/principal.ts';
import type { Privacy } from '../core/privacy.ts';
import type { RevocationRequest } from '../core/revocations.ts';
import type { ConnectionSeen } from '../core/store.ts';
import type {
  EndableSink,
  HeartbeatResult,
  PresenceApi,
  PrivacyRequest,
  RevocableSink,
  RunningWatch,
} from '../presence/presence-api.ts';
import type { Subscription } from '../presence/subscription.ts';
import type { Audit } from './audit.ts';
import { HeldCredential } from './held-credential.ts';
import type { OpenCredentials } from './open-credentials.ts';
import { PolicedWatch } from './policed-watch.ts';
import type { WatchPolicy } from './watch-policy.ts';

export interface GuardedPresenceOptions {
  readonly presence: PresenceApi;
  readonly principal: Principal;
  /** How long after their expiry the principal's credentials still count. */
  readonly toleranceMs: number;
  /** undefined: who may see anybody may see everybody. */
  readonly policy: WatchPolicy | undefined;
  readonly open: OpenCredentials;
  readonly audit?: Audit | undefined;
}

/**
 * What one principal may do. Every method throws PresenceError UNAUTHORIZED where it may not, REDIS_ERROR where the watch
 * policy does not answer.
 */
export class GuardedPresence implements PresenceApi {
  readonly #presence: PresenceApi;
  readonly #toleranceMs: number;
  readonly #policy: WatchPolicy | undefined;
  readonly #open: OpenCredentials;
  readonly #audit: Audit | undefined;
  #principal: Principal;
  /** Of the one subscription of a session. */
  #policedWatch: PolicedWatch | undefined;

  constructor({ presence, principal, toleranceMs, policy, open, audit }: GuardedPresenceOptions) {
    this.#audit = audit;
    this.#presence = presence;
    this.#principal = principal;
    this.#toleranceMs = toleranceMs;
    this.#policy = policy;
    this.#open = open;
  }

  get principal(): Principal {
    return this.#principal;
  }

  /** The same caller with newer credentials: what they no longer let it watch ends. */
  renew(principal: Principal): void {
    this.#principal = principal;
    this.#policedWatch?.recheck();
  }

  async setStatus(userId: string, status: Status, activity: Activity | null): Promise<UserState> {
    this.requireUpdate(userId);
    return this.#presence.setStatus(userId, status, activity);
  }

  async getStatus(userId: string): Promise<UserState> {
    this.requireRead();
    await this.#requireWatch([userId], 'user_id', 1);
    return this.#presence.getStatus(userId);
  }

  async getStatuses(userIds: readonly string[]): Promise<UserState[]> {
    this.requireRead();
    if (this.#policy) await this.#requireWatch(userIds, 'user_ids', this.#policy.maxBulkUsers);
    return this.#presence.getStatuses(userIds);
  }

  async heartbeat(userId: string): Promise<HeartbeatResult> {
    this.requireUpdate(userId);
    return this.#presence.heartbeat(userId);
  }

  async setCustomStatus(userId: string, request: CustomStatusRequest): Promise<UserState> {
    this.requireUpdate(userId);
    return this.#presence.setCustomStatus(userId, request);
  }

  async getConnections(userId: string): Promise<ConnectionSeen[]> {
    if (!mayReadConnections(this.principal, userId)) throw this.#refuse('see the connections of this user');
    await this.#requireWatch([userId], 'user_id', 1);
    return this.#presence.getConnections(userId);
  }

  async setPrivacy(userId: string, request: PrivacyRequest): Promise<Privacy> {
    this.requireUpdate(userId);
    return this.#presence.setPrivacy(userId, request);
  }

  async getPrivacy(userId: string): Promise<Privacy> {
    this.requireUpdate(userId);
    return this.#presence.getPrivacy(userId);
  }

  async revokeTokens(request: RevocationRequest): Promise<number> {
    if (!mayOperate(this.principal)) throw this.#refuse('revoke tokens');
    return this.#presence.revokeTokens(request);
  }

  async deleteUser(userId: string): Promise<void> {
    if (!mayOperate(this.principal)) throw this.#refuse('delete users');
    return this.#presence.deleteUser(userId);
  }

  watch(userId: string | null, sink: EndableSink): RunningWatch {
    const principal = this.#open.require(this.#principal);
    if (userId !== null) this.requireUpdate(userId, principal);
    this.requireRead(principal);
    const watch = this.#presence.watch(userId, sink);
    const policed =
      this.#policy && new PolicedRunningWatch(watch, sink, principal, this.#policy, this.#watchRefused);
    const held = new HeldCredential({
      open: this.#open,
      principal,
      toleranceMs: this.#toleranceMs,
      ...(sink.expiring && { expiring: (expiresInMs: number) => sink.expiring?.(expiresInMs) }),
      mayGoOn: (now) => {
        if (lessThanBefore(now, principal, userId ?? '')) return false;
        policed?.renew(now);
        return true;
      },
      end: (error) => sink.end(error),
    });
    return new CredentialWatch(policed ?? watch, held);
  }

  subscribe(sink: RevocableSink): Subscription {
    const subscription = this.#presence.subscribe(sink);
    const policy = this.#policy;
    if (!policy) return subscription;
    const policed = new PolicedWatch({
      judge: (userIds) => policy.judge(this.#principal, userIds),
      watched: () => subscription.userIds,
      end: (userIds, error) => {
        subscription.unwatch(userIds);
        sink.revoked(error);
      },
    });
    subscription.onClosed(() => policed.close());
    this.#policedWatch = policed;
    return subscription;
  }

  async addWatched(
    subscription: Subscription,
    userIds: readonly string[],
    knownVersions?: ReadonlyMap<string, number>,
  ): Promise<void> {
    this.requireRead();
    const policy = this.#policy;
    const judgement = await policy
      ?.require(this.#principal, userIds, 'user_ids', policy.maxWatchedUsers)
      .catch((error: unknown) => {
        throw this.#watchRefused(error);
      });
    await this.#presence.addWatched(subscription, userIds, knownVersions);
    if (judgement) this.#policedWatch?.note(judgement);
  }

  /** @throws PresenceError UNAUTHORIZED */
  requireUpdate(userId: string, principal = this.principal): void {
    if (!mayUpdate(principal, userId)) throw this.#refuse('update this user');
  }

  /** @throws PresenceError UNAUTHORIZED */
  requireRead(principal = this.principal): void {
    if (!mayRead(principal)) throw this.#refuse('ask for users');
  }

  async #requireWatch(userIds: readonly string[], field: string, maxUsers: number): Promise<void> {
    try {
      await this.#policy?.require(this.#principal, userIds, field, maxUsers);
    } catch (error) {
      throw this.#watchRefused(error);
    }
  }

  #refuse(operation: string): PresenceError {
    const error = refused(operation);
    this.#audit?.refused(this.principal, operation, error.message);
    return error;
  }

  /** The policy's no is told without the user whom it is about. */
  readonly #watchRefused = (error: unknown): unknown => {
    const isRefusal = PresenceError.from(error).code === 'UNAUTHORIZED';
    if (isRefusal) this.#audit?.refused(this.principal, 'watch users', 'WATCH_POLICY does not allow it');
    return error;
  };
}

/** A watch that ends as a whole when one of its users may no longer be watched: its stream can say no less. */
class PolicedRunningWatch implements RunningWatch {
  readonly #watch: RunningWatch;
  readonly #policy: WatchPolicy;
  readonly #policed: PolicedWatch;
  readonly #onRefused: (error: unknown) => unknown;
  #principal: Principal;
  #userIds: readonly string[] = [];

  constructor(
    watch: RunningWatch,
    sink: EndableSink,
    principal: Principal,
    policy: WatchPolicy,
    onRefused: (error: unknown) => unknown,
  ) {
    this.#onRefused = onRefused;
    this.#watch = watch;
    this.#principal = principal;
    this.#policy = policy;
    this.#policed = new PolicedWatch({
      judge: (userIds) => policy.judge(this.#principal, userIds),
      watched: () => this.#userIds,
      end: (_userIds, error) => sink.end(error),
    });
  }

  get expiresAtMs(): number {
    return this.#watch.expiresAtMs;
  }

  /** The same caller with other permissions: what they no longer let it watch ends. */
  renew(principal: Principal): void {
    this.#principal = principal;
    this.#policed.recheck();
  }

  async add(userIds: readonly string[]): Promise<void> {
    const { maxWatchedUsers } = this.#policy;
    const judgement = await this.#policy
      .require(this.#principal, userIds, 'watch_user_ids', maxWatchedUsers)
      .catch((error: unknown) => {
        throw this.#onRefused(error);
      });
    await this.#watch.add(userIds);
    this.#userIds = [...this.#userIds, ...userIds];
    this.#policed.note(judgement);
  }

  drained(): void {
    this.#watch.drained();
  }

  close(): Promise<void> {
    this.#policed.close();
    return this.#watch.close();
  }
}

/** A watch that ends with its caller's credentials, and says so a while before they expire. */
class CredentialWatch implements RunningWatch {
  readonly #watch: RunningWatch;
  readonly #held: HeldCredential;

  constructor(watch: RunningWatch, held: HeldCredential) {
    this.#watch = watch;
    this.#held = held;
  }

  get expiresAtMs(): number {
    return this.#held.principal.expiresAtMs;
  }

  add(userIds: readonly string[]): Promise<void> {
    return this.#watch.add(userIds);
  }

  drained(): void {
    this.#watch.drained();
  }

  close(): Promise<void> {
    this.#held.close();
    return this.#watch.close();
  }
}

/**
 * Why a session of a user, or an observer session, may not go on with changed credentials; undefined: it may. What it does
 * by itself, its lease and its watches, asks for nothing again, so it is settled here.
 *
 * @param userId empty: an observer session
 */
export function lessThanBefore(now: Principal, before: Principal, userId: string): PresenceError | undefined {
  if (userId !== '' && !mayUpdate(now, userId)) return refused('go on with a session of this user');
  if (mayRead(before) && !mayRead(now)) return refused('go on with a session that may ask for users');
  if (seesLess(now, before)) return refused('go on with a session that may see everything');
  return undefined;
}

/** What open watches show was settled when they began. */
function seesLess(now: Principal, before: Principal): boolean {
  return viewerOf(before).seesAll && !viewerOf(now).seesAll;
}

export function refused(what: string): PresenceError {
  return new PresenceError('UNAUTHORIZED', `this token does not allow you to ${what}`);
}
