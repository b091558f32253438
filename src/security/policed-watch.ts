import type { PresenceError } from '../core/errors.ts';
import { maxTimerMs } from '../core/timer.ts';
import type { Judgement } from './lookups.ts';
import { policySilent, watchRefused } from './watch-policy.ts';

export interface PolicedWatchOptions {
  /** Never rejects. */
  readonly judge: (userIds: readonly string[]) => Judgement | Promise<Judgement>;
  /** Who is watched now. */
  readonly watched: () => readonly string[];
  /** These are to be watched no more. */
  readonly end: (userIds: readonly string[], error: PresenceError) => void;
}

/** However short the answers' life: a watch asks no more often than this. */
const minRecheckMs = 1000;

/**
 * An open watch under a policy: its users are judged again when the first permission ages, and taken off when they are
 * refused, or when nobody could say for longer than a permission may outlive its age.
 */
export class PolicedWatch {
  readonly #options: PolicedWatchOptions;
  #askAgainMs = Number.POSITIVE_INFINITY;
  #believedUntilMs = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #isChecking = false;
  #isCheckWanted = false;
  #isClosed = false;

  constructor(options: PolicedWatchOptions) {
    this.#options = options;
  }

  /** Users are watched from now on who were judged so. */
  note({ freshUntilMs, staleUntilMs }: Judgement): void {
    this.#askAgainMs = Math.min(this.#askAgainMs, freshUntilMs);
    this.#believedUntilMs = Math.min(this.#believedUntilMs, staleUntilMs);
    this.#plan();
  }

  /** Judges all anew, now: the watcher's permissions are others. */
  recheck(): void {
    this.#isCheckWanted = true;
    if (this.#isChecking || this.#isClosed) return;
    this.#isChecking = true;
    void this.#check().finally(() => {
      this.#isChecking = false;
      this.#plan();
    });
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #plan(): void {
    clearTimeout(this.#timer);
    if (this.#isClosed || this.#isChecking || this.#askAgainMs === Number.POSITIVE_INFINITY) return;
    const waitMs = this.#askAgainMs - performance.now();
    const boundedMs = Math.min(Math.max(waitMs, minRecheckMs), maxTimerMs);
    this.#timer = setTimeout(() => this.recheck(), boundedMs).unref();
  }

  async #check(): Promise<void> {
    while (this.#isCheckWanted && !this.#isClosed) {
      this.#isCheckWanted = false;
      const believedUntilMs = this.#believedUntilMs;
      this.#askAgainMs = Number.POSITIVE_INFINITY;
      this.#believedUntilMs = Number.POSITIVE_INFINITY;
      const judgement = await this.#options.judge(this.#options.watched());
      if (this.#isClosed) return;
      // What was asked before permissions changed says nothing.
      if (this.#isCheckWanted) this.#believedUntilMs = Math.min(this.#believedUntilMs, believedUntilMs);
      else this.#apply(judgement, believedUntilMs);
    }
  }

  #apply(judgement: Judgement, believedUntilMs: number): void {
    const { no, unknown } = judgement;
    const { end } = this.#options;
    this.note(judgement);
    if (no.length > 0) end(no, watchRefused(no));
    if (unknown.length === 0) return;
    const nowMs = performance.now();
    if (nowMs >= believedUntilMs) end(unknown, policySilent(unknown));
    else this.note({ ...judgement, freshUntilMs: nowMs, staleUntilMs: believedUntilMs });
  }
}
