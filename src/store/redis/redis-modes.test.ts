import { testStoreContract } from '../../../test/store-contract.ts';
import { RedisCluster } from '../../../test/support/redis-cluster.ts';
import { RedisSentinelTrio } from '../../../test/support/redis-sentinel.ts';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { startSharedHarness } from '../../../test/support/redis-store.ts';

for (const [name, kind] of [
  ['redis', RedisServer],
  ['redis behind sentinels', RedisSentinelTrio],
  ['redis cluster', RedisCluster],
] as const) {
  testStoreContract(name, () => startSharedHarness(kind));
}
