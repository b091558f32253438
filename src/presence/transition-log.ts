import type { Cause, UserState } from '../core/presence.ts';
import type { Log } from '../observe/log.ts';
import { Histogram } from '../observe/measure.ts';
import type { WatchHub } from './watch-hub.ts';

export interface TransitionLogOptions {
  readonly hub: WatchHub;
  readonly ttlMs: number;
  /** Unix ms, for the age of what arrives. */
  readonly nowMs: () => number;
  readonly log: Log;
}

/** Newest transitions kept for those who come to look. */
export const keptTransitions = 500;
const followRetryMs = 1000;

/**
 * What happened lately in the whole system, as this node saw it: the newest transitions, and counts of all of them. It
 * follows every partition, so it is how one who knows no user ids learns that users exist, without a scan of the engine.
 */
export class TransitionLog {
  readonly #options: TransitionLogOptions;
  readonly #kept: UserState[] = [];
  readonly #counts: Record<Cause, number> = {
    SET: 0,
    HEARTBEAT: 0,
    CONNECT: 0,
    DISCONNECT: 0,
    EXPIRED: 0,
    NODE_LOST: 0,
  };
  readonly #feedLag = new Histogram();
  readonly #expiryLateness = new Histogram();
  readonly #listeners = new Set<(states: readonly UserState[]) => void>();
  #isFollowing = false;
  #retryTimer: NodeJS.Timeout | undefined;

  constructor(options: TransitionLogOptions) {
    this.#options = options;
    options.hub.onTransitions((states) => this.#take(states));
  }

  /** Begins to follow. Resolves when it does, or when the first attempt failed; it goes on trying then. */
  start(): Promise<void> {
    return this.#follow();
  }

  stop(): void {
    clearTimeout(this.#retryTimer);
  }

  /** The newest transitions, oldest first; at most `keptTransitions`. */
  recent(): readonly UserState[] {
    return this.#kept.slice(-keptTransitions);
  }

  /** Shows transitions as they come. Must not throw. @returns ends it */
  listen(listener: (states: readonly UserState[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  stats(): TransitionStats {
    return {
      counts: this.#counts,
      feedLag: this.#feedLag,
      expiryLateness: this.#expiryLateness,
      isFollowing: this.#isFollowing,
      listeners: this.#listeners.size,
    };
  }

  #follow(): Promise<void> {
    return this.#options.hub.followAll().then(
      () => {
        this.#isFollowing = true;
      },
      (error: unknown) => {
        this.#options.log.debug({ err: error }, 'not all partitions are followed yet, trying again');
        this.#retryTimer = setTimeout(() => void this.#follow(), followRetryMs).unref();
      },
    );
  }

  #take(states: readonly UserState[]): void {
    const nowMs = this.#options.nowMs();
    for (const state of states) {
      if (state.cause === null) {
        this.#forget(state.userId);
        continue;
      }
      this.#counts[state.cause]++;
      this.#feedLag.observe(Math.max(0, nowMs - state.changedAtMs) / 1000);
      if (state.cause === 'EXPIRED') {
        const deadlineMs = state.lastSeenMs + this.#options.ttlMs;
        this.#expiryLateness.observe(Math.max(0, state.changedAtMs - deadlineMs) / 1000);
      }
    }
    this.#kept.push(...states.slice(-keptTransitions).filter(({ cause }) => cause !== null));
    if (this.#kept.length > 2 * keptTransitions) this.#kept.splice(0, this.#kept.length - keptTransitions);
    for (const listener of this.#listeners) listener(states);
  }

  /** A user who was deleted. */
  #forget(userId: string): void {
    const kept = this.#kept.filter((state) => state.userId !== userId);
    this.#kept.splice(0, this.#kept.length, ...kept);
  }
}

export interface TransitionStats {
  /** All transitions seen since the start. */
  readonly counts: Readonly<Record<Cause, number>>;
  /** From a transition (the engine's clock) to its arrival here (this machine's clock), seconds. */
  readonly feedLag: Histogram;
  /** How long after the lease's deadline the user was judged, seconds. */
  readonly expiryLateness: Histogram;
  /** Whether every partition is followed. */
  readonly isFollowing: boolean;
  readonly listeners: number;
}
