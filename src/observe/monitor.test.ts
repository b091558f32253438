import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { waitFor } from '../../test/support/wait.ts';
import { silentLog } from './log.ts';
import { CallMeter, Histogram } from './measure.ts';
import { Monitor, type Sources } from './monitor.ts';
import type { NodeReport } from './stats.ts';

const counts = { SET: 0, HEARTBEAT: 0, CONNECT: 0, DISCONNECT: 0, EXPIRED: 0, NODE_LOST: 0 };

/** A node whose engine answers as told. */
function setUp(overview: Partial<Sources['overview']> = {}) {
  const calls = new CallMeter();
  const transitions = { counts: { ...counts }, feedLag: new Histogram(), expiryLateness: new Histogram() };
  const monitor = new Monitor(
    {
      nodeId: 'b',
      version: '0',
      engine: 'memory',
      partitions: 4,
      ttlMs: 30_000,
      heartbeatIntervalMs: 15_000,
      overview: {
        countOnline: async () => 7,
        exchangeReports: async (report) => [report],
        memory: async () => ({ usedBytes: 1, maxBytes: null }),
        ...overview,
      },
      nowMs: Date.now,
      isEngineAvailable: () => true,
      notReadyReasons: () => [],
      redis: () => null,
      hub: () => ({
        users: 0,
        subscriptions: 0,
        watches: 0,
        conflated: 0,
        losses: 0,
        fanOut: new Histogram(),
      }),
      transitions: () => transitions,
      lookups: () => ({ directory: undefined, policy: undefined }),
      refused: () => ({}),
      heartbeats: () => ({ renewedHeartbeats: 0, refusedHeartbeats: 0 }),
      connections: () => ({ grpc: 0, websocket: 0, events: 0 }),
      queuedBytes: () => ({ grpc: 0, websocket: 0, events: 0 }),
      calls: () => ({ grpc: calls }),
    },
    silentLog,
  );
  return { monitor, calls, transitions };
}

async function firstTick(monitor: Monitor) {
  monitor.start();
  await waitFor('a sample', () => monitor.stats() !== undefined);
  await monitor.stop();
  const stats = monitor.stats();
  assert.ok(stats);
  return stats;
}

describe('Monitor', () => {
  it('puts the nodes of the system together: sums, and the slowest', async () => {
    const { monitor, calls } = setUp({
      exchangeReports: async (report) => {
        const own = JSON.parse(report) as NodeReport;
        const other = { ...own, id: 'a', heartbeatsPerSecond: 5, heartbeatMs: { p50: 40, p99: 90 } };
        return [report, JSON.stringify(other)];
      },
    });
    calls.observe('SendHeartbeat', 'OK', performance.now());
    const { nodes, sample } = await firstTick(monitor);
    assert.deepEqual(
      nodes.map(({ id }) => id),
      ['a', 'b'],
    );
    assert.equal(sample.heartbeats, 5);
    assert.deepEqual(sample.heartbeatMs, { p50: 40, p99: 90 });
    assert.equal(sample.online, 7);
  });

  it('goes on alone, and says what it does not know, when the engine does not answer', async () => {
    const refuse = async () => {
      throw new Error('away');
    };
    const { monitor } = setUp({ countOnline: refuse, exchangeReports: refuse, memory: refuse });
    const { nodes, sample, engine } = await firstTick(monitor);
    assert.equal(sample.online, null);
    assert.equal(engine.usedBytes, null);
    assert.deepEqual(
      nodes.map(({ id }) => id),
      ['b'],
    );
  });

  it('counts transitions since the sample before', async () => {
    const { monitor, transitions } = setUp();
    transitions.counts.SET = 3;
    monitor.start();
    await waitFor('two samples', () => (monitor.stats()?.history.length ?? 0) >= 2);
    await monitor.stop();
    assert.deepEqual(
      monitor
        .stats()
        ?.history.slice(0, 2)
        .map((it) => it.transitions.SET),
      [3, 0],
    );
  });
});
