/**
 * What components count and time. Measuring is a few additions to plain numbers, so it can sit on the hottest path; the
 * numbers are collected when somebody asks (metrics.ts, monitor.ts).
 */

/** Bounds for what takes from 50 us to seconds. */
export const latencyBoundsSeconds: readonly number[] = [
  0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
];

/** Counts of values by size. */
export class Histogram {
  /** Upper bounds, ascending; a last bucket without a bound follows. */
  readonly bounds: readonly number[];
  /** Values in each bucket: more than the bound before, at most its own. */
  readonly counts: Float64Array;
  #sum = 0;
  #count = 0;

  constructor(bounds: readonly number[] = latencyBoundsSeconds) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  get sum(): number {
    return this.#sum;
  }

  get count(): number {
    return this.#count;
  }

  observe(value: number): void {
    const { bounds, counts } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket++;
    (counts[bucket] as number) += 1;
    this.#sum += value;
    this.#count += 1;
  }

  /** Observes the seconds since `startMs`, a reading of performance.now(). */
  observeSince(startMs: number): void {
    this.observe((performance.now() - startMs) / 1000);
  }
}

/** What a histogram was given between two looks at it. */
export class HistogramWindow {
  readonly #histogram: Histogram;
  #before: Float64Array;

  constructor(histogram: Histogram) {
    this.#histogram = histogram;
    this.#before = histogram.counts.slice();
  }

  /** Counts since the last call; the next window begins. */
  take(): Float64Array {
    const now = this.#histogram.counts.slice();
    const taken = now.map((count, bucket) => count - (this.#before[bucket] as number));
    this.#before = now;
    return taken;
  }
}

/**
 * The value that a share `q` (0 to 1) of the counted values does not exceed, interpolated inside its bucket; null when
 * nothing was counted. What lies beyond the last bound counts as that bound.
 */
export function quantile(bounds: readonly number[], counts: ArrayLike<number>, q: number): number | null {
  let total = 0;
  for (let bucket = 0; bucket < counts.length; bucket++) total += counts[bucket] as number;
  if (total === 0) return null;
  let rest = q * total;
  for (let bucket = 0; bucket < bounds.length; bucket++) {
    const count = counts[bucket] as number;
    if (rest <= count && count > 0) {
      const lower = bucket === 0 ? 0 : (bounds[bucket - 1] as number);
      return lower + ((bounds[bucket] as number) - lower) * (rest / count);
    }
    rest -= count;
  }
  return bounds.at(-1) as number;
}

/** Calls of one door: how many, and how long they took, by method and result. */
export class CallMeter {
  readonly #methods = new Map<string, Map<string, Histogram>>();

  /**
   * @param method one of a fixed set, never what a caller made up
   * @param code OK, or a code of the error catalogue
   * @param startMs a reading of performance.now()
   */
  observe(method: string, code: string, startMs: number): void {
    let codes = this.#methods.get(method);
    if (!codes) {
      codes = new Map();
      this.#methods.set(method, codes);
    }
    let histogram = codes.get(code);
    if (!histogram) {
      histogram = new Histogram();
      codes.set(code, histogram);
    }
    histogram.observeSince(startMs);
  }

  *entries(): Generator<{ method: string; code: string; histogram: Histogram }> {
    for (const [method, codes] of this.#methods) {
      for (const [code, histogram] of codes) yield { method, code, histogram };
    }
  }
}
