/** What goes to Redis in batches must answer what single calls answer. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { redisCommand } from '../../../test/support/redis-command.ts';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { waitFor } from '../../../test/support/wait.ts';
import { silentLog } from '../../observe/log.ts';
import { RedisStore } from './redis-store.ts';

const ttlMs = 30_000;

describe('batches of the Redis engine', () => {
  let redis: RedisServer;
  let store: RedisStore;

  before(async () => {
    redis = await RedisServer.start();
    store = new RedisStore({
      url: redis.url,
      timeoutMs: 5000,
      partitions: 8,
      ttlMs,
      disconnectGraceMs: 1000,
      maxConnectionsPerUser: 20,
      lastSeenTtlMs: 3_600_000,
      nodeId: 'batches',
      log: silentLog,
      // Leases that are over stay unjudged: such users are read like the others.
      sweeps: false,
    });
    await store.start();
    await waitFor('the engine', () => store.available);
  });
  after(async () => {
    await store.stop();
    await redis.stop();
  });

  it('reads many users as it reads each of them', async () => {
    const users = Array.from({ length: 120 }, (_, number) => `read ${number} é`);
    for (const [number, user] of users.entries()) {
      const kind = number % 8;
      if (kind === 0) await store.setOnline(user, null);
      if (kind === 1) await store.setOnline(user, 'AWAY');
      if (kind === 2) await store.setOnline(user, 'ACTIVE').then(() => store.setOffline(user));
      if (kind === 3) await store.setCustomStatus(user, { text: 'à bientôt', emoji: '🌴', lifeMs: 0 });
      if (kind === 4) {
        await store.setOnline(user, null);
        await store.setCustomStatus(user, { text: 'for a while', emoji: '', lifeMs: 60_000 });
      }
      // Written by another program, as the spec's contract allows.
      if (kind === 5) await redisCommand(redis.port, 'SET', `user:status:${user}`, 'online', 'PX', '30000');
      // Over, and nobody has judged.
      if (kind === 6) {
        await store.setOnline(user, null);
        await redisCommand(redis.port, 'DEL', `user:status:${user}`);
      }
    }
    const single = [];
    for (const user of users) single.push(...(await store.read([user])));
    assert.deepEqual(await store.read(users), single);
    const twice = [...users, ...users.slice(0, 10)].reverse();
    assert.deepEqual(
      (await store.read(twice)).map(({ userId }) => userId),
      twice,
    );
  });

  it('renews many leases as it renews each of them', async () => {
    const users = Array.from({ length: 60 }, (_, number) => `beat ${number} é`);
    for (const [number, user] of users.entries()) {
      if (number % 3 < 2) await store.setOnline(user, null);
      if (number % 3 === 1) await store.setOffline(user);
      if (number % 3 === 0) await redisCommand(redis.port, 'PEXPIRE', `user:status:${user}`, '9000');
    }
    const accepted = await Promise.all(users.map((user) => store.heartbeat(user)));
    // Lit: renewed. Signed out a moment ago: refused. Never heard of: lit.
    assert.deepEqual(
      accepted,
      users.map((_, number) => number % 3 !== 1),
    );
    for (const [number, user] of users.entries()) {
      const left = await redisCommand<number>(redis.port, 'PTTL', `user:status:${user}`);
      if (number % 3 !== 1) assert.ok(left > 20_000, `${user} has ${left} ms`);
    }
    const states = await store.read(users);
    assert.deepEqual(
      states.map(({ status }) => status === 'ONLINE'),
      accepted,
    );
  });
});
