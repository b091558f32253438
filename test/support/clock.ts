import type { Clock } from '../../src/store/clock.ts';

/** A clock that stands until it is told to go on. */
export class FakeClock implements Clock {
  #nowMs: number;

  constructor(startMs = 1_700_000_000_000) {
    this.#nowMs = startMs;
  }

  readonly nowMs = (): number => this.#nowMs;

  advance(ms: number): void {
    this.#nowMs += ms;
  }
}
