/** Privacy as Redis keeps it: for how long, at what cost, and what a node that missed a change does. */
import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import { followAll } from '../../../test/store-harness.ts';
import { redisCommand } from '../../../test/support/redis-command.ts';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import { waitFor } from '../../../test/support/wait.ts';
import type { Privacy, PrivacyChange } from '../../core/privacy.ts';
import { toCome } from '../../core/privacy-change.ts';
import { seenBy, stranger } from '../../core/sight.ts';
import { aroundTime, decodePrivacy, encodePrivacy } from './privacy-text.ts';
import type { RedisStore, RedisStoreOptions } from './redis-store.ts';

function change(wanted: Partial<PrivacyChange>): PrivacyChange {
  const nothing = { invisible: null, lastSeen: null, addBlocked: [], removeBlocked: [] };
  return { ...nothing, maxBlockedUsers: 100, ...wanted };
}

describe('privacy in Redis', () => {
  let redis: RedisServer;

  before(async () => {
    redis = await RedisServer.start();
  });
  after(() => redis?.stop());

  /** A store that ends with the test. Leases are long: none ends by itself. */
  async function open(context: TestContext, options: Partial<RedisStoreOptions> = {}): Promise<RedisStore> {
    const store = await startStore(redis, { ttlMs: 60_000, ...options });
    context.after(() => store.stop());
    return store;
  }

  const ask = <Reply>(...args: string[]) => redisCommand<Reply>(redis.port, ...args);

  /** Calls of each command, those of scripts included, that `work` makes. */
  async function callsOf(work: () => Promise<unknown>): Promise<Record<string, number>> {
    await ask('CONFIG', 'RESETSTAT');
    await work();
    const text = await ask<string>('INFO', 'commandstats');
    const own = ['info', 'config|resetstat', 'client|setinfo', 'hello'];
    const counts = [...text.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)].map(
      ([, name, calls]) => [name as string, Number(calls)] as const,
    );
    return Object.fromEntries(counts.filter(([name]) => !own.includes(name)));
  }

  it('comes from Redis once, however many ask for it at one time', async (context) => {
    const [writer, reader] = await Promise.all([open(context), open(context)]);
    await writer.setOnline('asked', null);
    await writer.setPrivacy('asked', change({ addBlocked: ['vic'] }));
    const calls = await callsOf(() =>
      Promise.all(Array.from({ length: 50 }, () => reader.read(Array.from({ length: 40 }, () => 'asked')))),
    );
    assert.ok((calls.get ?? 0) <= 3, JSON.stringify(calls));
  });

  it('is read as version 0.1 wrote it', () => {
    const face = {
      cause: 'SET',
      sinceMs: 1,
      changedAtMs: 1,
      lastSeenMs: 1,
      version: null,
      customStatuses: [],
      lateMs: 0,
    };
    const text = JSON.stringify({ i: null, b: [['vic', { f: face, l: null }]], s: 'everyone', v: null });
    const privacy = decodePrivacy(`7000\n${text}`);
    assert.deepEqual(privacy?.blocked.get('vic'), { face: { ...face, version: 7000 }, lifted: null });
    assert.deepEqual(decodePrivacy(`7000\n${encodePrivacy(privacy as Privacy)}`), privacy);
    assert.equal(
      decodePrivacy('7000\n{"i":null,"b":{"faces":[],"users":[["vic",0,null]]},"s":"everyone","v":1}'),
      undefined,
    );
  });

  it('outlives LAST_SEEN_TTL with the user, and goes when nothing is left of it', async (context) => {
    const store = await open(context);
    const ttlOf = (userId: string) => ask<number>('PTTL', `user:meta:${userId}`);
    await store.setOnline('una', null);
    await store.setPrivacy('una', change({ addBlocked: ['vic'] }));
    await store.setOffline('una');
    await store.setOffline('una');
    await store.setCustomStatus('una', { text: 'away', emoji: '', lifeMs: 0 });
    await store.setPrivacy('never seen', change({ invisible: true }));
    assert.deepEqual(await Promise.all(['una', 'never seen'].map(ttlOf)), [-1, -1]);
    await store.setOnline('una', null);
    assert.ok((await store.read(['una']))[0]?.privacy?.blocked.has('vic'));

    await store.setPrivacy('una', change({ removeBlocked: ['vic'] }));
    await store.setOffline('una');
    // What was lifted counts no more, and the next call drops it.
    await store.setPrivacy('una', change({}));
    assert.equal(await ask('EXISTS', 'user:privacy:una'), 0);
    assert.ok((await ttlOf('una')) > 0);
    assert.equal((await store.read(['una']))[0]?.privacy, undefined);
  });

  it('costs a user who has none no command, and one who has it none after the first read', async (context) => {
    // No sweeps among the counted commands.
    const store = await open(context, { sweeps: false });
    const bulk = (userId: string) => Array.from({ length: 40 }, (_, number) => `${userId} ${number}`);
    const live = async (userId: string) => {
      await store.setOnline(userId, null);
      await store.heartbeat(userId);
      await store.read([userId]);
      await store.read([userId, ...bulk(userId)]);
      await store.setOffline(userId);
    };
    // The first use of a script loads it.
    await live('plain');
    // What a node does each second comes on top of some rounds.
    const least = async (userId: string) => {
      const total = (calls: Record<string, number>) => Object.values(calls).reduce((sum, it) => sum + it, 0);
      const rounds: Record<string, number>[] = [];
      for (let round = 0; round < 20; round++) rounds.push(await callsOf(() => live(userId)));
      return rounds.reduce((best, it) => (total(it) < total(best) ? it : best));
    };
    const plain = await least('plain');
    await store.setPrivacy('private', change({ invisible: true, addBlocked: ['vic'] }));
    await store.setOnline('private', null);
    await store.setOffline('private');
    await store.read(['private']);
    const known = await least('private');
    await live('plain');
    const again = await least('plain');
    assert.deepEqual(
      { ...known, hmget: 0, persist: 0, pexpire: 0, get: 0 },
      { ...again, hmget: 0, persist: 0, pexpire: 0, get: 0 },
    );
    assert.equal(known.get, again.get, 'the privacy is read once');
    assert.equal(again.evalsha, plain.evalsha);
  });

  it('closes gaps of the feed by changes of privacy too, in order', async (context) => {
    const writer = await open(context);
    const reader = await open(context);
    const told: string[] = [];
    reader.onFeed({
      transitions: (states) => told.push(...states.map(({ status }) => status)),
      privacyChanged: (userId) => told.push(`privacy of ${userId}`),
      lost: () => assert.fail('the log reaches back'),
    });
    await followAll(reader);
    await writer.setOnline('gap', null);
    await waitFor('the first', () => told.length === 1);
    // Only the feed's connection subscribes, so this cuts nothing else.
    await ask('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await writer.setPrivacy('gap', change({ invisible: true }));
    await writer.setOffline('gap');
    await writer.setPrivacy('gap', change({ invisible: false }));
    await waitFor('the gap to be closed', () => told.length === 4);
    assert.deepEqual(told, ['ONLINE', 'privacy of gap', 'OFFLINE', 'privacy of gap']);
  });

  it('shows nobody whose privacy is gone alone, until it is set again', async (context) => {
    const store = await open(context);
    const other: RedisStore = await open(context);
    await store.setOnline('gone', null);
    await store.setPrivacy('gone', change({ invisible: true }));
    await ask('DEL', 'user:privacy:gone');
    const [gone] = await other.read(['gone']);
    assert.equal(gone?.status, 'ONLINE', 'the truth');
    const seen = seenBy(stranger, gone, { nowMs: Date.now(), lastSeenTtlMs: 1000, isReciprocal: false });
    assert.deepEqual([seen.status, seen.version], ['OFFLINE', 0], 'as somebody never heard of');
    await other.setPrivacy('gone', change({ lastSeen: 'nobody' }));
    assert.equal((await store.read(['gone']))[0]?.privacy?.lastSeen, 'nobody');
    await ask('DEL', 'user:privacy:gone');
    await other.setPrivacy('gone', change({ invisible: false }));
    const third = await open(context);
    assert.equal(
      (await third.read(['gone']))[0]?.privacy,
      undefined,
      'what is as it would be anyway counts too',
    );
  });

  it('is written as text that says the version and the time to come', () => {
    const face = {
      cause: 'SET',
      sinceMs: 5,
      changedAtMs: 5,
      lastSeenMs: 5,
      customStatuses: [{ text: '-1 "null"\u2028\\u001f "\\u001f"', emoji: '', expiresAtMs: 0 }],
      lateMs: 20,
    } as const;
    const lifted = { atMs: 9, status: 'ONLINE', sinceMs: 3 } as const;
    const privacy = (version: number, timeMs: number) => ({
      version,
      invisible: {
        face: { ...face, sinceMs: timeMs, changedAtMs: timeMs, lastSeenMs: timeMs, version },
        lifted: null,
      },
      blocked: new Map([
        ['-1', { face: { ...face, version: 0 }, lifted: { ...lifted, atMs: timeMs, version } }],
        ['"\\u001f"', { face: { ...face, version: 7 }, lifted: { ...lifted, sinceMs: timeMs, version: 8 } }],
      ]),
      lastSeen: 'nobody' as const,
      lastSeenVersion: version,
    });
    const pieces = aroundTime(encodePrivacy(privacy(toCome, toCome)));
    assert.equal(pieces.length, 6);
    assert.deepEqual(decodePrivacy(`42\n${pieces.join('17')}`), privacy(42, 17));
  });
});
