import { isSameCustomStatus } from '../core/custom-status.ts';
import type { UserState } from '../core/presence.ts';
import { nextFaceChangeMs, seenBy, type Viewer } from '../core/sight.ts';

export interface SightsOptions {
  /** How long an OFFLINE user is remembered, ms. */
  readonly lastSeenTtlMs: number;
  /**
   * Unix ms, as the engine's clock has it; default: this machine's clock. Only for what ends unseen by the engine: custom
   * statuses of hidden users.
   */
  readonly nowMs?: () => number;
}

/** What viewers see of users, now. */
export class Sights {
  readonly nowMs: () => number;
  readonly #lastSeenTtlMs: number;

  constructor({ lastSeenTtlMs, nowMs = Date.now }: SightsOptions) {
    this.#lastSeenTtlMs = lastSeenTtlMs;
    this.nowMs = nowMs;
  }

  /** @param isReciprocal whether the viewer's own last seen is shown to others */
  of(viewer: Viewer, state: UserState, isReciprocal: boolean, nowMs = this.nowMs()): UserState {
    if (!state.privacy) return state;
    return seenBy(viewer, state, { nowMs, lastSeenTtlMs: this.#lastSeenTtlMs, isReciprocal });
  }

  /** How long until what viewers see of a user changes by itself, ms; Infinity: it will not. */
  nextChangeMs({ privacy }: UserState): number {
    const nowMs = this.nowMs();
    return privacy ? nextFaceChangeMs(privacy, nowMs) - nowMs : Number.POSITIVE_INFINITY;
  }
}

/** Whether what a viewer sees is as before, but for times. */
export function isSeenAlike(before: UserState, after: UserState): boolean {
  return (
    before.status === after.status &&
    before.activity === after.activity &&
    isSameCustomStatus(before.customStatus, after.customStatus)
  );
}

/** Whether a viewer sees the same as before. */
export function isSeenSame(before: UserState, after: UserState): boolean {
  return (
    isSeenAlike(before, after) &&
    before.sinceMs === after.sinceMs &&
    // While ONLINE it moves with every renewal, and is no news.
    (after.status === 'ONLINE' || before.lastSeenMs === after.lastSeenMs)
  );
}
