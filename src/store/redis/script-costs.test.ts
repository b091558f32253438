import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createClient } from 'redis';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import type { RedisStore } from './redis-store.ts';

describe('what a user stored', () => {
  let redis: RedisServer;
  let client: ReturnType<typeof createClient>;
  let store: RedisStore;
  before(async () => {
    redis = await RedisServer.start();
    client = createClient({ url: redis.url });
    await client.connect();
    store = await startStore(redis, { ttlMs: 600_000, partitions: 1, sweeps: false });
  });
  after(async () => {
    await store.stop();
    client.destroy();
    await redis.stop();
  });

  /** Redis' own time for one of so many calls, us. */
  async function scriptUs(work: () => Promise<unknown>, times = 200): Promise<number> {
    await client.sendCommand(['CONFIG', 'RESETSTAT']);
    for (let i = 0; i < times; i++) await work();
    const info = await client.info('commandstats');
    return Number(/cmdstat_evalsha:calls=\d+,usec=(\d+)/.exec(info)?.[1] ?? 0) / times;
  }

  it('costs Redis nothing extra: custom statuses that wait below the one in force', async (test) => {
    const text = '😀'.repeat(140);
    for (const lifeMs of [4_000_000, 3_000_000, 2_000_000, 1_000_000]) {
      await store.setCustomStatus('many', { text, emoji: '😀', lifeMs });
    }
    await store.setCustomStatus('one', { text, emoji: '😀', lifeMs: 1_000_000 });
    const calls = {
      read: (user: string) => store.read([user]),
      setOnline: (user: string) => store.setOnline(user, null),
      setOffline: (user: string) => store.setOffline(user),
    };
    for (const [name, call] of Object.entries(calls)) {
      const one = await scriptUs(() => call('one'));
      const many = await scriptUs(() => call('many'));
      test.diagnostic(`${name}: ${one.toFixed(0)} us with one, ${many.toFixed(0)} us with four`);
      assert.ok(many < 5 * one, `${name}: ${one} us with one, ${many} us with four`);
    }
  });
});
