import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createClient } from 'redis';
import { followAll } from '../../../test/store-harness.ts';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import { waitFor } from '../../../test/support/wait.ts';
import type { RedisStore } from './redis-store.ts';

async function watch(store: RedisStore): Promise<string[]> {
  const told: string[] = [];
  store.onFeed({
    transitions: (states) =>
      told.push(...states.map(({ userId, status, cause }) => `${userId} ${status} ${cause}`)),
    privacyChanged: () => {},
    lost: () => assert.fail('nothing was lost'),
  });
  await followAll(store);
  return told;
}

describe('other programs that write user:status:ID', () => {
  let redis: RedisServer;
  let client: ReturnType<typeof createClient>;
  before(async () => {
    redis = await RedisServer.start();
    client = createClient({ url: redis.url });
    await client.connect();
  });
  after(async () => {
    client.destroy();
    await redis.stop();
  });

  it('are noticed at once where Redis notifies, and their TTL counts', async () => {
    await client.configSet('notify-keyspace-events', 'K$x');
    const store = await startStore(redis, { prefix: 'told:' });
    const told = await watch(store);
    await waitFor('this node to sweep', () => store.stats().ownedPartitions === 8);
    await client.set('told:user:status:ada', 'online', { PX: 700 });
    await waitFor('ada to come', () => told.length === 1);
    assert.deepEqual(told, ['ada ONLINE SET']);
    await waitFor('ada to expire', () => told.length === 2);
    assert.equal(told[1], 'ada OFFLINE EXPIRED');
    await store.setOnline('bea', null);
    await client.set('told:user:status:bea', 'offline', { PX: 5000 });
    await waitFor('bea to go', () => told.includes('bea OFFLINE SET'));
    assert.deepEqual(told.slice(2), ['bea ONLINE SET', 'bea OFFLINE SET'], 'our own writes are no news');
    await store.stop();
    await client.configSet('notify-keyspace-events', '');
  });

  it('are seen by queries in any case, and `offline` by the sweep', async () => {
    const store = await startStore(redis, { prefix: 'untold:' });
    const told = await watch(store);
    await client.set('untold:user:status:ada', 'online', { PX: 60_000 });
    await store.setOffline('bea');
    await client.set('untold:user:status:bea', 'online', { PX: 60_000 });
    const many = Array.from({ length: 50 }, (_, i) => `nobody ${i}`);
    for (const users of [
      ['ada', 'bea'],
      ['ada', 'bea', ...many],
    ]) {
      const states = await store.read(users);
      assert.deepEqual(
        states.slice(0, 2).map(({ status }) => status),
        ['ONLINE', 'ONLINE'],
      );
      assert.ok(states.slice(2).every(({ status }) => status === 'OFFLINE'));
    }
    await store.setOnline('cleo', null);
    await client.set('untold:user:status:cleo', 'offline', { PX: 60_000 });
    await waitFor('the sweep', () => told.includes('cleo OFFLINE SET'));
    await store.stop();
  });
});
