/** What stands between a server and its Redis: TLS, users and passwords, databases. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createClient } from 'redis';
import { followAll } from '../../../test/store-harness.ts';
import { makeAuthority, makeCertificate } from '../../../test/support/certificates.ts';
import { temporaryFolder } from '../../../test/support/child-process.ts';
import { RedisCluster } from '../../../test/support/redis-cluster.ts';
import { redisCommand } from '../../../test/support/redis-command.ts';
import { RedisSentinelTrio } from '../../../test/support/redis-sentinel.ts';
import { freePort, RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import { waitFor } from '../../../test/support/wait.ts';
import { type Log, silentLog } from '../../observe/log.ts';
import type { RedisStoreOptions } from './redis-store.ts';

/** All that the docs say a user of Redis needs to be allowed. */
const rights =
  '~user:* ~presence:* &presence:* &__keyspace@*__:user:status:* +@all -@admin -@dangerous +info +config|get';

/** Writes, renews, reads, sweeps and feeds through a store at this URL. */
async function assertServes(url: string, options: Partial<RedisStoreOptions> = {}): Promise<void> {
  const store = await startStore({ url }, { ttlMs: 700, ...options });
  try {
    await waitFor('the engine', () => store.available);
    const told: string[] = [];
    store.onFeed({
      transitions: (states) => told.push(...states.map(({ userId, status }) => `${userId} ${status}`)),
      lost: () => {},
      privacyChanged: () => {},
    });
    await followAll(store);
    await store.setOnline('ada', 'ACTIVE');
    const users = Array.from({ length: 40 }, (_, number) => `user-${number}`);
    assert.ok((await Promise.all(users.map((user) => store.heartbeat(user)))).every(Boolean));
    assert.ok((await store.read(['ada', ...users])).every(({ status }) => status === 'ONLINE'));
    await waitFor('a lease to be judged and told', () => told.includes('ada OFFLINE'));
  } finally {
    await store.stop();
  }
}

/** Neither serves nor keeps the reason to itself. */
async function assertRefused(
  url: string,
  reason: RegExp,
  options: Partial<RedisStoreOptions> = {},
): Promise<void> {
  let told = '';
  const log = {
    ...silentLog,
    warn: (fields: object) => {
      told += JSON.stringify(fields);
    },
  } as unknown as Log;
  // It is told when starting was waited for in vain: on a busy machine, before Redis had the time to say it.
  for (const timeoutMs of [300, 5000]) {
    const store = await startStore({ url }, { timeoutMs, log, ...options });
    try {
      assert.equal(store.available, false);
      await assert.rejects(store.heartbeat('ada'), { code: 'REDIS_ERROR' });
    } finally {
      await store.stop();
    }
    if (reason.test(told)) return;
  }
  assert.match(told, reason, 'the operator is told why');
}

describe('access to one Redis', () => {
  const folder = temporaryFolder('redis-tls');
  const path = (name: string) => join(folder, name);
  let redis: RedisServer;
  let tlsPort: number;

  before(async () => {
    makeAuthority(path, 'ca');
    makeCertificate(path, 'ca', 'redis');
    tlsPort = await freePort();
    redis = await RedisServer.start([
      ...['--tls-port', String(tlsPort), '--tls-auth-clients', 'no'],
      ...['--tls-cert-file', path('redis.pem'), '--tls-key-file', path('redis.key')],
      ...['--tls-ca-cert-file', path('ca.pem')],
    ]);
    await redisCommand(redis.port, 'ACL', 'SETUSER', 'app', 'on', '>p@ss:w0rd/', ...rights.split(' '));
  });
  after(async () => {
    await redis.stop();
    rmSync(folder, { recursive: true });
  });

  it('goes by TLS, with an authority of its own, and only to a server that proves itself', async () => {
    const ca = readFileSync(path('ca.pem'), 'utf8');
    await assertServes(`rediss://localhost:${tlsPort}`, { ca });
    await assertRefused(`rediss://localhost:${tlsPort}`, /certificate/);
    await assertRefused(`redis://localhost:${tlsPort}`, /./, { ca });
  });

  it('goes by user and password, with no more rights than the docs name, into a database', async () => {
    await assertServes(`redis://app:p%40ss%3Aw0rd%2F@localhost:${redis.port}/3`);
    await assertRefused(`redis://app:wrong@localhost:${redis.port}/3`, /WRONGPASS/);
    const client = createClient({ url: redis.url, database: 3 });
    await client.connect();
    assert.equal(await client.exists('presence:partitions'), 1, 'that is where its keys are');
    assert.equal(await client.hGet('user:meta:ada', 's'), '2');
    client.destroy();
  });

  it('goes by a password alone', async () => {
    await redisCommand(redis.port, 'CONFIG', 'SET', 'requirepass', 'secret');
    await assertServes(`redis://:secret@localhost:${redis.port}`);
    await assertRefused(redis.url, /NOAUTH/);
  });
});

it('goes by the password of Sentinels and of what they watch over', async (context) => {
  const redis = await RedisSentinelTrio.start();
  context.after(() => redis.stop());
  for (const { port } of redis.servers) {
    await redisCommand(port, 'CONFIG', 'SET', 'masterauth', 'secret');
    await redisCommand(port, 'CONFIG', 'SET', 'requirepass', 'secret');
  }
  const url = redis.url.replace('//', '//:secret@');
  await assertServes(url);
  // Sentinels without a password of their own do not mind one, so both ways are right.
  for (const { port } of redis.sentinels) {
    await redisCommand(port, 'ACL', 'SETUSER', 'default', 'resetpass', '>secret');
  }
  await assertServes(url);
  await assertRefused(redis.url, /NOAUTH/);
});

it('goes by the user and password of a Cluster', async (context) => {
  const redis = await RedisCluster.start();
  context.after(() => redis.stop());
  const tagged = rights
    .replaceAll('~', '~{*}')
    .replace('&presence', '&{*}presence')
    .replace(':user', ':{*}user');
  for (const { port } of redis.servers) {
    await redisCommand(port, 'ACL', 'SETUSER', 'app', 'on', '>secret', ...tagged.split(' '));
    await redisCommand(port, 'CONFIG', 'SET', 'masterauth', 'other');
    await redisCommand(port, 'CONFIG', 'SET', 'requirepass', 'other');
  }
  await assertServes(redis.url.replace('//', '//app:secret@'));
  await assertRefused(redis.url, /NOAUTH/);
});
