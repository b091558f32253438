/** Questions to directory and policy: batched, remembered, bounded, and what counts while nobody answers. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../../src/observe/log.ts';
import { silentLog } from '../../src/observe/log.ts';
import { lookUpByHttp } from '../../src/security/http-lookup.ts';
import { type LookupReply, Lookups, type LookupsOptions } from '../../src/security/lookups.ts';
import { waitFor } from '../support/wait.ts';
import { Endpoint, wrongAnswers } from './support/endpoint.ts';

const nobody: LookupReply = { yes: new Set(), maxAgeMs: undefined };

function newLookups(options: Partial<LookupsOptions> & Pick<LookupsOptions, 'ask'>): Lookups {
  return new Lookups({
    name: 'the test',
    timeoutMs: 200,
    cacheMs: 60_000,
    staleMs: 60_000,
    log: silentLog,
    ...options,
  });
}

const bounds = { waiting: 2000, waitingOfOne: 2000, yes: 200, no: 50 };
const list = (name: string, length: number) => Array.from({ length }, (_, index) => `${name}${index}`);

/** Says yes to everybody whose id begins with `y`, and writes down what it was asked. */
function answering(maxAgeMs?: number) {
  const asked: string[][] = [];
  const ask: LookupsOptions['ask'] = async (_asker, userIds) => {
    asked.push([...userIds]);
    return { yes: new Set(userIds.filter((userId) => userId.startsWith('y'))), maxAgeMs };
  };
  return { asked, ask };
}

describe('lookups', () => {
  it('put what many ask in a moment together, each once, and remember the answers', async () => {
    const { asked, ask } = answering();
    const lookups = newLookups({ ask });
    const [first, second] = await Promise.all([
      lookups.judge('', ['yes', 'no']),
      lookups.judge('', ['no', 'yes', 'yes-2']),
    ]);
    assert.deepEqual(asked, [['yes', 'no', 'yes-2']]);
    assert.deepEqual([first.no, second.no], [['no'], ['no']]);
    assert.deepEqual([first.unknown, second.unknown], [[], []]);
    const again = lookups.judge('', ['yes', 'yes-2', 'no']);
    assert.ok(!(again instanceof Promise), 'what is known is known at once');
    assert.equal(asked.length, 1);
    assert.deepEqual(lookups.stats(), {
      answers: { cached: 3, asked: 3, stale: 0, unknown: 0 },
      asks: { ok: 1, failed: 0 },
      remembered: 3,
    });
  });

  it('use no answer to one asker for another', async () => {
    const { asked, ask } = answering();
    const lookups = newLookups({ ask });
    await lookups.judge('user ada', ['yes']);
    await lookups.judge('user eve', ['yes']);
    assert.equal(asked.length, 2);
  });

  it('ask about at most 500 users at a time, at most 32 times at once, 8 of them for one payer', async () => {
    let now = 0;
    let most = 0;
    const sizes: number[] = [];
    const lookups = newLookups({
      timeoutMs: 10_000,
      ask: async (_asker, userIds) => {
        most = Math.max(most, ++now);
        sizes.push(userIds.length);
        await sleep(1);
        now--;
        return nobody;
      },
    });
    const { no } = await lookups.judge('', list('u', 20_100));
    assert.equal(no.length, 20_100);
    assert.equal(most, 8);
    assert.equal(Math.max(...sizes), 500);
    assert.equal(sizes.length, 41);
    await Promise.all(list('payer', 6).map((payer) => lookups.judge('', list(payer, 5000), payer)));
    assert.equal(most, 32);
  });

  it('let a payer who asks much hold up nobody else, not even with the same question', async () => {
    const order: string[] = [];
    const held: (() => void)[] = [];
    const lookups = newLookups({
      timeoutMs: 60_000,
      bounds: { ...bounds, waiting: 100_000 },
      ask: async (_asker, userIds) => {
        order.push(userIds[0] as string);
        if (userIds.length > 1) await new Promise<void>((resolve) => held.push(resolve));
        return nobody;
      },
    });
    const much = [1, 2, 3].map((part) => lookups.judge('', list(`part-${part}-`, 6000), 'mallory'));
    await sleep(20);
    assert.equal(order.length, 8);
    const asked = await lookups.judge('', ['part-1-5999'], 'ada');
    assert.deepEqual(asked.no, ['part-1-5999'], 'asked past the queue');
    const refused = lookups.judge('', ['one-more'], 'mallory');
    assert.ok(!(refused instanceof Promise), 'a payer with too much waiting is refused at once');
    const next = await lookups.judge('', ['one-more'], 'bob');
    assert.deepEqual(next.no, ['one-more']);
    const release = setInterval(() => held.splice(0).forEach((resolve) => void resolve()), 1);
    await Promise.all(much);
    clearInterval(release);
  });

  it('leave nobody waiting when many askers outwait their time at once, and ask again after it', async () => {
    let isSilent = true;
    const lookups = newLookups({
      timeoutMs: 50,
      ask: async (_asker, _userIds, timeoutMs) => {
        if (!isSilent) return nobody;
        await sleep(timeoutMs);
        throw new Error('no answer');
      },
    });
    const askers = list('user ', 20_000);
    const judged = await Promise.all(askers.map((asker) => lookups.judge(asker, ['bob'])));
    assert.ok(judged.every(({ unknown }) => unknown.length === 1));
    isSilent = false;
    // On a busy machine some may outwait their time again.
    await waitFor('answers', async () => {
      const again = await Promise.all(askers.slice(0, 100).map((asker) => lookups.judge(asker, ['bob'])));
      return again.every(({ no }) => no.length === 1);
    });
  });

  it('let only so many wait', async () => {
    const stuck = Promise.withResolvers<LookupReply>();
    const lookups = newLookups({ timeoutMs: 60_000, bounds, ask: () => stuck.promise });
    // 4,000 are asked about, the rest waits; a list that passes the bound is taken whole.
    const waiting = [lookups.judge('', list('a', 5000))];
    await sleep(20);
    waiting.push(lookups.judge('', list('b', 999)), lookups.judge('', list('c', 5000)));
    const refused = lookups.judge('', ['one-more']);
    assert.ok(!(refused instanceof Promise));
    assert.deepEqual(refused.unknown, ['one-more']);
    stuck.resolve(nobody);
    const answers = await Promise.all(waiting);
    assert.deepEqual(
      answers.map(({ no }) => no.length),
      [5000, 999, 5000],
    );
  });

  it('remember so many, and a yes whatever noes come', async () => {
    const { asked, ask } = answering();
    const lookups = newLookups({ ask, timeoutMs: 60_000, bounds });
    await lookups.judge('', ['yes']);
    await lookups.judge('', list('no', 51));
    assert.equal(lookups.stats().remembered, 51);
    const before = asked.length;
    await lookups.judge('', ['yes', 'no0']);
    assert.deepEqual(asked.slice(before), [['no0']], 'the oldest no was forgotten');
    await lookups.judge('', list('y', 200));
    assert.equal(lookups.stats().remembered, 250);
  });

  it('remember a no for as long as it is allowed, and for no-store nothing', async () => {
    const short = answering();
    const lookups = newLookups({ ask: short.ask, maxNoMs: 1 });
    await lookups.judge('', ['yes', 'no']);
    await sleep(5);
    await lookups.judge('', ['yes', 'no']);
    assert.deepEqual(short.asked, [['yes', 'no'], ['no']]);
    const none = answering(0);
    const forgetful = newLookups({ ask: none.ask });
    await forgetful.judge('', ['yes']);
    await forgetful.judge('', ['yes']);
    assert.equal(none.asked.length, 2);
    assert.equal(forgetful.stats().remembered, 0);
  });

  it('believe an old yes for a while, never an old no, and say once that nobody answers', async () => {
    const lines: string[] = [];
    const log = {
      ...silentLog,
      warn: (_: unknown, line: string) => lines.push(line),
      info: (line: string) => lines.push(line),
    } as unknown as Log;
    const { ask } = answering(5);
    let isDown = false;
    let failures = 0;
    const lookups = newLookups({
      staleMs: 1150,
      log,
      ask: (asker, userIds, timeoutMs) => {
        if (!isDown) return ask(asker, userIds, timeoutMs);
        failures++;
        return Promise.reject(new Error('down'));
      },
    });
    const judge = async () => {
      const { no, unknown } = await lookups.judge('', ['yes', 'no']);
      return { no, unknown };
    };
    assert.deepEqual(await judge(), { no: ['no'], unknown: [] });
    isDown = true;
    await sleep(10);
    assert.deepEqual(await judge(), { no: [], unknown: ['no'] });
    await lookups.judge('', ['yes']);
    assert.equal(failures, 1, 'what has an old yes is left alone for a second');
    await sleep(1200);
    assert.deepEqual(await judge(), { no: [], unknown: ['yes', 'no'] });
    isDown = false;
    await sleep(1010);
    assert.deepEqual(await judge(), { no: ['no'], unknown: [] });
    assert.equal(lines.length, 2);
    assert.match(lines[0] as string, /^the test does not answer/);
    assert.equal(lines[1], 'the test answers again');
  });

  it('take no wrong answer for a yes or a no, and the next right one again', async () => {
    const endpoint = await Endpoint.start('known');
    endpoint.yes.add('ada');
    const lookups = newLookups({
      ask: (_asker, userIds, timeoutMs) => lookUpByHttp(endpoint.url, {}, 'known', userIds, timeoutMs),
    });
    try {
      for (const [what, behaviour] of Object.entries(wrongAnswers)) {
        endpoint.behaviour = behaviour;
        const { no, unknown } = await lookups.judge('', ['ada', 'bob']);
        assert.deepEqual({ no, unknown }, { no: [], unknown: ['ada', 'bob'] }, what);
      }
      endpoint.behaviour = undefined;
      const { no, unknown } = await lookups.judge('', ['ada', 'bob']);
      assert.deepEqual({ no, unknown }, { no: ['bob'], unknown: [] });
    } finally {
      endpoint.stop();
    }
  });

  it('send a password of the URL as Basic credentials', async () => {
    const endpoint = await Endpoint.start('known');
    try {
      const url = endpoint.url.replace('127', 'pilot:l%40mp@127');
      await lookUpByHttp(url, {}, 'known', ['ada'], 5000);
      const basic = Buffer.from('pilot:l@mp').toString('base64');
      assert.equal(endpoint.headers[0]?.authorization, `Basic ${basic}`);
    } finally {
      endpoint.stop();
    }
  });
});
