import type { CustomStatusRequest } from '../core/custom-status.ts';
import { PresenceError } from '../core/errors.ts';
import type { Activity, Status, UserState } from '../core/presence.ts';
import { mayRead, mayReadConnections, mayUpdate, type Principal } from '../core/principal.ts';
import type { ConnectionSeen } from '../core/store.ts';
import type { EndableSink, HeartbeatResult, PresenceApi, RunningWatch } from '../presence/presence-api.ts';
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
    const endsMs = this.principal.expiresAtMs + this.#toleranceMs;
    return endsMs === Number.POSITIVE_INFINITY ? watch : new ExpiringWatch(watch, sink, endsMs);
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

/** A watch that ends with its caller's credentials. */
class ExpiringWatch implements RunningWatch {
  readonly #watch: RunningWatch;
  readonly #sink: EndableSink;
  readonly #endsMs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(watch: RunningWatch, sink: EndableSink, endsMs: number) {
    this.#watch = watch;
    this.#sink = sink;
    this.#endsMs = endsMs;
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
    const waitMs = this.#endsMs - Date.now();
    this.#timer = setTimeout(
      () => (this.#endsMs > Date.now() ? this.#plan() : this.#sink.end(expired())),
      Math.max(0, Math.min(waitMs, maxTimerMs)),
    );
    this.#timer.unref();
  }
}

export function refused(what: string): PresenceError {
  return new PresenceError('UNAUTHORIZED', `this token does not allow you to ${what}`);
}
