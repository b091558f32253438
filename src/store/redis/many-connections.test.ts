import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createClient } from 'redis';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import { pieces } from './pieces.ts';
import type { RedisStore } from './redis-store.ts';

describe('many connections of one user', () => {
  let redis: RedisServer;
  let client: ReturnType<typeof createClient>;
  let store: RedisStore;
  before(async () => {
    redis = await RedisServer.start();
    client = createClient({ url: redis.url });
    await client.connect();
    const most = { maxConnectionsPerUser: 10_000, ttlMs: 600_000, disconnectGraceMs: 1000 };
    store = await startStore(redis, { ...most, partitions: 1, timeoutMs: 30_000, sweeps: false });
  });
  after(async () => {
    await store.stop();
    client.destroy();
    await redis.stop();
  });

  /** Redis' own time in scripts, us. */
  async function scriptTime(work: () => Promise<unknown>): Promise<number> {
    const used = async () => {
      const info = await client.info('commandstats');
      return Number(/cmdstat_evalsha:calls=\d+,usec=(\d+)/.exec(info)?.[1] ?? 0);
    };
    const beforeUs = await used();
    await work();
    return (await used()) - beforeUs;
  }

  const connection = (connectionId: string, activity: 'ACTIVE' | 'IDLE' = 'ACTIVE') => ({
    connectionId,
    kind: 'session' as const,
    device: 'phone',
    activity,
  });

  /** Opens, renews, says an activity of and closes so many; what each cost Redis, us. */
  async function costs(userId: string, number: number) {
    const ids = Array.from({ length: number }, (_, i) => `${userId}-${i}`);
    const each = async (work: (id: string) => Promise<unknown>) => {
      for (const some of pieces(ids, 100)) await Promise.all(some.map(work));
    };
    const sinceMs = new Map<string, number>();
    const openedUs = await scriptTime(() =>
      each(async (id) => {
        const opened = await store.connect({
          userId,
          connection: connection(id),
          replaces: null,
          isResumed: false,
        });
        sinceMs.set(id, opened.sinceMs);
      }),
    );
    const renewals = ids.map((id) => ({
      userId,
      connection: { ...connection(id), sinceMs: sinceMs.get(id) as number },
    }));
    const renewedUs = await scriptTime(() => store.renewConnections(renewals));
    const changedUs = await scriptTime(() => each((id) => store.setConnectionActivity(userId, id, 'IDLE')));
    assert.equal((await store.read([userId]))[0]?.activity, 'IDLE');
    await client.del([`user:connections:${userId}`, `user:details:${userId}`]);
    const restoredUs = await scriptTime(() => store.renewConnections(renewals));
    assert.equal((await store.readConnections(userId)).length, number);
    const closedUs = await scriptTime(() => each((id) => store.disconnect(userId, id)));
    assert.equal(await client.exists([`user:connections:${userId}`, `user:details:${userId}`]), 0);
    return { openedUs, renewedUs, changedUs, restoredUs, closedUs };
  }

  it('cost each what few cost', async (test) => {
    await costs('warm-up', 100);
    const few = await costs('few', 200);
    const many = await costs('many', 2000);
    for (const [name, manyUs] of Object.entries(many)) {
      const ratio = manyUs / few[name as keyof typeof few];
      test.diagnostic(
        `${name}: 200 took ${few[name as keyof typeof few]}, 2,000 took ${manyUs}, ${ratio.toFixed(1)} times`,
      );
      // 10 is as it should be, 100 is quadratic; the rest is other programs on the same cores.
      assert.ok(ratio < 40, `${name}: ten times the connections cost ${ratio.toFixed(1)} times as much`);
    }
  });

  it('are counted anew where a server of 0.1.0 changed them', async () => {
    const open = (id: string, activity: 'ACTIVE' | 'IDLE') =>
      store.connect({
        userId: 'old',
        connection: connection(id, activity),
        replaces: null,
        isResumed: false,
      });
    await open('a', 'IDLE');
    await open('b', 'IDLE');
    // As 0.1.0 writes: the set and the details, and no counts.
    await client.zAdd('user:connections:old', { score: Date.now() + 600_000, value: 'c' });
    await client.hSet('user:details:old', 'c', `1\x1f\x1f1\x1f${Date.now()}\x1fnode`);
    await store.setOnline('old', null);
    assert.equal((await store.read(['old']))[0]?.activity, 'ACTIVE');
    await store.disconnect('old', 'c');
    assert.equal((await store.read(['old']))[0]?.activity, 'IDLE');
  });

  it('count one that a newer server describes in another way, and stay usable', async () => {
    const open = (id: string) =>
      store.connect({ userId: 'new', connection: connection(id), replaces: null, isResumed: false });
    await open('a');
    await client.zAdd('user:connections:new', { score: Date.now() + 600_000, value: 'n' });
    await client.hSet('user:details:new', 'n', '{"kind":3}');
    await open('b');
    assert.equal((await store.readConnections('new')).length, 3);
    for (const id of ['a', 'b']) await store.disconnect('new', id);
    assert.equal((await store.read(['new']))[0]?.status, 'ONLINE');
    await store.disconnect('new', 'n');
    assert.equal(await client.exists('user:details:new'), 0);
  });
});
