import { setTimeout as sleep } from 'node:timers/promises';
import { testStoreContract } from '../../../test/store-contract.ts';
import { RedisCluster } from '../../../test/support/redis-cluster.ts';
import { RedisSentinelTrio } from '../../../test/support/redis-sentinel.ts';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';

for (const [name, kind] of [
  ['redis', RedisServer],
  ['redis behind sentinels', RedisSentinelTrio],
  ['redis cluster', RedisCluster],
] as const) {
  testStoreContract(name, async () => {
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
  });
}
