import { setTimeout as sleep } from 'node:timers/promises';
import { silentLog } from '../../src/observe/log.ts';
import { RedisStore, type RedisStoreOptions } from '../../src/store/redis/redis-store.ts';
import { contractPartitions, contractPolicy, type StoreHarness } from '../store-harness.ts';
import { waitFor } from './wait.ts';

let nextNode = 0;

/** A store on a Redis of the test's own, with the contract suite's policy unless told otherwise. */
export async function startStore(
  redis: { readonly url: string; readonly isRunning?: boolean },
  options: Partial<RedisStoreOptions> = {},
): Promise<RedisStore> {
  const store = new RedisStore({
    ...contractPolicy,
    url: redis.url,
    // No test is in a hurry by chance: on a busy machine Redis and this process may stand still for seconds.
    timeoutMs: 30_000,
    partitions: contractPartitions,
    lastSeenTtlMs: 60_000,
    nodeId: `node-${nextNode++}`,
    log: silentLog,
    ...options,
  });
  await store.start();
  // On a busy machine it may take longer than the start waits for.
  if (redis.isRunning) await waitFor('the engine', () => store.available, 15_000);
  return store;
}

/** Two nodes on one Redis of a kind, for the contract of every engine. */
export async function startSharedHarness(kind: {
  start(): Promise<{ readonly url: string; readonly isRunning?: boolean; stop(): Promise<void> }>;
}): Promise<StoreHarness> {
  const redis = await kind.start();
  const store = await startStore(redis);
  const other = await startStore(redis);
  return {
    store,
    other,
    // The sweeper comes round every 50 ms.
    pass: (ms) => sleep(ms + 60),
    stop: async () => {
      await Promise.all([store.stop(), other.stop()]);
      await redis.stop();
    },
  };
}
