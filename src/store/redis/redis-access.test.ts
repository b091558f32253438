/** What stands between a server and its Redis: TLS, users and passwords, databases. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
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
const docs = readFileSync(new URL('../../../docs/redis.md', import.meta.url), 'utf8');
const rights = /^ACL SETUSER pilotlight on >PASSWORD (.+)$/m.exec(docs)?.[1] as string;

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
  const store = await startStore({ url }, { timeoutMs: 300, log, ...options });
  try {
    await waitFor(
      () => `the operator to be told ${reason}, not ${told}`,
      () => reason.test(told),
      15_000,
    );
    assert.equal(store.available, false);
    await assert.rejects(store.heartbeat('ada'), { code: 'REDIS_ERROR' });
  } finally {
    await store.stop();
  }
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
    await assertRefused(`redis://localhost:${tlsPort}`, /HANGUP|PROTOCOL/, { ca });
    await assertRefused(`rediss://localhost:${redis.port}`, /PROTOCOL|TLS_TIMEOUT/, { ca });
    await assertRefused('redis://no-such-host.invalid', /DNS/);
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

  it('notices what other programs write, and is refused nothing, with the rights that the docs name', async () => {
    const ask = <Reply>(...args: string[]) => redisCommand<Reply>(redis.port, ...args);
    await ask('CONFIG', 'SET', 'notify-keyspace-events', 'K$x');
    await ask('ACL', 'LOG', 'RESET');
    const store = await startStore({ url: `redis://app:p%40ss%3Aw0rd%2F@localhost:${redis.port}` });
    try {
      await waitFor('the engine', () => store.available, 15_000);
      let name = 0;
      await waitFor(
        'a write to be noticed',
        async () => {
          await ask('SET', `user:status:outside-${name++}`, 'online', 'PX', '60000');
          return store.stats().outsideWrites > 0;
        },
        15_000,
      );
      await waitFor('it to count', async () => {
        return (await ask('HGET', `user:meta:outside-${name - 1}`, 's')) === '1';
      });
      assert.deepEqual(await ask('ACL', 'LOG'), []);
    } finally {
      await store.stop();
    }
  });

  it('takes a new password from the file, without a restart', async () => {
    const ask = <Reply>(...args: string[]) => redisCommand<Reply>(redis.port, ...args);
    const passwordFile = path('password');
    const cut = () => ask('CLIENT', 'KILL', 'USER', 'rotating');
    await ask('ACL', 'SETUSER', 'rotating', 'on', '>first', ...rights.split(' '));
    writeFileSync(passwordFile, 'first\n');
    const store = await startStore({ url: `redis://rotating@localhost:${redis.port}` }, { passwordFile });
    try {
      await waitFor('the engine', () => store.available, 15_000);
      await ask('ACL', 'SETUSER', 'rotating', '<first', '>second');
      assert.equal(await store.heartbeat('rotates'), true, 'an open connection stays');
      await cut();
      const isWrong = () => store.troubles.some((line) => line.startsWith('WRONGPASS: '));
      await waitFor('the reason', isWrong, 15_000);
      writeFileSync(passwordFile, 'second\n');
      await waitFor('the new password', () => store.available, 15_000);
      assert.equal(await store.heartbeat('rotates'), true);
    } finally {
      await store.stop();
    }
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
