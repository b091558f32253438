import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from 'redis';
import { contractPartitions, contractPolicy } from '../../../test/store-contract.ts';
import { followAll } from '../../../test/store-harness.ts';
import { redisCommand } from '../../../test/support/redis-command.ts';
import { keepsData, RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import { waitFor } from '../../../test/support/wait.ts';
import { PresenceError } from '../../core/errors.ts';
import { partitionOf } from '../../core/partition.ts';
import { type Log, silentLog } from '../../observe/log.ts';
import { RedisStore } from './redis-store.ts';

describe('redis store', () => {
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

  it("keeps the spec's key: online and offline, with the TTL", async () => {
    const store = await startStore(redis, { ttlMs: 30_000 });
    await store.setOnline('ada', null);
    assert.equal(await client.get('user:status:ada'), 'online');
    const ttlMs = await client.pTTL('user:status:ada');
    assert.ok(ttlMs > 25_000 && ttlMs <= 30_000);
    await store.setOffline('ada');
    assert.equal(await client.get('user:status:ada'), 'offline');
    await store.stop();
  });

  it('mends a key of a wrong type that somebody else wrote, and renews the others', async () => {
    const store = await startStore(redis, { ttlMs: 30_000, sweeps: false });
    const users = Array.from({ length: 20 }, (_, number) => `beside-${number}`);
    await Promise.all(users.map((user) => store.setOnline(user, null)));
    await client.lPush('user:status:wrong', 'type');
    const beats = await Promise.all(['wrong', ...users].map((user) => store.heartbeat(user)));
    assert.ok(beats.every((isRenewed) => isRenewed));
    assert.equal(await client.get('user:status:wrong'), 'online');
    await store.stop();
  });

  it('renews by one native command, touching neither index nor log', async () => {
    const store = await startStore(redis, { ttlMs: 30_000, sweeps: false });
    await store.setOnline('bea', null);
    const commandsBefore = await commandCalls(client);
    for (let beat = 0; beat < 50; beat++) assert.equal(await store.heartbeat('bea'), true);
    const commands = await commandCalls(client);
    assert.equal((commands.get('getex') ?? 0) - (commandsBefore.get('getex') ?? 0), 50);
    for (const name of ['evalsha', 'zadd', 'xadd', 'hset', 'set']) {
      assert.equal(commands.get(name) ?? 0, commandsBefore.get(name) ?? 0, name);
    }
    await store.stop();
  });

  it('logs every transition once, in order, batches as one entry', async () => {
    const store = await startStore(redis, { ttlMs: 200, partitions: contractPartitions });
    const users = Array.from({ length: 300 }, (_, i) => `logged-${i}`);
    await Promise.all(users.map((user) => store.setOnline(user, null)));
    await waitFor('all to expire', async () =>
      (await store.read(users)).every(({ status }) => status === 'OFFLINE'),
    );
    const states = await store.read(users);
    const logged: string[] = [];
    let entries = 0;
    for (let partition = 0; partition < contractPartitions; partition++) {
      let last = 0;
      for (const { id, message } of (await client.xRange(`presence:${partition}:log`, '-', '+')) ?? []) {
        entries++;
        assert.equal(Number(message.p), last, 'each entry continues the one before');
        last = Number.parseInt(id, 10);
        const lines = (message.t as string).split('\n').filter((line) => line.includes('logged-'));
        logged.push(...lines.map((line) => line.split('\x1f').slice(0, 3).join(' ')));
      }
    }
    for (const { userId, version } of states) {
      assert.equal(logged.filter((line) => line.split(' ')[1] === userId).length, 2, userId);
      assert.ok(logged.includes(`${version} ${userId} 2`));
    }
    assert.ok(entries < 500, `${entries} entries for 600 transitions`);
    await store.stop();
  });

  it('forgets nobody who is ONLINE, and OFFLINE users after LAST_SEEN_TTL', async () => {
    const store = await startStore(redis, { lastSeenTtlMs: 5000 });
    await store.setOnline('cleo', null);
    assert.equal(await client.pTTL('user:meta:cleo'), -1);
    await store.setOffline('cleo');
    const ttlMs = await client.pTTL('user:meta:cleo');
    assert.ok(ttlMs > 4000 && ttlMs <= 5000);
    await store.stop();
  });

  it('shares partitions evenly, hands over on stop, and takes over from the dead', async () => {
    const nodes = [await startStore(redis), await startStore(redis)] as const;
    const owners = async () => {
      const seen = new Map<string, number>();
      for (let partition = 0; partition < contractPartitions; partition++) {
        const owner = (await client.hGet(`presence:${partition}:sweeper`, 'owner')) ?? '';
        seen.set(owner, (seen.get(owner) ?? 0) + 1);
      }
      return [...seen.values()].sort();
    };
    await waitFor('an even share', async () => JSON.stringify(await owners()) === '[4,4]');
    await nodes[0].stop();
    await waitFor('the other to own all', async () => JSON.stringify(await owners()) === '[8]', 1000);
    await nodes[1].stop();
  });

  it('refuses to start where PARTITIONS is another', async () => {
    const other = new RedisStore({
      ...contractPolicy,
      url: redis.url,
      timeoutMs: 1000,
      partitions: contractPartitions * 2,
      lastSeenTtlMs: 1000,
      nodeId: 'other',
      log: silentLog,
    });
    await assert.rejects(other.start(), /start with PARTITIONS=8, not 16/);
    await other.stop();
  });

  it('closes a gap of the feed from the log, in order and without duplicates', async () => {
    const writer = await startStore(redis);
    const reader = await startStore(redis);
    const versions: number[] = [];
    reader.onFeed({
      transitions: (states) => versions.push(...states.map(({ version }) => version)),
      privacyChanged: () => {},
      lost: () => assert.fail('the log reaches back'),
    });
    await followAll(reader);
    await writer.setOnline('gap', null);
    // Only the feed's connection subscribes, so this cuts nothing else.
    await client.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']);
    for (let i = 0; i < 50; i++) {
      await writer.setOffline('gap');
      await writer.setOnline('gap', null);
    }
    await waitFor('all transitions', () => versions.length === 101);
    assert.deepEqual(
      versions,
      [...new Set(versions)].sort((a, b) => a - b),
    );
    await Promise.all([writer.stop(), reader.stop()]);
  });

  it('drops a message of a history that Redis lost, and goes on', async () => {
    const store = await startStore(redis);
    const told: number[] = [];
    store.onFeed({
      transitions: (states) => told.push(...states.map(({ version }) => version)),
      privacyChanged: () => {},
      lost: () => {},
    });
    await followAll(store);
    const { version } = await store.setOnline('future', null);
    const partition = partitionOf('future', contractPartitions);
    const line = [version + 9, 'future', 2, 0, 1, 1, 1, 1].join('\x1f');
    await client.sPublish(`presence:${partition}`, `${version + 8}\n${version + 9}\n${line}`);
    const before = await commandCalls(client);
    await sleep(300);
    const after = await commandCalls(client);
    const ranges = (after.get('xrange') ?? 0) - (before.get('xrange') ?? 0);
    assert.ok(ranges < 10, `the log was read ${ranges} times`);
    const next = await store.setOffline('future');
    await waitFor('the feed to go on', () => told.at(-1) === next.version);
    assert.deepEqual(told, [version, next.version]);
    await store.stop();
  });

  it('reports a gap that the log no longer covers', async () => {
    const writer = await startStore(redis);
    const reader = await startStore(redis);
    const lost: number[] = [];
    const versions: number[] = [];
    reader.onFeed({
      transitions: (states) => versions.push(...states.map(({ version }) => version)),
      privacyChanged: () => {},
      lost: (partition) => lost.push(partition),
    });
    await followAll(reader);
    await client.sendCommand(['CLIENT', 'KILL', 'TYPE', 'pubsub']);
    await writer.setOnline('trimmed', null);
    await writer.setOffline('trimmed');
    for (let partition = 0; partition < contractPartitions; partition++) {
      await client.xTrim(`presence:${partition}:log`, 'MAXLEN', 0);
    }
    await waitFor('the loss', () => lost.length === 1);
    const next = await writer.setOnline('trimmed', null);
    await waitFor('the feed to go on', () => versions.at(-1) === next.version);
    await Promise.all([writer.stop(), reader.stop()]);
  });
});

describe('redis store, faults', () => {
  it('starts without Redis, fails calls at once, and serves when it comes', async () => {
    const redis = await RedisServer.start();
    await redis.kill();
    const store = await startStore(redis, { timeoutMs: 500 });
    await assertEngineError(store.heartbeat('u'), 500);
    assert.equal(store.available, false);
    await redis.run();
    await waitFor('the store to be available', () => store.available);
    assert.equal(await store.heartbeat('u'), true);
    await store.stop();
    await redis.stop();
  });

  it('starts without Redis, and refuses one that comes with data of other PARTITIONS, until that is mended', async () => {
    const redis = await RedisServer.start(keepsData);
    await redisCommand(redis.port, 'SET', 'presence:partitions', '1000');
    await redis.kill();
    const errors: string[] = [];
    const log = {
      ...silentLog,
      error: (fields: object) => errors.push(JSON.stringify(fields)),
    } as unknown as Log;
    const store = await startStore(redis, { timeoutMs: 500, log });
    await redis.run();
    await waitFor('the refusal', () => errors.length > 0);
    assert.match(errors[0] as string, /start with PARTITIONS=1000/);
    assert.equal(store.available, false);
    await assert.rejects(store.heartbeat('u'), { code: 'REDIS_ERROR', message: /PARTITIONS=1000/ });
    await redisCommand(redis.port, 'DEL', 'presence:partitions');
    await redis.kill();
    await redis.run();
    await waitFor('the store to be available', () => store.available);
    assert.equal(await store.heartbeat('u'), true);
    assert.equal(errors.length, 1, 'said once');
    await store.stop();
    await redis.stop();
  });

  it('answers within the timeout when Redis hangs, fails at once after that, and resumes', async () => {
    const redis = await RedisServer.start();
    const store = await startStore(redis, { timeoutMs: 500, ttlMs: 60_000 });
    await waitFor('the store to be available', () => store.available);
    await store.setOnline('u', null);
    redis.signal('SIGSTOP');
    await assertEngineError(store.heartbeat('u'), 500);
    const startMs = performance.now();
    for (let call = 0; call < 100; call++) await assertEngineError(store.read(['u']), 500);
    assert.ok(performance.now() - startMs < 2000, 'later calls wait for nothing');
    redis.signal('SIGCONT');
    await waitFor('the store to be available', () => store.available);
    assert.equal((await store.read(['u']))[0]?.status, 'ONLINE');
    await store.stop();
    await redis.stop();
  });

  it('declares nobody OFFLINE because of an outage: leases get one more TTL', async () => {
    const redis = await RedisServer.start(keepsData);
    const store = await startStore(redis, { ttlMs: 2500 });
    const told: string[] = [];
    store.onFeed({
      transitions: (states) => told.push(...states.map(({ userId, status }) => `${userId} ${status}`)),
      privacyChanged: () => {},
      lost: () => assert.fail('nothing was lost'),
    });
    await followAll(store);
    await Promise.all([store.setOnline('stays', null), store.setOnline('goes', null)]);
    await redis.kill();
    await sleep(3000);
    await redis.run();
    await waitFor('the store to be available', () => store.available);
    await sleep(500);
    const states = await store.read(['stays', 'goes']);
    assert.ok(states.every(({ status }) => status === 'ONLINE'));
    await store.heartbeat('stays');
    await waitFor('the one who never came back to go', () => told.includes('goes OFFLINE'));
    const [stays, goes] = await store.read(['stays', 'goes']);
    assert.deepEqual(told.toSorted(), ['goes OFFLINE', 'goes ONLINE', 'stays ONLINE']);
    assert.equal(goes?.lastSeenMs, states[1]?.sinceMs, 'the extension is no evidence of life');
    assert.equal(stays?.status, 'ONLINE');
    await store.stop();
    await redis.stop();
  });
});

async function assertEngineError(call: Promise<unknown>, timeoutMs: number): Promise<void> {
  const startMs = performance.now();
  await assert.rejects(call, (error) => error instanceof PresenceError && error.code === 'REDIS_ERROR');
  assert.ok(performance.now() - startMs < timeoutMs * 10, 'within the timeout');
}

async function commandCalls(client: ReturnType<typeof createClient>): Promise<Map<string, number>> {
  const stats = await client.info('commandstats');
  return new Map(
    [...stats.matchAll(/cmdstat_(\w+):calls=(\d+)/g)].map(([, name, calls]) => [
      name as string,
      Number(calls),
    ]),
  );
}
