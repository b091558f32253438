import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from 'redis';
import { FakeTime } from '../../../test/support/fake-time.ts';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import { waitFor } from '../../../test/support/wait.ts';
import type { ConnectionKind } from '../../core/connections.ts';
import type { UserState } from '../../core/presence.ts';
import { type Log, silentLog } from '../../observe/log.ts';
import type { RedisStore } from './redis-store.ts';

const hourMs = 3_600_000;
/** On a busy machine all is late; an hour is what these tests are about. */
const lateMs = 20_000;

function connection(connectionId: string, kind: ConnectionKind = 'session') {
  return { connectionId, kind, device: '', activity: 'ACTIVE' as const };
}

describe("redis' clock is stepped", () => {
  let time: FakeTime;
  let redis: RedisServer;
  let client: ReturnType<typeof createClient>;
  before(async () => {
    time = new FakeTime();
    redis = await RedisServer.start([], undefined, time.environment);
    client = createClient({ url: redis.url });
    await client.connect();
  });
  after(async () => {
    client.destroy();
    await redis.stop();
    time.stop();
  });
  beforeEach(async () => {
    time.set(0);
    await client.flushAll();
  });

  const start = (options: Parameters<typeof startStore>[1] = {}) =>
    startStore(redis, { partitions: 1, timeoutMs: 10_000, ttlMs: 30_000, ...options });
  const stateOf = async (store: RedisStore, userId: string) => (await store.read([userId]))[0] as UserState;
  const isGone = async (store: RedisStore, userId: string) =>
    (await stateOf(store, userId)).status === 'OFFLINE';
  const owns = (store: RedisStore) =>
    waitFor('the store to sweep', () => store.stats().ownedPartitions === 1, lateMs);

  it('forward: sweep.lua finds it itself, and puts off every judgement', async () => {
    const log: Log = { ...silentLog } as Log;
    const warnings: string[] = [];
    log.warn = ((_: unknown, message: string) => void warnings.push(message)) as Log['warn'];
    // One that never claims in time: what finds the step is the judging script alone.
    const store = await start({ log, disconnectGraceMs: 20_000 });
    await owns(store);
    await store.setOnline('ada', null);
    await store.connect({ userId: 'grace', connection: connection('g'), replaces: null, isResumed: false });
    await store.disconnect('grace', 'g');
    const lastSeenMs = (await stateOf(store, 'ada')).lastSeenMs;
    time.set(hourMs);
    await waitFor('leases to be extended', () => store.stats().extended > 0, lateMs);
    await sleep(500);
    for (const userId of ['ada', 'grace']) assert.equal(await isGone(store, userId), false, userId);
    assert.equal((await stateOf(store, 'ada')).lastSeenMs, lastSeenMs, 'nobody was heard of since');
    assert.equal(warnings.length, 1, warnings.join());
    assert.equal(store.stats().expired, 0);
    await store.stop();
  });

  it('back: a lease ends when it would have, and is renewed as ever', async () => {
    const store = await start({ ttlMs: 3000 });
    await owns(store);
    await store.setOnline('left', null);
    await store.setOnline('kept', null);
    await store.connect({ userId: 'lost', connection: connection('l'), replaces: null, isResumed: false });
    time.set(-hourMs);
    let isBeating = true;
    const beating = (async () => {
      for (; isBeating; await sleep(100)) assert.ok(await store.heartbeat('kept'));
    })();
    await waitFor('the lease to end', () => isGone(store, 'left'), lateMs);
    await waitFor('the lost one to end', () => isGone(store, 'lost'), lateMs);
    isBeating = false;
    await beating;
    assert.equal(await isGone(store, 'kept'), false);
    const left = await stateOf(store, 'left');
    const nowMs = Date.now() - hourMs;
    assert.ok(
      Math.abs(left.lastSeenMs - nowMs) < lateMs,
      `last seen is of the clock of now: ${left.lastSeenMs - nowMs}`,
    );
    assert.equal((await stateOf(store, 'lost')).cause, 'NODE_LOST');
    await waitFor('the one who was kept to end', () => isGone(store, 'kept'), lateMs);
    await store.stop();
  });

  it('back: a disconnect grace ends, and a heartbeat after a sign-out is refused for one lease only', async () => {
    const store = await start({ disconnectGraceMs: 1000 });
    await owns(store);
    await store.connect({ userId: 'grace', connection: connection('g'), replaces: null, isResumed: false });
    await store.disconnect('grace', 'g');
    const other = await start({ ttlMs: 2000, sweeps: false, nodeId: 'other' });
    await other.setOnline('out', null);
    await other.setOffline('out');
    time.set(-hourMs);
    await waitFor('the grace to end', () => isGone(store, 'grace'), lateMs);
    assert.equal(await other.heartbeat('out'), false);
    await waitFor('heartbeats to be taken again', () => other.heartbeat('out'), lateMs);
    await other.stop();
    await store.stop();
  });

  it('back: what a dead node owned is taken over, and its leases end', async () => {
    const dead = await start({ nodeId: 'a-dead', ttlMs: 3000 });
    await owns(dead);
    await dead.setOnline('ada', null);
    // As a crash leaves it: announced, owner, and for an hour to come by the clock of then.
    await dead.stop();
    const untilMs = Date.now() + 700;
    await client.zAdd('presence:nodes', { score: untilMs, value: 'a-dead' });
    await client.hSet('presence:0:sweeper', { owner: 'a-dead', until: String(untilMs) });
    time.set(-hourMs);
    const store = await start({ nodeId: 'b-alive', ttlMs: 3000 });
    await waitFor('the lease to end', () => isGone(store, 'ada'), lateMs);
    await store.stop();
  });

  it('back during an outage: judging begins after one lease, not after an hour', async () => {
    const store = await start({ ttlMs: 3000 });
    await owns(store);
    await store.setOnline('ada', null);
    time.set(hourMs);
    await waitFor('leases to be extended', () => store.stats().extended > 0, lateMs);
    time.set(0);
    await waitFor('the lease to end', () => isGone(store, 'ada'), lateMs);
    await store.stop();
  });
});
