import type { PresenceStore } from '../src/core/store.ts';

export const contractPartitions = 8;
/** Long against a slow machine's hiccups, short against the suite's time. */
export const contractPolicy = { ttlMs: 2000, disconnectGraceMs: 150, maxConnectionsPerUser: 3 } as const;

/** An engine under test. */
export interface StoreHarness {
  readonly store: PresenceStore;
  /** Lets time go on, and whatever is due by then be judged. */
  pass(ms: number): Promise<void>;
  /** A second node on the same state, where the engine can be shared. */
  readonly other?: PresenceStore;
  stop(): Promise<void>;
}
