/** A rate for each of many keys: so much a second, and a burst at once. Memory is bounded by `maxKeys`. */
export class TokenBuckets {
  readonly #perSecond: number;
  readonly #burst: number;
  readonly #maxKeys: number;
  readonly #nowMs: () => number;
  /** Oldest first. */
  readonly #buckets = new Map<string, { level: number; atMs: number }>();

  /**
   * @param perSecond 0: no limit
   * @param burst what a key has at most; default: two seconds' worth
   * @param nowMs monotonic
   */
  constructor(perSecond: number, burst = perSecond * 2, maxKeys = 100_000, nowMs = () => performance.now()) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#maxKeys = maxKeys;
    this.#nowMs = nowMs;
  }

  get isLimited(): boolean {
    return this.#perSecond > 0;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /**
   * Takes `cost` from a key's bucket. One that has at least one gives whatever is asked, and is in debt then: so a cost above
   * the burst passes once, and is waited for after.
   *
   * @returns 0: taken; else how long until there is something again, ms
   */
  take(key: string, cost: number): number {
    if (this.#perSecond === 0) return 0;
    const nowMs = this.#nowMs();
    const waitMs = this.#wait(key, nowMs);
    if (waitMs > 0) return waitMs;
    const bucket = this.#buckets.get(key) ?? { level: this.#burst, atMs: nowMs };
    bucket.level = this.#level(bucket, nowMs) - cost;
    bucket.atMs = nowMs;
    // Those used last stay longest; who was silent for long is full again anyway.
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > this.#maxKeys) {
      const [oldest] = this.#buckets.keys();
      this.#buckets.delete(oldest as string);
    }
    return 0;
  }

  /** The same, taking nothing. */
  wait(key: string): number {
    return this.#wait(key, this.#nowMs());
  }

  #wait(key: string, nowMs: number): number {
    const bucket = this.#buckets.get(key);
    if (!bucket) return 0;
    const level = this.#level(bucket, nowMs);
    return level >= 1 ? 0 : Math.ceil(((1 - level) / this.#perSecond) * 1000);
  }

  #level({ level, atMs }: { level: number; atMs: number }, nowMs: number): number {
    return Math.min(this.#burst, level + ((nowMs - atMs) / 1000) * this.#perSecond);
  }
}
