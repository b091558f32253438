import type { Log } from '../../observe/log.ts';

/** Times in which partitions were away: counted, and told to the operator once when one begins and once when it ends. */
export class Outages {
  readonly #log: Log;
  #sinceMs: number | undefined;
  #count = 0;
  #pastMs = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  get isRunning(): boolean {
    return this.#sinceMs !== undefined;
  }

  get count(): number {
    return this.#count;
  }

  /** All together, the running one included, ms. */
  get totalMs(): number {
    const runningMs = this.#sinceMs === undefined ? 0 : performance.now() - this.#sinceMs;
    return Math.round(this.#pastMs + runningMs);
  }

  /** @param away how many partitions are */
  update(
    away: number,
    facts: () => { readonly servers: readonly unknown[]; readonly reason: unknown },
  ): void {
    if (away > 0 && this.#sinceMs === undefined) {
      this.#sinceMs = performance.now();
      this.#count++;
      this.#log.warn(
        { partitions: away, ...facts() },
        'redis is not available: calls fail with REDIS_ERROR, streams stay open, nobody goes OFFLINE for it',
      );
    } else if (away === 0 && this.#sinceMs !== undefined) {
      const outageMs = Math.round(performance.now() - this.#sinceMs);
      this.#sinceMs = undefined;
      this.#pastMs += outageMs;
      this.#log.info({ outageMs }, 'redis is available again');
    }
  }
}
