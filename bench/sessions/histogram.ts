/** Values in steps of one percent: enough for percentiles, small enough to be sent between processes. */
export interface SparseHistogram {
  record(value: number): void;
  /** Pairs of value and count. */
  values(): [value: number, count: number][];
}

const logStep = Math.log(1.01);

export function newHistogram(): SparseHistogram {
  const counts = new Map<number, number>();
  return {
    record(value) {
      const bucket = Math.round(Math.log(value) / logStep);
      counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
    },
    values: () => [...counts].map(([bucket, count]) => [Math.exp(bucket * logStep), count]),
  };
}

/** The value that a share `q` of all does not exceed; NaN of nothing. */
export function percentile(pairs: readonly (readonly [value: number, count: number])[], q: number): number {
  const sorted = [...pairs].sort(([a], [b]) => a - b);
  const total = sorted.reduce((sum, [, count]) => sum + count, 0);
  let seen = 0;
  for (const [value, count] of sorted) {
    seen += count;
    if (seen >= q * total) return value;
  }
  return Number.NaN;
}
