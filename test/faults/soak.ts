/**
 * The long form of faults.test.ts: random faults, one after another, for half an hour: `npm run soak`.
 *
 * SOAK_DURATION=30m, SEED to repeat a run, SOAK_USERS=2000, SOAK_WATCHERS=200.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseDuration } from '../../src/config.ts';
import { keepsData, RedisServer } from '../support/redis-server.ts';
import { crashNode, crashRedis, cutFeed, freezeRedis, isolateNode, restartNode } from './faults.ts';
import { Random } from './random.ts';
import type { ServerProcess } from './server-process.ts';
import { TcpProxy } from './tcp-proxy.ts';
import { World } from './world.ts';

const durationMs = parseDuration(process.env.SOAK_DURATION ?? '30m');
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
const users = Number(process.env.SOAK_USERS ?? 2000);
const watchers = Number(process.env.SOAK_WATCHERS ?? 200);

const say = (line: string): void => {
  process.stdout.write(`${new Date().toISOString()} ${line}\n`);
};

// Rewritten often, so that what a crashed Redis has to load does not grow with the length of the run.
const rewrites = ['--auto-aof-rewrite-min-size', '8mb'];
const redis = await RedisServer.start([...keepsData, ...rewrites]);
const proxy = await TcpProxy.start(redis.port);
const random = new Random(seed);
const way = `redis://127.0.0.1:${proxy.port}`;
say(`SEED=${seed}, ${durationMs / 1000} s, ${users} users, ${watchers} watchers`);
const world = await World.start({
  redisUrls: [redis.url, redis.url, way],
  url: redis.url,
  seed,
  users,
  watchers,
  // Long against what a client needs to find another node, on a machine with other work.
  ttlMs: 8000,
});

const anyNode = (): ServerProcess => random.pick(world.servers);
const faults: readonly (readonly [name: string, run: () => Promise<void>])[] = [
  ['a node crashes', () => crashNode(anyNode())],
  ['a node is restarted', () => restartNode(anyNode())],
  ["a node's feed is cut", () => cutFeed(redis)],
  ['Redis freezes for 5 s', () => freezeRedis(redis, 5000)],
  ['Redis freezes for 1 s', () => freezeRedis(redis, 1000)],
  ['Redis crashes and comes back', () => crashRedis(redis, 200 + random.below(2000))],
  ['a node cannot reach Redis', () => isolateNode(proxy, 1000 + random.below(3000))],
];

try {
  const endMs = performance.now() + durationMs;
  while (performance.now() < endMs && world.problems.count === 0) {
    const [name, run] = random.pick(faults);
    say(name);
    await run();
    await sleep(500 + random.below(4000));
    const { calls, failed } = world.calls();
    say(`  ${calls} calls, ${failed} failed, ${world.breaks} streams came again`);
    await world.checkTold();
  }
  say('everything comes to rest');
  const report = await world.check();
  say(JSON.stringify(report));
  if (world.problems.count > 0) {
    say(`${world.problems.count} problems:\n${world.problems}\n${world.logs()}`);
    process.exitCode = 1;
  } else {
    say('no problem was found');
  }
} finally {
  await world.stop();
  await proxy.stop();
  await redis.stop();
}
