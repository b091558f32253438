/** Redis at its `maxmemory`: what frees, ends or renews works as ever, and only growth is refused. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { contractPartitions, followAll } from '../../../test/store-harness.ts';
import { redisCommand } from '../../../test/support/redis-command.ts';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import { waitFor } from '../../../test/support/wait.ts';
import type { PrivacyChange } from '../../core/privacy.ts';
import type { ConnectionOpening } from '../../core/store.ts';
import type { RedisStore } from './redis-store.ts';

const ttlMs = 4000;
const noPrivacyChange: PrivacyChange = {
  invisible: null,
  lastSeen: null,
  addBlocked: [],
  removeBlocked: [],
  maxBlockedUsers: 100,
};

function session(userId: string, connectionId: string): ConnectionOpening {
  const connection = { connectionId, kind: 'session', device: '', activity: 'ACTIVE' } as const;
  return { userId, connection, replaces: null, isResumed: false };
}

describe('Redis whose memory is full', () => {
  let redis: RedisServer;
  let store: RedisStore;
  const told: string[] = [];

  const fill = (bytes: string) => redisCommand(redis.port, 'CONFIG', 'SET', 'maxmemory', bytes);
  const toldOf = (user: string) => told.filter((line) => line.startsWith(`${user} `));
  const statusOf = async (user: string) => (await store.read([user]))[0]?.status;

  before(async () => {
    redis = await RedisServer.start();
    store = await startStore(redis, { ttlMs, disconnectGraceMs: 100 });
    store.onFeed({
      transitions: (states) => {
        for (const { userId, status, cause } of states) told.push(`${userId} ${status} ${cause}`);
      },
      privacyChanged: () => {},
      lost: () => assert.fail('nothing was lost'),
    });
    await waitFor('the engine', () => store.available);
    await followAll(store);
    await waitFor('all partitions to be owned', () => store.stats().ownedPartitions === contractPartitions);
  });
  beforeEach(() => fill('0'));
  after(async () => {
    await store.stop();
    await redis.stop();
  });

  it('refuses growth with its reason, and changes nothing', async () => {
    await store.setOnline('here', null);
    await fill('1');
    const isRefused = { code: 'REDIS_ERROR' };
    await assert.rejects(store.setOnline('new', 'AWAY'), isRefused);
    await assert.rejects(store.heartbeat('new'), isRefused);
    await assert.rejects(store.connect(session('new', 'new-1')), isRefused);
    await assert.rejects(store.connect(session('here', 'here-1')), isRefused);
    await assert.rejects(store.setCustomStatus('here', { text: 'long', emoji: '', lifeMs: 0 }), isRefused);
    await assert.rejects(store.setPrivacy('here', { ...noPrivacyChange, invisible: true }), isRefused);
    assert.equal(await statusOf('new'), 'OFFLINE');
    assert.equal(await redisCommand(redis.port, 'EXISTS', 'user:meta:new', 'user:status:new'), 0);
    assert.equal((await store.readConnections('here')).length, 0);
    await fill('0');
    assert.equal((await store.setOnline('new', null)).status, 'ONLINE');
  });

  it('renews leases and connections, and takes changes of who is ONLINE', async () => {
    const users = Array.from({ length: 20 }, (_, number) => `beats-${number}`);
    await Promise.all(users.map((user) => store.setOnline(user, null)));
    const { sinceMs } = await store.connect(session('stays', 'stays-1'));
    await fill('1');
    assert.ok((await Promise.all(users.map((user) => store.heartbeat(user)))).every(Boolean));
    assert.equal(await store.heartbeat(users[0] as string), true);
    assert.equal((await store.setOnline(users[0] as string, 'AWAY')).activity, 'AWAY');
    const { connection } = session('stays', 'stays-1');
    const renewal = { userId: 'stays', connection: { ...connection, sinceMs } };
    assert.deepEqual(await store.renewConnections([renewal]), []);
    const state = await store.setConnectionActivity('stays', 'stays-1', 'IDLE');
    assert.equal(state.activity, 'IDLE');
    const left = await redisCommand<number>(redis.port, 'PTTL', 'user:status:stays');
    assert.ok(left > ttlMs / 2, `${left} ms`);
  });

  it('ends leases, sessions, custom statuses and blocks on time', async () => {
    await store.setPrivacy('goes', { ...noPrivacyChange, addBlocked: ['eve'] });
    await store.setCustomStatus('goes', { text: 'for a while', emoji: '', lifeMs: 500 });
    await store.setCustomStatus('clears', { text: 'for good', emoji: '', lifeMs: 0 });
    await Promise.all(['expires', 'goes', 'clears'].map((user) => store.setOnline(user, null)));
    await store.connect(session('closes', 'closes-1'));
    await fill('1');
    await store.disconnect('closes', 'closes-1');
    await waitFor('the closed session', () => toldOf('closes').length === 2);
    assert.deepEqual(toldOf('closes'), ['closes ONLINE CONNECT', 'closes OFFLINE DISCONNECT']);
    assert.equal(
      (await store.setCustomStatus('clears', { text: '', emoji: '', lifeMs: 0 })).customStatus,
      null,
    );
    await waitFor('the custom status to be over', async () => {
      const [state] = await store.read(['goes']);
      return state?.customStatus === null;
    });
    const { privacy } = await store.setPrivacy('goes', { ...noPrivacyChange, removeBlocked: ['eve'] });
    assert.ok(privacy?.blocked.get('eve')?.lifted ?? true);
    await store.setOffline('goes');
    assert.equal(await statusOf('goes'), 'OFFLINE');
    await waitFor('the lease to end', () => toldOf('expires').length === 2);
    assert.equal(toldOf('expires')[1], 'expires OFFLINE EXPIRED');
    const [expired] = await store.read(['expires']);
    const lateMs = (expired?.sinceMs as number) - (expired?.lastSeenMs as number) - ttlMs;
    assert.ok(lateMs < 1500, `${lateMs} ms late`);
  });

  it('lets a node start, take partitions over and know the others', async () => {
    await fill('1');
    const other = await startStore(redis, { ttlMs });
    await waitFor('the engine', () => other.available);
    const half = contractPartitions / 2;
    await waitFor('an even share', () => other.stats().ownedPartitions === half);
    assert.equal(store.stats().ownedPartitions, half);
    await store.overview.exchangeReports('"first"');
    assert.deepEqual((await other.overview.exchangeReports('"second"')).toSorted(), ['"first"', '"second"']);
    await other.stop();
    await waitFor('all partitions', () => store.stats().ownedPartitions === contractPartitions);
  });

  it('counts no partition as swept that cannot be', async () => {
    await redisCommand(redis.port, 'ACL', 'SETUSER', 'default', '-zrangebyscore');
    await waitFor('the truth', () => store.stats().ownedPartitions === 0);
    await redisCommand(redis.port, 'ACL', 'SETUSER', 'default', '+@all');
    await waitFor('all partitions', () => store.stats().ownedPartitions === contractPartitions);
  });
});
