import { build, encodeIntoCompressedBase64, type Histogram } from 'hdr-histogram-js';

/** Longest time that a histogram holds apart; longer ones count as this. Ten minutes, in microseconds. */
const longestUs = 600_000_000;

/** Histogram of microseconds, exact to 0.1 %. */
export function newHistogram(significantDigits: 2 | 3 = 3): Histogram {
  return build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: longestUs,
    numberOfSignificantValueDigits: significantDigits,
  }) as Histogram;
}

/** One second of a series, as it goes from a load process to the coordinator. */
export interface SecondReport {
  readonly second: number;
  readonly errors: number;
  /** HDR histogram of microseconds, compressed, base64; two significant digits. */
  readonly histogram: string;
}

/** What a load process found of one kind of call or event. */
export interface SeriesReport {
  readonly name: string;
  readonly errors: number;
  /** HDR histogram of microseconds, compressed, base64. */
  readonly histogram: string;
  readonly seconds: readonly SecondReport[];
}

interface Second {
  errors: number;
  readonly histogram: Histogram;
}

/** Times of one kind of call or event. */
export class Series {
  readonly name: string;
  readonly #histogram = newHistogram();
  readonly #seconds = new Map<number, Second>();
  readonly #window: Window;
  #errors = 0;
  #lastSecond = -1;
  #last: Second | undefined;

  constructor(name: string, window: Window) {
    this.name = name;
    this.#window = window;
  }

  get count(): number {
    return this.#histogram.totalCount;
  }

  get errors(): number {
    return this.#errors;
  }

  /**
   * @param intendedMs when it should have begun by the load's own clockwork, not when it could: the time that a stalled
   *   server made it wait counts (this is the correction of coordinated omission)
   */
  ok(intendedMs: number, endMs: number): void {
    if (intendedMs < this.#window.fromMs || intendedMs >= this.#window.toMs) return;
    const us = Math.min(longestUs, Math.max(1, Math.round((endMs - intendedMs) * 1000)));
    this.#histogram.recordValue(us);
    this.#secondOf(intendedMs).histogram.recordValue(us);
  }

  failed(intendedMs: number): void {
    if (intendedMs < this.#window.fromMs || intendedMs >= this.#window.toMs) return;
    this.#errors++;
    this.#secondOf(intendedMs).errors++;
  }

  report(): SeriesReport {
    const seconds = [...this.#seconds].map(([second, { errors, histogram }]) => ({
      second,
      errors,
      histogram: encodeIntoCompressedBase64(histogram),
    }));
    return {
      name: this.name,
      errors: this.#errors,
      histogram: encodeIntoCompressedBase64(this.#histogram),
      seconds,
    };
  }

  #secondOf(ms: number): Second {
    const number = Math.floor((ms - this.#window.fromMs) / 1000);
    if (this.#last && number === this.#lastSecond) return this.#last;
    let second = this.#seconds.get(number);
    if (!second) {
      second = { errors: 0, histogram: newHistogram(2) };
      this.#seconds.set(number, second);
    }
    this.#lastSecond = number;
    this.#last = second;
    return second;
  }
}

interface Window {
  fromMs: number;
  toMs: number;
}

/** How the same fact of several processes becomes one. */
export type FactMerge = 'sum' | 'max';

export interface Fact {
  readonly value: number;
  readonly unit: string;
  readonly merge: FactMerge;
}

/** All that one load process finds. Only what was meant to begin inside the window counts: warm-up does not. */
export class Recorder {
  readonly #window: Window = { fromMs: Number.POSITIVE_INFINITY, toMs: Number.POSITIVE_INFINITY };
  readonly #series = new Map<string, Series>();
  readonly #facts = new Map<string, Fact>();

  /** Times are readings of `monoMs`. */
  setWindow(fromMs: number, toMs: number): void {
    this.#window.fromMs = fromMs;
    this.#window.toMs = toMs;
  }

  series(name: string): Series {
    let series = this.#series.get(name);
    if (!series) {
      series = new Series(name, this.#window);
      this.#series.set(name, series);
    }
    return series;
  }

  /** A number that is not a time of a call, such as sessions that were lost. */
  fact(name: string, value: number, unit: string, merge: FactMerge = 'sum'): void {
    this.#facts.set(name, { value, unit, merge });
  }

  get done(): number {
    let done = 0;
    for (const { count } of this.#series.values()) done += count;
    return done;
  }

  get errors(): number {
    let errors = 0;
    for (const series of this.#series.values()) errors += series.errors;
    return errors;
  }

  report(): { series: SeriesReport[]; facts: Record<string, Fact> } {
    return {
      series: [...this.#series.values()].map((series) => series.report()),
      facts: Object.fromEntries(this.#facts),
    };
  }
}
