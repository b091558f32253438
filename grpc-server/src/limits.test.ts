import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DEFAULT_KEEPALIVE } from './keepalive.ts';
import { DEFAULT_LIMITS, resolveLimits } from './limits.ts';

test('the README lists every limit and keepalive option with its default, and no other', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const rows = [...readme.matchAll(/^\| `(?:limits|keepalive)\.(\w+)` \| ([^|]+) \|/gm)];
  const documented = Object.fromEntries(rows.map((row) => [row[1], row[2]?.trim().replaceAll(',', '')]));
  const actual = Object.fromEntries(
    Object.entries({ ...DEFAULT_LIMITS, ...DEFAULT_KEEPALIVE }).map(([name, value]) => [name, String(value)]),
  );
  assert.deepEqual(documented, actual);
});

test('limits are checked', () => {
  assert.deepEqual(resolveLimits(), DEFAULT_LIMITS);
  assert.equal(
    resolveLimits({ sendQueueBytes: 1_000 }).sendQueueHardBytes,
    4_000,
    'four times the soft bound',
  );
  assert.throws(() => resolveLimits({ maxConcurrentStreams: 0 }), /maxConcurrentStreams/);
  assert.throws(() => resolveLimits({ maxHeaderFields: 1.5 }), /maxHeaderFields/);
  assert.throws(() => resolveLimits({ lingerMs: -1 }), /lingerMs/);
  assert.throws(() => resolveLimits({ maxReceiveMessageBytes: 2 ** 31 }), /maxReceiveMessageBytes/);
  assert.throws(() => resolveLimits({ lingerMs: Number.NaN }), /lingerMs/);
  assert.throws(() => resolveLimits({ sendQueueBytes: 10, sendQueueHardBytes: 9 }), /sendQueueHardBytes/);
  assert.throws(() => resolveLimits({ maxStreams: 1 } as object), /unknown limit maxStreams/);
});
