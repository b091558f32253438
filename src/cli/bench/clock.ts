/** Between this process's performance.now() and the machine's monotonic clock, ms. */
const offsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** The machine's monotonic clock, ms: the same in all processes of one machine. */
export function monoMs(): number {
  return performance.now() + offsetMs;
}
