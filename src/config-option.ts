/** One environment variable. docs/configuration.md is checked against this table. */
export interface ConfigOption<Value> {
  /** Name of the environment variable. */
  readonly name: string;
  /** As it would be written in the environment; empty = unset. */
  readonly default: string;
  /** Bounds, for the documentation. */
  readonly bounds: string;
  /** @throws Error whose message follows the name in a sentence: "must be ..." */
  readonly parse: (text: string) => Value;
}

export const second = 1000;
export const minute = 60 * second;
export const day = 24 * 60 * minute;

export function option<Value>(
  name: string,
  fallback: string,
  bounds: string,
  parse: (text: string) => Value,
): ConfigOption<Value> {
  return { name, default: fallback, bounds, parse };
}

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: second, m: minute, h: 60 * minute, d: day };

/** Reads a duration such as `30s`, `500ms`, `2m`. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  if (!match) throw new Error('must be a duration such as 30s, 500ms, 2m');
  return Number(match[1]) * (unitMs[match[2] as string] as number);
}

export function duration(minMs: number, maxMs: number): (text: string) => number {
  return (text) => {
    const ms = parseDuration(text);
    if (ms < minMs || ms > maxMs) throw new Error(`must be from ${minMs} ms to ${maxMs} ms`);
    return ms;
  };
}

export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,13}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max)) throw new Error(`must be a whole number from ${min} to ${max}`);
    return value;
  };
}

export function oneOf<Name extends string>(names: readonly Name[]): (text: string) => Name {
  return (text) => {
    const known = names.find((name) => name === text);
    if (known === undefined) throw new Error(`must be one of ${names.join(', ')}`);
    return known;
  };
}
