import { decodeFromCompressedBase64, type Histogram } from 'hdr-histogram-js';
import type { JobResult, ProcessHealth } from './job.ts';
import { newHistogram } from './recorder.ts';

/** Times of one kind of call or event, milliseconds. */
export interface SeriesResult {
  readonly name: string;
  readonly count: number;
  readonly errors: number;
  /** Per second of the measured time. */
  readonly rate: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  readonly seconds: readonly SecondResult[];
  /** Points of the distribution: share of values (0 to 100), ms. */
  readonly percentiles: readonly (readonly [share: number, ms: number])[];
}

export interface SecondResult {
  readonly second: number;
  readonly count: number;
  readonly errors: number;
  readonly p50: number;
  readonly p99: number;
}

export interface FactResult {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
}

export interface RunResult {
  readonly series: readonly SeriesResult[];
  readonly facts: readonly FactResult[];
  /** Of each load process. */
  readonly health: readonly ProcessHealth[];
}

const shares = [0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100];

/** Puts together what the load processes found. */
export function mergeResults(results: readonly JobResult[], durationMs: number): RunResult {
  const names = new Set(results.flatMap(({ series }) => series.map(({ name }) => name)));
  return {
    series: [...names].map((name) => mergeSeries(name, results, durationMs)),
    facts: mergeFacts(results),
    health: results.map(({ health }) => health),
  };
}

function mergeSeries(name: string, results: readonly JobResult[], durationMs: number): SeriesResult {
  const parts = results.flatMap(({ series }) => series.filter((it) => it.name === name));
  const total = newHistogram();
  const seconds = new Map<number, { errors: number; histogram: Histogram }>();
  let errors = 0;
  for (const part of parts) {
    errors += part.errors;
    add(total, part.histogram);
    for (const { second, errors: errorsThen, histogram } of part.seconds) {
      let merged = seconds.get(second);
      if (!merged) {
        merged = { errors: 0, histogram: newHistogram(2) };
        seconds.set(second, merged);
      }
      merged.errors += errorsThen;
      add(merged.histogram, histogram);
    }
  }
  const ms = (share: number): number => total.getValueAtPercentile(share) / 1000;
  // Where a load has no measured time of its own, it has the seconds in which something began.
  const measuredMs = Number.isFinite(durationMs) ? durationMs : Math.max(1, seconds.size) * 1000;
  const has = total.totalCount > 0;
  return {
    name,
    count: total.totalCount,
    errors,
    rate: (total.totalCount * 1000) / measuredMs,
    mean: has ? total.mean / 1000 : 0,
    p50: has ? ms(50) : 0,
    p90: has ? ms(90) : 0,
    p99: has ? ms(99) : 0,
    p999: has ? ms(99.9) : 0,
    max: has ? total.maxValue / 1000 : 0,
    seconds: [...seconds]
      .sort(([a], [b]) => a - b)
      .map(([second, { errors: errorsThen, histogram }]) => ({
        second,
        count: histogram.totalCount,
        errors: errorsThen,
        p50: histogram.totalCount > 0 ? histogram.getValueAtPercentile(50) / 1000 : 0,
        p99: histogram.totalCount > 0 ? histogram.getValueAtPercentile(99) / 1000 : 0,
      })),
    percentiles: has ? shares.map((share) => [share, ms(share)] as const) : [],
  };
}

function add(total: Histogram, encoded: string): void {
  total.add(decodeFromCompressedBase64(encoded) as Histogram);
}

function mergeFacts(results: readonly JobResult[]): FactResult[] {
  const merged = new Map<string, FactResult>();
  for (const { facts } of results) {
    for (const [name, { value, unit, merge }] of Object.entries(facts)) {
      const before = merged.get(name)?.value;
      const both = before === undefined ? value : merge === 'sum' ? before + value : Math.max(before, value);
      merged.set(name, { name, value: both, unit });
    }
  }
  return [...merged.values()];
}

/** Why the figures may tell more of the load generator than of the server; empty: they do not. */
export function clientLimits(result: RunResult): string[] {
  const limits: string[] = [];
  for (const [index, { cpu, loopDelayP99Ms, latenessP99Ms }] of result.health.entries()) {
    const name = `load process ${index + 1} of ${result.health.length}`;
    if (cpu > 0.9) limits.push(`${name} used ${Math.round(cpu * 100)} % of a core`);
    const delayMs = Math.max(loopDelayP99Ms, latenessP99Ms);
    if (delayMs > 20) limits.push(`${name} ran ${delayMs.toFixed(0)} ms late (p99)`);
  }
  return limits;
}
