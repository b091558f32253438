/** What the index says must be checked: in bulk by check.lua where the lease runs, one by one where there is more to it. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createClient } from 'redis';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import { waitFor } from '../../../test/support/wait.ts';
import type { RedisStore } from './redis-store.ts';

const index = 'presence:0:deadlines';

describe('checks of the index', () => {
  let redis: RedisServer;
  let client: ReturnType<typeof createClient>;
  let store: RedisStore;

  before(async () => {
    redis = await RedisServer.start();
    client = createClient({ url: redis.url });
    await client.connect();
    store = await startStore(redis, { ttlMs: 30_000, disconnectGraceMs: 600, partitions: 1 });
  });
  after(async () => {
    client.destroy();
    await store.stop();
    await redis.stop();
  });

  it('moves running leases to their deadlines, more than one call takes, and judges the others', async () => {
    const users = Array.from({ length: 1200 }, (_, number) => `checked ${number} é`);
    await Promise.all(users.map((user) => store.setOnline(user, null)));
    await client.set(`user:status:${users[7]}`, 'offline', { PX: 30_000 });
    await client.del(`user:status:${users[8]}`);
    const judged = [users[7], users[8]];
    await client.sendCommand(['ZUNIONSTORE', index, '1', index, 'WEIGHTS', '0']);
    await waitFor('all to be checked', async () => (await client.zCount(index, 0, 1)) === 0);
    for (const user of users) {
      const place = await client.zScore(index, user);
      if (judged.includes(user)) assert.equal(place, null, `${user} is out of the index`);
      else assert.equal(place, (await client.pExpireTime(`user:status:${user}`)) + 1, user);
    }
    const states = await store.read(users);
    assert.deepEqual(
      states.filter(({ status }) => status === 'OFFLINE').map(({ userId, cause }) => [userId, cause]),
      [
        [users[7], 'SET'],
        [users[8], 'EXPIRED'],
      ],
    );
  });

  it('judges the others where somebody made something else of the keys of one', async () => {
    const keysOf = (user: string) => ['status', 'meta', 'connections'].map((kind) => `user:${kind}:${user}`);
    const users = Array.from({ length: 300 }, (_, number) => `spared ${number}`);
    for (const [which, bad] of ['bad status', 'bad meta', 'bad connections'].entries()) {
      await store.setOnline(bad, null);
      const key = keysOf(bad)[which] as string;
      await client.del(key);
      await client.rPush(key, 'a list');
      if (which === 0) await client.pExpire(key, 60_000);
      else await client.del(`user:status:${bad}`);
    }
    await Promise.all(users.map((user) => store.setOnline(user, null)));
    await client.del(users.map((user) => `user:status:${user}`));
    await client.sendCommand(['ZUNIONSTORE', index, '1', index, 'WEIGHTS', '0']);
    await waitFor('the others to go', async () =>
      (await store.read(users)).every(({ status }) => status === 'OFFLINE'),
    );
  });

  it('ends a grace in time where the lease was to be checked before, and was renewed', async () => {
    const connection = {
      connectionId: 'only',
      kind: 'session',
      device: '',
      activity: 'ACTIVE',
      sinceMs: 0,
    } as const;
    await store.connect({ userId: 'grace', connection, replaces: null, isResumed: false });
    await client.zAdd(index, { score: Date.now() + 200, value: 'grace' });
    await store.disconnect('grace', 'only');
    assert.equal(await store.heartbeat('grace'), true);
    await waitFor('the grace to end', async () => (await store.read(['grace']))[0]?.status === 'OFFLINE');
    assert.equal((await store.read(['grace']))[0]?.cause, 'DISCONNECT');
  });
});
