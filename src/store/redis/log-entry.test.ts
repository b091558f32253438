import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createClient } from 'redis';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import { waitFor } from '../../../test/support/wait.ts';
import type { UserState } from '../../core/presence.ts';
import { type Log, silentLog } from '../../observe/log.ts';
import { decodeLogEntry, decodeMessage } from './log-entry.ts';

const line = (userId: string, version: number, ...more: string[]) =>
  [version, userId, 1, 1, 1, 5, 5, 5, '', ...more].join('\x1f');

describe('log entries', () => {
  it('are read by type and version', () => {
    const entry = decodeMessage(`states 1\n7\n9\n${line('ada', 8)}\n${line('bea', 9, '3')}`);
    assert.deepEqual([entry.previous, entry.last, entry.unknown], [7, 9, undefined]);
    assert.deepEqual(
      entry.transitions.map(({ userId, version }) => [userId, version]),
      [
        ['ada', 8],
        ['bea', 9],
      ],
    );
    assert.deepEqual(decodeMessage('privacy 1\n7\n8\n8\x1fada').privacyOf, ['ada']);
    assert.deepEqual(decodeLogEntry(['8-0', ['k', 'privacy 1', 't', '8\x1fada', 'p', '7']]).privacyOf, [
      'ada',
    ]);
  });

  it('of Pilotlight 0.1.0, without a tag, are read as before', () => {
    assert.equal(decodeMessage(`7\n8\n${line('ada', 8)}`).transitions[0]?.userId, 'ada');
    assert.deepEqual(decodeMessage('7\n8\n8\x1fada').privacyOf, ['ada']);
    assert.equal(decodeLogEntry(['8-0', ['p', '7', 't', line('ada', 8)]]).transitions[0]?.userId, 'ada');
    assert.deepEqual(decodeLogEntry(['8-0', ['p', '7', 't', '8\x1fada']]).privacyOf, ['ada']);
  });

  it('keep their place in Pilotlight 0.1.0, which reads fields by place', async () => {
    // The first four, as it reads them: a field that moves is a node that crashes during an upgrade.
    const redis = await RedisServer.start();
    const client = createClient({ url: redis.url });
    await client.connect();
    const store = await startStore(redis, { partitions: 1 });
    await store.setOnline('ada', null);
    const [raw] = (await client.sendCommand(['XRANGE', 'presence:0:log', '-', '+'])) as [string, string[]][];
    assert.deepEqual([raw?.[1][0], raw?.[1][2]], ['p', 't']);
    await store.stop();
    client.destroy();
    await redis.stop();
  });

  it('that make no sense are unknown, and nothing throws', () => {
    const messages = [
      '',
      'x',
      '1',
      '1\n2',
      '1\n2\n',
      'states 1',
      'states 1\n1\n2\nx',
      'states 2\n1\n2\nx',
      'toString\n1\n2\nx',
    ];
    for (const message of messages) {
      const { unknown, transitions, privacyOf } = decodeMessage(message);
      assert.ok(unknown, JSON.stringify(message));
      assert.deepEqual([transitions, privacyOf], [[], []]);
    }
    for (const fields of [[], ['p'], ['p', '1'], ['p', '1', 't', ''], ['p', '1', 't', 'x', 'k', 'room 1']]) {
      assert.ok(decodeLogEntry(['2-0', fields]).unknown, JSON.stringify(fields));
    }
    assert.equal(decodeMessage('room 1\n1\n2\nx').unknown?.isFollowed, false);
    assert.equal(decodeMessage('states 2\n1\n2\nx').unknown?.isFollowed, true);
  });
});

describe('a feed among newer nodes', () => {
  let redis: RedisServer;
  let client: ReturnType<typeof createClient>;
  before(async () => {
    redis = await RedisServer.start();
    client = createClient({ url: redis.url });
    await client.connect();
  });
  after(async () => {
    client.destroy();
    await redis.stop();
  });

  it('skips what it does not know, says so once, and tells all that follows', async () => {
    const warnings: unknown[] = [];
    const log: Log = { ...silentLog, warn: (fields: unknown) => void warnings.push(fields) } as Log;
    const store = await startStore(redis, { partitions: 1, ttlMs: 30_000, log });
    const told: UserState[] = [];
    let lost = 0;
    store.onFeed({
      transitions: (states) => void told.push(...states),
      privacyChanged: () => {},
      lost: () => void lost++,
    });
    await store.follow(0);
    const write = async (tag: string, content: string, isPublished: boolean) => {
      const previous = Number((await client.get('presence:0:seq')) ?? 0);
      const last = Math.max(previous + 1, Date.now() * 1000);
      await client.set('presence:0:seq', String(last));
      await client.xAdd('presence:0:log', `${last}-0`, { p: String(previous), t: content, k: tag });
      const message = `${tag}\n${previous}\n${last}\n${content}`;
      if (isPublished) await client.sPublish('presence:0', message);
    };
    await store.setOnline('ada', null);
    await write('room 1', 'a\x1fb\x1fc\x1fd', true);
    await write('room 1', 'a', false);
    await store.setOnline('bea', null);
    await waitFor('bea to be told', async () => told.some(({ userId }) => userId === 'bea'));
    assert.equal(lost, 0, 'rooms are not what watchers of users are told');
    await write('states 2', '{"users":[]}', true);
    await write('states 1', 'cut off', true);
    await store.setOnline('cem', null);
    await waitFor('cem to be told', async () => told.some(({ userId }) => userId === 'cem'));
    assert.deepEqual(
      told.map(({ userId }) => userId),
      ['ada', 'bea', 'cem'],
    );
    assert.equal(lost, 2, 'what changed for users is read afresh');
    assert.equal(store.stats().unknownEntries, 4);
    assert.equal(warnings.length, 3, 'once for each type and version');
    await store.stop();
  });
});
