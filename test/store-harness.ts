import type { PresenceStore } from '../src/core/store.ts';
import { waitFor } from './support/wait.ts';

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

/** From then on the store tells of every partition. */
export async function followAll(store: PresenceStore): Promise<void> {
  await waitFor('the store to follow every partition', async () => {
    try {
      for (let partition = 0; partition < contractPartitions; partition++) await store.follow(partition);
      return true;
    } catch {
      return false;
    }
  });
}
