/**
 * What heartbeats cost: `node bench/redis-cost.ts [--users 10000,100000] [--seconds 30]`.
 *
 * 1. Redis CPU and commands of each heartbeat, at several numbers of users: every user once in 15 s, and then renewals and
 *    the sweep's checks each in bulk.
 * 2. CPU of Redis and of the servers per heartbeat over gRPC: one node against two on one Redis, each with the same load,
 *    then as fast as they answer (needs h2load).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { silentLog } from '../src/observe/log.ts';
import { RedisStore } from '../src/store/redis/redis-store.ts';
import { ServerProcess } from '../test/faults/server-process.ts';
import { redisCommand } from '../test/support/redis-command.ts';
import { RedisServer } from '../test/support/redis-server.ts';
import { seedUsers } from './seed-users.ts';

const ttlMs = 30_000;
const intervalMs = 15_000;
const clockTicksPerSecond = 100;
const partitions = 64;
const loadClients = 8;

const { values } = parseArgs({
  options: {
    users: { type: 'string', default: '10000,100000' },
    seconds: { type: 'string', default: '30' },
    calls: { type: 'string', default: '200000' },
  },
});

const nameOf = (i: number): string => `user-${i}`;

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

interface Reading {
  readonly cpuSeconds: number;
  readonly commands: ReadonlyMap<string, number>;
  readonly usedBytes: number;
}

async function read(port: number): Promise<Reading> {
  const info = await redisCommand<string>(port, 'INFO', 'everything');
  const number = (field: string) => Number(new RegExp(`^${field}:([\\d.]+)`, 'm').exec(info)?.[1]);
  const calls = [...info.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)];
  return {
    cpuSeconds: number('used_cpu_user') + number('used_cpu_sys'),
    commands: new Map(calls.map(([, name, count]) => [name as string, Number(count)])),
    usedBytes: number('used_memory'),
  };
}

function difference(before: Reading, after: Reading, seconds: number) {
  const calls = (name: string) => (after.commands.get(name) ?? 0) - (before.commands.get(name) ?? 0);
  return {
    cpu: (after.cpuSeconds - before.cpuSeconds) / seconds,
    renewals: calls('getex') / seconds,
    // Of each whose lease runs, here everybody.
    checks: calls('pexpiretime') / seconds,
    scripts: calls('evalsha') / seconds,
  };
}

async function measureUsers(users: number, seconds: number): Promise<void> {
  const redis = await RedisServer.start();
  const store = new RedisStore({
    url: redis.url,
    ttlMs,
    disconnectGraceMs: 0,
    timeoutMs: 5000,
    partitions,
    lastSeenTtlMs: 3_600_000,
    maxConnectionsPerUser: 20,
    nodeId: 'bench',
    log: silentLog,
  });
  await store.start();
  await sleep(500);
  const idleBefore = await read(redis.port);
  await sleep(3000);
  const idle = difference(idleBefore, await read(redis.port), 3);
  const usedBytes = idleBefore.usedBytes;
  await seedUsers(redis.url, { count: users, nameOf }, { ttlMs, partitions });
  let done = 0;
  const startMs = performance.now();
  const beat = async (untilMs: number) => {
    while (performance.now() < untilMs) {
      const due = Math.floor(((performance.now() - startMs) / intervalMs) * users);
      const beats: Promise<boolean>[] = [];
      for (; done < due; done++) beats.push(store.heartbeat(nameOf(done % users)));
      await Promise.all(beats);
      await sleep(5);
    }
  };
  await beat(startMs + intervalMs);
  const before = await read(redis.port);
  const doneBefore = done;
  const measureMs = performance.now();
  await beat(measureMs + seconds * 1000);
  const elapsed = (performance.now() - measureMs) / 1000;
  const after = await read(redis.port);
  const busy = difference(before, after, elapsed);
  const rate = (done - doneBefore) / elapsed;
  const per = (busyValue: number, idleValue: number) =>
    (Math.max(0, busyValue - idleValue) / rate).toFixed(2);
  print(
    `${users} users, ${rate.toFixed(0)} heartbeats/s: Redis ${per(busy.cpu * 1e6, idle.cpu * 1e6)} us CPU each` +
      ` (${(((busy.cpu - idle.cpu) / rate) * 1e6).toFixed(2)} s per 1,000,000; idle ${(idle.cpu * 100).toFixed(1)} % of a core);` +
      ` per heartbeat ${per(busy.renewals, idle.renewals)} renewals, ${per(busy.checks, idle.checks)} checks by the sweep,` +
      ` ${per(busy.scripts, idle.scripts)} script calls; ${((after.usedBytes - usedBytes) / users).toFixed(0)} bytes per online user`,
  );
  // Each number of users alone tells what Redis itself needs; at their pace, its waking up is in it.
  const renewalUs = await measureRenewals(store, redis.port, users);
  const checkUs = await measureChecks(redis.port, users);
  print(
    `  in bulk: ${renewalUs.toFixed(2)} s of Redis CPU for 1,000,000 renewals, ${(checkUs / 2).toFixed(2)} s for the 500,000 checks that go with them, together ${(renewalUs + checkUs / 2).toFixed(2)} s`,
  );
  await store.stop();
  await redis.stop();
}

/** Renewals as fast as Redis takes them, in the batches of busy servers: Redis CPU of each, us. */
async function measureRenewals(store: RedisStore, port: number, users: number): Promise<number> {
  const before = await read(port);
  const startMs = performance.now();
  let done = 0;
  while (performance.now() - startMs < 4000) {
    const from = done;
    await Promise.all(Array.from({ length: 4000 }, (_, i) => store.heartbeat(nameOf((from + i) % users))));
    done += 4000;
  }
  const seconds = (performance.now() - startMs) / 1000;
  print(`  renewals at full speed: ${(done / seconds).toFixed(0)} heartbeats/s`);
  return (((await read(port)).cpuSeconds - before.cpuSeconds) / done) * 1e6;
}

/** Makes every user's check due at once, all of them with a running lease: Redis CPU of each check, us. */
async function measureChecks(port: number, users: number): Promise<number> {
  const indexes = Array.from({ length: partitions }, (_, partition) => `presence:${partition}:deadlines`);
  for (const key of indexes) await redisCommand(port, 'ZUNIONSTORE', `${key}:due`, '1', key, 'WEIGHTS', '0');
  const before = await read(port);
  for (const key of indexes) {
    await redisCommand(port, 'RENAME', key, `${key}:before`);
    await redisCommand(port, 'RENAME', `${key}:due`, key);
  }
  for (const key of indexes) {
    while ((await redisCommand<number>(port, 'ZCOUNT', key, '0', '0')) > 0) await sleep(20);
  }
  return (((await read(port)).cpuSeconds - before.cpuSeconds) / users) * 1e6;
}

async function processSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / clockTicksPerSecond;
}

/** Sends `calls` heartbeats of one user to a node; `perSecond` 0: as fast as it answers. */
async function load(
  server: ServerProcess,
  calls: number,
  perSecond: number,
  folder: string,
  userId: string,
): Promise<void> {
  const file = join(folder, `request-${userId}`);
  const message = Buffer.concat([Buffer.from([0x0a, userId.length]), Buffer.from(userId)]);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  await writeFile(file, Buffer.concat([head, message]));
  const child = spawn(
    'h2load',
    [
      ...['-t1', `-c${loadClients}`, '-m32', `-n${calls}`, '-d', file],
      ...(perSecond === 0 ? [] : [`--rps=${perSecond / loadClients}`]),
      ...['-H', 'te: trailers', '-H', 'content-type: application/grpc'],
      `${server.grpcUrl}/presence.v1.PresenceService/SendHeartbeat`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  child.stdout.on('data', (data) => {
    output += data;
  });
  await once(child, 'close');
  if (!output.includes(` ${calls} succeeded`)) throw new Error(`not every call succeeded:\n${output}`);
}

/** @param calls to each node */
async function measureNodes(
  count: number,
  calls: number,
  perSecond: number,
): Promise<{ redisUs: number; serverUs: number }> {
  const redis = await RedisServer.start();
  const folder = await mkdtemp(join(tmpdir(), 'pilotlight-bench-'));
  const servers = await Promise.all(
    Array.from({ length: count }, (_, i) => ServerProcess.start(`node ${i}`, { REDIS_URL: redis.url })),
  );
  // What is measured is a warm server.
  await Promise.all(servers.map((server, i) => load(server, Math.floor(calls / 4), 0, folder, `warm-${i}`)));
  const cpu = async () => ({
    redis: await processSeconds(redis.pid),
    servers: (await Promise.all(servers.map(({ pid }) => processSeconds(pid as number)))).reduce(
      (a, b) => a + b,
      0,
    ),
  });
  const before = await cpu();
  const startMs = performance.now();
  await Promise.all(servers.map((server, i) => load(server, calls, perSecond, folder, `user-${i}`)));
  const seconds = (performance.now() - startMs) / 1000;
  const after = await cpu();
  const total = calls * count;
  const redisUs = ((after.redis - before.redis) / total) * 1e6;
  const serverUs = ((after.servers - before.servers) / total) * 1e6;
  print(
    `${count} node${count === 1 ? '' : 's'}: ${(total / seconds).toFixed(0)} heartbeats/s, per heartbeat Redis ${redisUs.toFixed(2)} us, servers ${serverUs.toFixed(2)} us CPU`,
  );
  await Promise.all(servers.map((server) => server.stop()));
  await redis.stop();
  await rm(folder, { recursive: true });
  return { redisUs, serverUs };
}

const userCounts = values.users.split(',').filter((count) => count !== '');
for (const users of userCounts.map(Number)) await measureUsers(users, Number(values.seconds));
for (const perSecond of [20_000, 0]) {
  print(perSecond === 0 ? 'as fast as they answer:' : `each node ${perSecond} heartbeats/s:`);
  const one = await measureNodes(1, Number(values.calls), perSecond);
  const two = await measureNodes(2, Number(values.calls), perSecond);
  print(
    `two nodes against one, CPU per heartbeat: Redis ${(two.redisUs / one.redisUs).toFixed(2)}, servers ${(two.serverUs / one.serverUs).toFixed(2)}`,
  );
}
