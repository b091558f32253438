import type { CustomStatusRequest } from '../core/custom-status.ts';
import { PresenceError } from '../core/errors.ts';
import type { Activity, Status, UserState } from '../core/presence.ts';
import { mayRead, mayReadConnections, mayUpdate, type Principal } from '../core/principal.ts';
import type { Privacy } from '../core/privacy.ts';
import type { ConnectionSeen } from '../core/store.ts';
import { maxTimerMs } from '../core/timer.ts';
import {
  type EndableSink,
  type HeartbeatResult,
  type PresenceApi,
  type PrivacyRequest,
  type RevocableSink,
  type RunningWatch,
  tokenNoticeMs,
} from '../presence/presence-api.ts';
import type { Subscription } from '../presence/subscription.ts';
import { expired } from './authenticator.ts';
import { PolicedWatch } from './policed-watch.ts';
import type { WatchPolicy } from './watch-policy.ts';

export interface GuardedPresenceOptions {
  readonly presence: PresenceApi;
  readonly principal: Principal;
  /** How long after their expiry the principal's credentials still count. */
  readonly toleranceMs: number;
  /** undefined: who may see anybody may see everybody. */
  readonly policy: WatchPolicy | undefined;
}

/**
 * What one principal may do. Every method throws PresenceError UNAUTHORIZED where it may not, REDIS_ERROR where the watch
 * policy does not answer.
 */
export class GuardedPresence implements PresenceApi {
  readonly #presence: PresenceApi;
  readonly #toleranceMs: number;
  readonly #policy: WatchPolicy | undefined;
  #principal: Principal;
  /** Of the one subscription of a session. */
  #policedWatch: PolicedWatch | undefined;

  constructor({ presence, principal, toleranceMs, policy }: GuardedPresenceOptions) {
    this.#presence = presence;
    this.#principal = principal;
    this.#toleranceMs = toleranceMs;
    this.#policy = policy;
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
    if (!mayReadConnections(this.principal, userId)) throw refused('see the connections of this user');
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

  watch(userId: string | null, sink: EndableSink): RunningWatch {
    if (userId !== null) this.requireUpdate(userId);
    this.requireRead();
    const watch = this.#presence.watch(userId, sink);
    const policed = this.#policy
      ? new PolicedRunningWatch(watch, sink, this.#principal, this.#policy)
      : watch;
    const { expiresAtMs } = this.#principal;
    if (expiresAtMs === Number.POSITIVE_INFINITY) return policed;
    return new ExpiringWatch(policed, sink, expiresAtMs, this.#toleranceMs);
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
    const judgement = await policy?.require(this.#principal, userIds, 'user_ids', policy.maxWatchedUsers);
    await this.#presence.addWatched(subscription, userIds, knownVersions);
    if (judgement) this.#policedWatch?.note(judgement);
  }

  /** @throws PresenceError UNAUTHORIZED */
  requireUpdate(userId: string): void {
    if (!mayUpdate(this.principal, userId)) throw refused('update this user');
  }

  /** @throws PresenceError UNAUTHORIZED */
  requireRead(): void {
    if (!mayRead(this.principal)) throw refused('ask for users');
  }

  async #requireWatch(userIds: readonly string[], field: string, maxUsers: number): Promise<void> {
    await this.#policy?.require(this.#principal, userIds, field, maxUsers);
  }
}

/** A watch that ends as a whole when one of its users may no longer be watched: its stream can say no less. */
class PolicedRunningWatch implements RunningWatch {
  readonly #watch: RunningWatch;
  readonly #principal: Principal;
  readonly #policy: WatchPolicy;
  readonly #policed: PolicedWatch;
  #userIds: readonly string[] = [];

  constructor(watch: RunningWatch, sink: EndableSink, principal: Principal, policy: WatchPolicy) {
    this.#watch = watch;
    this.#principal = principal;
    this.#policy = policy;
    this.#policed = new PolicedWatch({
      judge: (userIds) => policy.judge(principal, userIds),
      watched: () => this.#userIds,
      end: (_userIds, error) => sink.end(error),
    });
  }

  get expiresAtMs(): number {
    return this.#watch.expiresAtMs;
  }

  async add(userIds: readonly string[]): Promise<void> {
    const { maxWatchedUsers } = this.#policy;
    const judgement = await this.#policy.require(this.#principal, userIds, 'watch_user_ids', maxWatchedUsers);
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

/** A watch that ends with its caller's credentials, and tells of it before. */
class ExpiringWatch implements RunningWatch {
  readonly expiresAtMs: number;
  readonly #watch: RunningWatch;
  readonly #sink: EndableSink;
  readonly #toleranceMs: number;
  #isTold = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(watch: RunningWatch, sink: EndableSink, expiresAtMs: number, toleranceMs: number) {
    this.#watch = watch;
    this.#sink = sink;
    this.expiresAtMs = expiresAtMs;
    this.#toleranceMs = toleranceMs;
    this.#isTold = sink.expiring === undefined;
    this.#plan();
  }

  add(userIds: readonly string[]): Promise<void> {
    return this.#watch.add(userIds);
  }

  drained(): void {
    this.#watch.drained();
  }

  close(): Promise<void> {
    clearTimeout(this.#timer);
    return this.#watch.close();
  }

  #plan(): void {
    const dueMs = this.#isTold ? this.expiresAtMs + this.#toleranceMs : this.expiresAtMs - tokenNoticeMs;
    const waitMs = Math.max(0, Math.min(dueMs - Date.now(), maxTimerMs));
    this.#timer = setTimeout(() => this.#check(), waitMs);
    this.#timer.unref();
  }

  #check(): void {
    const leftMs = this.expiresAtMs - Date.now();
    if (leftMs + this.#toleranceMs <= 0) {
      this.#sink.end(expired());
      return;
    }
    if (!this.#isTold && leftMs <= tokenNoticeMs) {
      this.#isTold = true;
      this.#sink.expiring?.(Math.max(0, leftMs));
    }
    this.#plan();
  }
}

export function refused(what: string): PresenceError {
  return new PresenceError('UNAUTHORIZED', `this token does not allow you to ${what}`);
}
