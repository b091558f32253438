/**
 * Real servers, real Redis, real faults, and a checker that proves from the recorded histories that nobody who kept
 * heartbeating was ever OFFLINE, that watchers were told in order and without repetition, that everybody agrees in the
 * end, and that every transition is in the log once. The long form is soak.ts.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc16 } from '../../src/core/partition.ts';
import { RedisCluster } from '../support/redis-cluster.ts';
import { redisCommand } from '../support/redis-command.ts';
import { RedisSentinelTrio } from '../support/redis-sentinel.ts';
import { keepsData, RedisServer } from '../support/redis-server.ts';
import { crashNode, crashRedis, cutFeed, freezeRedis, isolateNode, restartNode } from './faults.ts';
import type { ServerProcess } from './server-process.ts';
import { TcpProxy } from './tcp-proxy.ts';
import { World, type WorldReport } from './world.ts';

const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

async function finish(context: TestContext, world: World): Promise<WorldReport> {
  const report = await world.check();
  context.diagnostic(`SEED=${seed} ${JSON.stringify(report)}`);
  assert.equal(world.problems.count, 0, `${world.problems}\n${world.logs()}`);
  assert.ok(report.transitions > 0 && report.events > 0, 'something happened');
  return report;
}

/** Started things end with the test, whatever becomes of it, last first. */
function ending<Started extends { stop(): Promise<void> }>(context: TestContext, started: Started): Started {
  context.after(() => started.stop());
  return started;
}

describe('faults', () => {
  it('survives restarts, crashes, cuts and pauses of nodes and of Redis', async (context) => {
    const redis = ending(context, await RedisServer.start(keepsData));
    const proxy = ending(context, await TcpProxy.start(redis.port));
    const { url } = redis;
    const way = `redis://127.0.0.1:${proxy.port}`;
    const world = ending(
      context,
      // Long against what a client needs to find another node, on a machine with other tests at work.
      await World.start({ redisUrls: [url, url, way], url, seed, users: 500, watchers: 50, ttlMs: 8000 }),
    );

    const before = world.calls();
    for (const server of world.servers) {
      await restartNode(server);
      await sleep(500);
    }
    const after = world.calls();
    const calls = after.calls - before.calls;
    const failed = after.failed - before.failed;
    context.diagnostic(`rolling restart: ${calls} calls, ${failed} failed`);
    assert.ok(
      failed <= Math.max(1, calls / 10_000),
      `${failed} of ${calls} calls failed: ${after.lastError}`,
    );

    await crashNode(world.servers[0] as ServerProcess);
    await sleep(500);
    const { breaks } = world;
    await cutFeed(redis);
    await sleep(500);
    await freezeRedis(redis, 5000);
    await sleep(1000);
    await crashRedis(redis, 700);
    await sleep(1000);
    await isolateNode(proxy, 2500);
    assert.equal(world.breaks, breaks, `streams stay open whatever Redis does: ${world.lastBreaks}`);
    const report = await finish(context, world);

    // All data goes: who heartbeats stays ONLINE for everybody who watches.
    world.allowLoss();
    await redisCommand(redis.port, 'FLUSHALL');
    await crashRedis(redis, 300);
    await sleep(1000);
    await finish(context, world);
    assert.ok(report.starved < 0.3, 'the machine was too busy for this test to prove anything');
  });
});

describe('faults of many Redis servers', { concurrency: true }, () => {
  it('survives a failover by Sentinels, of a master killed under load', async (context) => {
    const redis = ending(context, await RedisSentinelTrio.start());
    const { url } = redis;
    const world = ending(
      context,
      await World.start({ redisUrls: [url, url, url], url, seed, users: 200, watchers: 20 }),
    );
    const master = await redis.master();
    world.allowLoss();
    await master.kill();
    await redis.waitForFailover(master);
    await sleep(2000);
    await finish(context, world);
  });

  it('survives a failover and moved slots of a Cluster', async (context) => {
    const redis = ending(context, await RedisCluster.start());
    const { url } = redis;
    const world = ending(
      context,
      await World.start({ redisUrls: [url, url, url], url, seed, users: 200, watchers: 20 }),
    );
    for (const partition of [3, 4]) {
      const slot = crc16(String(partition)) % 16384;
      const from = await redis.masterOf(slot);
      const to = redis.servers.slice(0, 3).find((server) => server !== from) as RedisServer;
      await redis.moveSlot(slot, to);
    }
    await sleep(1000);
    const slot = crc16('0') % 16384;
    const master = await redis.masterOf(slot);
    world.allowLoss();
    await master.kill();
    await redis.waitForFailover(slot, master);
    await sleep(2000);
    await finish(context, world);
  });
});
