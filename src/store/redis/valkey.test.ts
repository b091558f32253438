/**
 * The Redis engine on Valkey: the whole contract on one server, a full memory, and what differs behind Sentinels and in a
 * Cluster. Where no Valkey could be installed, the same runs on Redis, and says so.
 */
import { it } from 'node:test';
import { testStoreContract } from '../../../test/store-contract.ts';
import { RedisSentinelTrio } from '../../../test/support/redis-sentinel.ts';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { startSharedHarness, startStore } from '../../../test/support/redis-store.ts';
import { valkeyServer } from '../../../test/support/valkey.ts';
import { waitFor } from '../../../test/support/wait.ts';

RedisServer.program = valkeyServer ?? RedisServer.program;
const name = valkeyServer === undefined ? 'redis, for want of valkey' : 'valkey';

testStoreContract(name, () => startSharedHarness(RedisServer));

it(`${name} behind sentinels: follows a failover`, async (context) => {
  const redis = await RedisSentinelTrio.start();
  context.after(() => redis.stop());
  const store = await startStore(redis, { ttlMs: 60_000 });
  context.after(() => store.stop());
  await waitFor('the engine', () => store.available, 15_000);
  await store.setOnline('before', null);
  const old = await redis.master();
  await old.kill();
  await redis.waitForFailover(old);
  await waitFor('service', async () => (await store.heartbeat('after').catch(() => false)) === true, 30_000);
});

await import('./memory-full.test.ts');
// A Cluster, with a slot that moves while it is in use.
await import('./slot-move.test.ts');
