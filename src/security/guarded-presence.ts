import type { CustomStatusRequest } from '../core/custom-status.ts';
import { PresenceError } from '../core/errors.ts';
import type { Activity, Status, UserState } from '../core/presence.ts';
import { mayRead, mayReadConnections, mayUpdate, type Principal } from '../core/principal.ts';
import type { ConnectionSeen } from '../core/store.ts';
import {
  type EndableSink,
  type HeartbeatResult,
  type PresenceApi,
  type RunningWatch,
  tokenNoticeMs,
} from '../presence/presence-api.ts';
import type { Subscription, WatchSink } from '../presence/subscription.ts';
import { expired } from './authenticator.ts';

/** Longest wait of a Node timer. */
const maxTimerMs = 2 ** 31 - 1;

/** What one principal may do. Every method throws PresenceError UNAUTHORIZED where it may not. */
export class GuardedPresence implements PresenceApi {
  readonly principal: Principal;
  readonly #presence: PresenceApi;
  readonly #toleranceMs: number;

  constructor(presence: PresenceApi, principal: Principal, toleranceMs: number) {
    this.principal = principal;
    this.#presence = presence;
    this.#toleranceMs = toleranceMs;
  }

  async setStatus(userId: string, status: Status, activity: Activity | null): Promise<UserState> {
    this.requireUpdate(userId);
    return this.#presence.setStatus(userId, status, activity);
  }

  async getStatus(userId: string): Promise<UserState> {
    this.requireRead();
    return this.#presence.getStatus(userId);
  }

  async getStatuses(userIds: readonly string[]): Promise<UserState[]> {
    this.requireRead();
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
    return this.#presence.getConnections(userId);
  }

  watch(userId: string | null, sink: EndableSink): RunningWatch {
    if (userId !== null) this.requireUpdate(userId);
    this.requireRead();
    const watch = this.#presence.watch(userId, sink);
    const { expiresAtMs } = this.principal;
    if (expiresAtMs === Number.POSITIVE_INFINITY) return watch;
    return new ExpiringWatch(watch, sink, expiresAtMs, this.#toleranceMs);
  }

  subscribe(sink: WatchSink): Subscription {
    return this.#presence.subscribe(sink);
  }

  async addWatched(
    subscription: Subscription,
    userIds: readonly string[],
    knownVersions?: ReadonlyMap<string, number>,
  ): Promise<void> {
    this.requireRead();
    await this.#presence.addWatched(subscription, userIds, knownVersions);
  }

  /** @throws PresenceError UNAUTHORIZED */
  requireUpdate(userId: string): void {
    if (!mayUpdate(this.principal, userId)) throw refused('update this user');
  }

  /** @throws PresenceError UNAUTHORIZED */
  requireRead(): void {
    if (!mayRead(this.principal)) throw refused('ask for users');
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
