/** Redis memory per ONLINE and per OFFLINE user: `node bench/redis-memory.ts [--users 100000]`. */
import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { createClient } from 'redis';
import { silentLog } from '../src/observe/log.ts';
import { RedisStore } from '../src/store/redis/redis-store.ts';
import { redisCommand } from '../test/support/redis-command.ts';
import { RedisServer } from '../test/support/redis-server.ts';

const { values } = parseArgs({ options: { users: { type: 'string', default: '100000' } } });
const users = Number(values.users);
const chunk = 2000;

const redis = await RedisServer.start();
const store = new RedisStore({
  url: redis.url,
  ttlMs: 600_000,
  disconnectGraceMs: 0,
  timeoutMs: 60_000,
  partitions: 64,
  lastSeenTtlMs: 3_600_000,
  maxConnectionsPerUser: 20,
  nodeId: 'bench',
  log: silentLog,
});
await store.start();
const client = await createClient({ url: redis.url }).connect();

async function usedBytes(): Promise<number> {
  const info = await redisCommand<string>(redis.port, 'INFO', 'memory');
  return Number(/used_memory:(\d+)/.exec(info)?.[1]);
}

/** The log is bounded, so it does not belong to any user. */
async function dropLogs(): Promise<number> {
  const before = await usedBytes();
  for (let partition = 0; partition < 64; partition++) {
    await redisCommand(redis.port, 'XTRIM', `presence:${partition}:log`, 'MAXLEN', '0');
  }
  return before - (await usedBytes());
}

async function forAll(change: (userId: string) => Promise<unknown>): Promise<void> {
  for (let from = 0; from < users; from += chunk) {
    const some = Array.from({ length: Math.min(chunk, users - from) }, (_, i) =>
      change(String(10_000_000 + from + i)),
    );
    await Promise.all(some);
  }
}

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};
const emptyBytes = await usedBytes();
await forAll((userId) => store.setOnline(userId, null));
const logBytes = await dropLogs();
const onlineBytes = await usedBytes();
print(`log: ${(logBytes / users).toFixed(0)} bytes per entry of one transition`);
print(`ONLINE: ${((onlineBytes - emptyBytes) / users).toFixed(0)} bytes per user of 8 characters`);
const session = { kind: 'session', device: 'Firefox', activity: 'ACTIVE' } as const;
await forAll((userId) =>
  store.connect({
    userId,
    connection: { ...session, connectionId: randomUUID() },
    replaces: null,
    isResumed: false,
  }),
);
await dropLogs();
print(`one session: ${(((await usedBytes()) - onlineBytes) / users).toFixed(0)} bytes`);
await forAll((userId) => client.del([`user:connections:${userId}`, `user:details:${userId}`]));
await forAll((userId) => store.setOffline(userId));
await dropLogs();
const signedOutBytes = await usedBytes();
print(
  `OFFLINE, signed out less than one TTL ago: ${((signedOutBytes - emptyBytes) / users).toFixed(0)} bytes`,
);
// As if the lease's time had passed.
await forAll((userId) => client.del(`user:status:${userId}`));
client.destroy();
print(`OFFLINE: ${(((await usedBytes()) - emptyBytes) / users).toFixed(0)} bytes, for LAST_SEEN_TTL`);
await store.stop();
await redis.stop();
