export interface BackoffOptions {
  /** Longest wait before the first retry, ms; default 500. */
  readonly baseMs?: number;
  /** Longest wait of all, ms; default 30,000. */
  readonly maxMs?: number;
  /** From 0 to 1; default Math.random. */
  readonly random?: () => number;
}

/**
 * Exponential backoff with full jitter: a wait is anything from nothing to the bound, which doubles with each failure. A
 * floor keeps even the luckiest client from hammering.
 */
export class Backoff {
  readonly #baseMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #failures = 0;

  constructor({ baseMs = 500, maxMs = 30_000, random = Math.random }: BackoffOptions = {}) {
    this.#baseMs = baseMs;
    this.#maxMs = maxMs;
    this.#random = random;
  }

  /** The wait before the next attempt, ms. */
  next(): number {
    const boundMs = Math.min(this.#maxMs, this.#baseMs * 2 ** Math.min(this.#failures, 30));
    const floorMs = Math.min(this.#baseMs / 5, boundMs);
    this.#failures++;
    return floorMs + this.#random() * (boundMs - floorMs);
  }

  /** The connection has proved good. */
  reset(): void {
    this.#failures = 0;
  }
}
