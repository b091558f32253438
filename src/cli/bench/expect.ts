import type { RunResult, SeriesResult } from './result.ts';

const units: Readonly<Record<string, number>> = { '': 1, ms: 1, us: 0.001, s: 1000, '%': 1, k: 1000 };
const figures = ['count', 'errors', 'rate', 'mean', 'p50', 'p90', 'p99', 'p999', 'max'] as const;

/** One expectation of a run, such as `p99<50ms`, `heartbeat.rate>=8k`, `false-offline=0`. */
export interface Expectation {
  readonly text: string;
  /** A series, or undefined: the first series, or a fact. */
  readonly series: string | undefined;
  readonly figure: string;
  readonly operator: '<' | '<=' | '>' | '>=' | '=';
  readonly value: number;
}

export interface Verdict {
  readonly text: string;
  readonly isMet: boolean;
  /** What was found, for people. */
  readonly found: string;
}

/** @throws Error saying what an expectation looks like */
export function parseExpectation(text: string): Expectation {
  const match = /^(?:([a-z-]+)\.)?([a-z][a-z0-9.-]*?)\s*(<=|>=|<|>|=)\s*(\d+(?:\.\d+)?)(ms|us|s|%|k|)$/.exec(
    text,
  );
  if (!match) {
    throw new Error(`"${text}" is no expectation; write p99<50ms, rate>=8k, update.p99<100ms or lost=0`);
  }
  const [, series, figure, operator, number, unit] = match as unknown as [
    string,
    string | undefined,
    string,
    Expectation['operator'],
    string,
    string,
  ];
  const name = figure === 'p99.9' ? 'p999' : figure;
  return { text, series, figure: name, operator, value: Number(number) * (units[unit] as number) };
}

export function judge({ text, series, figure, operator, value }: Expectation, result: RunResult): Verdict {
  const found = figureOf(result, series, figure);
  if (found === undefined) return { text, isMet: false, found: 'the run has no such figure' };
  const isMet =
    operator === '<'
      ? found < value
      : operator === '<='
        ? found <= value
        : operator === '>'
          ? found > value
          : operator === '>='
            ? found >= value
            : found === value;
  return { text, isMet, found: String(Math.round(found * 1000) / 1000) };
}

function figureOf(result: RunResult, name: string | undefined, figure: string): number | undefined {
  const series: SeriesResult | undefined =
    name === undefined ? result.series[0] : result.series.find((it) => it.name === name);
  const isFigure = (figures as readonly string[]).includes(figure);
  if (!isFigure) return name === undefined ? result.facts.find((it) => it.name === figure)?.value : undefined;
  if (!series) return undefined;
  // A time of nothing at all is no time: an expectation of it is not met.
  if (series.count === 0 && figure !== 'count' && figure !== 'errors' && figure !== 'rate') return undefined;
  return series[figure as (typeof figures)[number]];
}
