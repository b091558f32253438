import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FakeClock } from '../../test/support/clock.ts';
import type { UserState } from '../core/presence.ts';
import { silentLog } from '../observe/log.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { keptTransitions, TransitionLog } from './transition-log.ts';
import { WatchHub } from './watch-hub.ts';

async function setUp() {
  const clock = new FakeClock();
  const policy = { ttlMs: 30_000, disconnectGraceMs: 0, maxConnectionsPerUser: 20 };
  const store = new MemoryStore({
    ...policy,
    partitions: 4,
    lastSeenTtlMs: 60_000,
    clock,
    sweepIntervalMs: 0,
  });
  const hub = new WatchHub({
    store,
    partitions: 4,
    maxWatchedUsers: 10,
    ttlMs: 1000,
    lastSeenTtlMs: 60_000,
    log: silentLog,
  });
  const log = new TransitionLog({ hub, ttlMs: policy.ttlMs, nowMs: () => clock.nowMs(), log: silentLog });
  await log.start();
  return { clock, store, hub, log };
}

describe('TransitionLog', () => {
  it('sees transitions of users whom nobody watches, and counts them by cause', async () => {
    const { clock, store, log } = await setUp();
    const seen: UserState[] = [];
    const end = log.listen((states) => seen.push(...states));
    await store.setOnline('ada', null);
    await store.heartbeat('bob');
    await store.heartbeat('bob');
    await store.setOffline('ada');
    clock.advance(30_120);
    store.sweep();
    end();
    await store.setOnline('eve', null);
    assert.deepEqual(
      seen.map(({ userId, cause }) => `${userId} ${cause}`),
      ['ada SET', 'bob HEARTBEAT', 'ada SET', 'bob EXPIRED'],
    );
    assert.deepEqual(
      { ...log.stats().counts },
      {
        SET: 3,
        HEARTBEAT: 1,
        CONNECT: 0,
        DISCONNECT: 0,
        EXPIRED: 1,
        NODE_LOST: 0,
      },
    );
    assert.equal(log.stats().expiryLateness.sum, 0.12);
    assert.equal(log.recent().length, 5);
  });

  it('keeps a bounded number of them', async () => {
    const { store, log } = await setUp();
    for (let index = 0; index < 2 * keptTransitions + 10; index++) await store.setOnline(`u${index}`, null);
    assert.equal(log.recent().length, keptTransitions);
    assert.equal(log.recent().at(-1)?.userId, `u${2 * keptTransitions + 9}`);
  });

  it('goes on following when the last watcher of a partition leaves', async () => {
    const { store, hub, log } = await setUp();
    const subscription = hub.subscribe({ send: () => true });
    await subscription.watch(['ada']);
    subscription.close();
    await store.setOnline('ada', null);
    assert.equal(log.recent().length, 1);
    assert.equal(hub.stats().subscriptions, 0);
  });
});
