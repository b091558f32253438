/** Where time comes from, for what has no engine clock of its own. */
export interface Clock {
  /** Unix ms; may stand still, never goes back. */
  readonly nowMs: () => number;
}

/**
 * A clock that reads the wall clock once, now, and counts from there: a step of the wall clock, by hand or by time
 * synchronization, moves nothing that is measured by it. Over months it may drift from the wall clock by seconds.
 */
export function monotonicClock(wallMs = Date.now, elapsedMs = () => performance.now()): Clock {
  const startMs = wallMs() - elapsedMs();
  return { nowMs: () => Math.floor(startMs + elapsedMs()) };
}

/** The wall clock: for what is compared with times that an engine elsewhere took from its own. */
export const wallClock: Clock = { nowMs: () => Date.now() };
