import assert from 'node:assert/strict';
import { it } from 'node:test';
import { RedisCluster } from '../../../test/support/redis-cluster.ts';
import { redisCommand } from '../../../test/support/redis-command.ts';
import type { RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import { waitFor } from '../../../test/support/wait.ts';
import { crc16 } from '../../core/partition.ts';

it('finds a set of the application in a Cluster, and answers heartbeats while their keys are on their way', async (context) => {
  const redis = await RedisCluster.start();
  context.after(() => redis.stop());
  const store = await startStore(redis, { ttlMs: 30_000, partitions: 1 });
  context.after(() => store.stop());
  await waitFor('the engine', () => store.available);
  const users = Array.from({ length: 100 }, (_, number) => `moving-${number}`);
  await Promise.all(users.map((user) => store.setOnline(user, null)));

  const slot = crc16('0') % 16384;
  const from = await redis.masterOf(slot);
  const to = redis.servers.slice(0, 3).find((server) => server !== from) as RedisServer;
  const beat = (some = users) => Promise.all(some.map((user) => store.heartbeat(user)));
  const find = () => store.membersAmong('user:directory', ['moving-1', 'nobody']);
  await assert.rejects(find(), { code: 'REDIS_ERROR' }, 'there is no set yet');
  await redisCommand(from.port, 'SADD', '{0}user:directory', ...users);
  assert.deepEqual(await find(), new Set(['moving-1']));
  let isSplit = false;
  await redis.moveSlot(slot, to, async () => {
    const here = await redisCommand<string[]>(from.port, 'KEYS', '{0}user:status:*');
    isSplit = here.length > 0 && here.length < users.length;
    // One script goes where the first user's key is, and does not find those of the others there.
    for (const movedFirst of [true, false]) {
      const isFirst = (user: string) => here.includes(`{0}user:status:${user}`) !== movedFirst;
      const ordered = users.toSorted((a, b) => Number(isFirst(b)) - Number(isFirst(a)));
      assert.deepEqual(
        await beat(ordered),
        users.map(() => true),
      );
    }
    assert.deepEqual(
      await beat(),
      users.map(() => true),
    );
  });
  assert.ok(isSplit, 'some had moved, others had not');
  assert.deepEqual(
    await beat(),
    users.map(() => true),
  );
});
