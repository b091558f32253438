/** The short form of `npm run hostile`: no failures, and ten times the latency, since the machine may be busy with other things. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { measureHostility } from './support/hostile.ts';
import { hostileWays } from './support/hostile-user.ts';

test('a user who does the most that the limits allow costs no other user anything', async (test) => {
  const rows = await measureHostility({
    calmMs: 250,
    warmUpMs: 350,
    hostileMs: 500,
    // A machine that is busy with other things is no overload of the server, and may keep Redis waiting.
    environment: { MAX_TURN: '0s', REDIS_TIMEOUT: '30s' },
  });
  assert.equal(rows.length, Object.keys(hostileWays).length);
  const calmMs = Math.max(...rows.map(({ calmP99Ms }) => calmP99Ms));
  for (const row of rows) {
    const facts = JSON.stringify(row);
    test.diagnostic(facts);
    assert.ok(row.heartbeats > 0, facts);
    assert.equal(row.failures, 0, facts);
    assert.ok(row.p50Ms <= Math.max(1000, 30 * calmMs), facts);
  }
});
