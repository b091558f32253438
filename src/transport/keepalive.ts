import { PresenceError } from '../core/errors.ts';

const minIntervalMs = 1000;
const maxIntervalMs = 3_600_000;

/**
 * Reads `keepalive_interval_ms` of a request.
 *
 * @returns the longest silence that the client allows, ms; 0: any
 * @throws PresenceError INVALID_ARGUMENT
 */
export function keepaliveIntervalMs(value: bigint): number {
  if (value === 0n) return 0;
  if (value < minIntervalMs || value > maxIntervalMs) {
    throw PresenceError.invalidArgument(
      'keepalive_interval_ms',
      `must be 0 or from ${minIntervalMs} to ${maxIntervalMs}`,
    );
  }
  return Number(value);
}

/** Sends a sign of life on a stream of events that would be quiet for longer than its client allows. */
export class Keepalive {
  readonly #intervalMs: number;
  readonly #send: () => void;
  #timer: NodeJS.Timeout | undefined;
  #spokeMs = 0;

  /**
   * @param intervalMs longest silence, ms; 0: any, and nothing is ever sent
   * @param send sends the sign of life
   */
  constructor(intervalMs: number, send: () => void) {
    this.#intervalMs = intervalMs;
    this.#send = send;
    if (intervalMs === 0) return;
    this.spoke();
    this.#wait(intervalMs);
  }

  /** An event was sent. */
  spoke(): void {
    if (this.#intervalMs > 0) this.#spokeMs = performance.now();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #wait(forMs: number): void {
    this.#timer = setTimeout(() => this.#check(), forMs);
  }

  #check(): void {
    const leftMs = this.#spokeMs + this.#intervalMs - performance.now();
    // Timers may fire a millisecond early.
    if (leftMs > 1) {
      this.#wait(leftMs);
      return;
    }
    this.spoke();
    this.#wait(this.#intervalMs);
    this.#send();
  }
}
