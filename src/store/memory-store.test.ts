import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { contractPartitions, contractPolicy, testStoreContract } from '../../test/store-contract.ts';
import { FakeClock } from '../../test/support/clock.ts';
import { MemoryStore } from './memory-store.ts';

function create(lastSeenTtlMs = 60_000) {
  const clock = new FakeClock();
  const store = new MemoryStore({
    ...contractPolicy,
    partitions: contractPartitions,
    lastSeenTtlMs,
    clock,
    sweepIntervalMs: 0,
  });
  const pass = async (ms: number) => {
    clock.advance(ms);
    store.sweep();
  };
  return { clock, store, pass };
}

testStoreContract('memory', async () => {
  const { store, pass } = create();
  await store.start();
  return { store, pass, stop: () => store.stop() };
});

describe('memory store', () => {
  it('judges within its own slot of 5 ms', async () => {
    const { clock, store } = create();
    await store.setOnline('u', null);
    clock.advance(contractPolicy.ttlMs);
    store.sweep();
    assert.equal((await store.read(['u']))[0]?.status, 'ONLINE');
    clock.advance(6);
    store.sweep();
    assert.equal((await store.read(['u']))[0]?.status, 'OFFLINE');
  });

  it('keeps one planned visit per user, however often leases are renewed', async () => {
    const { store, pass } = create();
    for (let round = 0; round < 50; round++) {
      for (let user = 0; user < 100; user++) await store.heartbeat(`u${user}`);
      await pass(contractPolicy.ttlMs / 3);
    }
    assert.equal(store.stats().leaseVisits, 100);
  });

  it('plans no pile of visits for a user whose connections flap', async () => {
    const { store, pass } = create();
    await store.setOnline('u', null);
    for (let round = 0; round < 500; round++) {
      await store.connect({
        userId: 'u',
        connection: { connectionId: 'c', kind: 'session', device: '', activity: 'ACTIVE' },
        replaces: null,
        isResumed: false,
      });
      await store.disconnect('u', 'c');
      await store.heartbeat('u');
      await pass(20);
    }
    assert.ok(store.stats().leaseVisits <= 3, String(store.stats().leaseVisits));
  });

  it('forgets users not seen for LAST_SEEN_TTL', async () => {
    const { store, pass } = create(10_000);
    for (let user = 0; user < 100; user++) await store.setOnline(`u${user}`, null);
    await pass(contractPolicy.ttlMs + 10);
    assert.equal(store.stats().users, 100);
    await store.heartbeat('u7');
    for (let second = 0; second < 13; second++) {
      await store.heartbeat('u7');
      await pass(900);
    }
    assert.equal(store.stats().users, 1);
    assert.equal((await store.read(['u7']))[0]?.status, 'ONLINE');
  });

  it('sweeps by itself once started', async () => {
    const store = new MemoryStore({
      ttlMs: 20,
      disconnectGraceMs: 0,
      maxConnectionsPerUser: 20,
      partitions: 1,
      lastSeenTtlMs: 60_000,
      clock: { nowMs: Date.now },
    });
    const expired = Promise.withResolvers<void>();
    store.onFeed({
      transitions: ([state]) => state?.cause === 'EXPIRED' && expired.resolve(),
      privacyChanged: () => {},
      lost: () => {},
    });
    await store.start();
    await store.follow(0);
    await store.setOnline('u', null);
    await expired.promise;
    await store.stop();
  });
});
