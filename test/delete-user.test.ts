/** A user is deleted: on two servers of one Redis, everywhere. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { partitionOf } from '../src/core/partition.ts';
import { TestSession } from './security/support/session.ts';
import { contractPartitions, followAll } from './store-harness.ts';
import { startServer, type TestServer, Watcher } from './support/pilotlight.ts';
import { redisCommand } from './support/redis-command.ts';
import { RedisServer } from './support/redis-server.ts';
import { startStore } from './support/redis-store.ts';
import { waitFor } from './support/wait.ts';

let redis: RedisServer;
before(async () => {
  redis = await RedisServer.start();
});
after(() => redis.stop());

/** Keys that name a user, or hold what does. */
async function tracesOf(userId: string): Promise<string[]> {
  const ask = <Reply>(...args: string[]) => redisCommand<Reply>(redis.port, ...args);
  const readers: Readonly<Record<string, (key: string) => Promise<unknown>>> = {
    string: (key) => ask('GET', key),
    hash: (key) => ask('HGETALL', key),
    zset: (key) => ask('ZRANGE', key, '0', '-1'),
    list: (key) => ask('LRANGE', key, '0', '-1'),
    stream: (key) => ask('XRANGE', key, '-', '+'),
  };
  const found: string[] = [];
  for (const key of await ask<string[]>('KEYS', '*')) {
    const type = await ask<string>('TYPE', key);
    const content = JSON.stringify((await readers[type]?.(key)) ?? null);
    if (key.includes(userId) || content.includes(userId)) found.push(key);
  }
  return found.toSorted();
}

describe('DeleteUser', () => {
  let servers: readonly [TestServer, TestServer];
  before(async () => {
    const environment = { REDIS_URL: redis.url, USER_STATUS_TTL: '5s', HEARTBEAT_INTERVAL: '1s' };
    servers = [await startServer(environment), await startServer(environment)];
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.stop()));
  });

  it('closes sessions on every server for good, tells watchers, and leaves nothing but the log', async () => {
    const [first, second] = servers;
    const sessions = servers.map((server) => TestSession.open('WebSocket', server, null));
    for (const session of sessions) {
      assert.equal(await session.ask({ case: 'hello', value: { userId: 'doomed' } }), 'welcome');
    }
    await sessions[0]?.ask({ case: 'setCustomStatus', value: { text: 'busy' } });
    await first.client.setPrivacy({ userId: 'doomed', addBlocked: ['eve'] });
    const watchers = servers.map((server) => new Watcher(server.client, ['doomed']));
    for (const watcher of watchers) await watcher.has(1);
    const answer = await fetch(`${second.httpUrl}/v1/users/doomed`, { method: 'DELETE' });
    assert.deepEqual([answer.status, await answer.json()], [200, { success: true }]);
    for (const session of sessions) assert.equal(await session.closes(), 4505);
    for (const watcher of watchers) await watcher.sees('doomed', '[ONLINE] OFFLINE');
    const { data } = await second.client.getUserStatus({ userId: 'doomed' });
    assert.deepEqual([data?.status, data?.lastSeen, data?.since], [UserStatus.OFFLINE, 0n, 0n]);
    assert.deepEqual((await first.client.getPrivacy({ userId: 'doomed' })).privacy?.blockedUserIds, []);
    const traces = async () => (await tracesOf('doomed')).filter((key) => !key.endsWith(':log'));
    await waitFor('notes to be taken', async () => (await traces()).join() === 'user:meta:doomed');
    assert.deepEqual(await redisCommand(redis.port, 'HKEYS', 'user:meta:doomed'), ['x']);
    assert.ok(((await redisCommand<number>(redis.port, 'PTTL', 'user:meta:doomed')) ?? 0) > 0);
    await Promise.all(watchers.map((watcher) => watcher.stop()));
  });
});

describe('the log', () => {
  it('is trimmed by age, where nothing is added to it too, so that nothing is left of a deleted user', async () => {
    const store = await startStore(redis, { prefix: 'trimmed:', ttlMs: 300, eventLogMaxAgeMs: 400 });
    await followAll(store);
    await store.setOnline('quiet', null);
    await store.deleteUser('quiet');
    await waitFor('all to be gone', async () => (await tracesOf('quiet')).length === 0);
    const log = `trimmed:presence:${partitionOf('quiet', contractPartitions)}:log`;
    const info = await redisCommand<Record<string, unknown>>(redis.port, 'XINFO', 'STREAM', log);
    assert.equal(info['entries-added'], 3, 'it was there');
    await store.stop();
  });
});
