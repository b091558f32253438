/** The short form of `npm run costs`: ten times the targets, since the machine may be busy with other things. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { measureCosts } from './support/costs.ts';

test('input without a token costs little, and nobody else anything', { timeout: 120_000 }, async () => {
  const { rows } = await measureCosts({ share: 0.25, waitsForRelease: false });
  assert.ok(rows.length > 25);
  for (const row of rows) {
    const facts = JSON.stringify(row);
    assert.ok(row.sentKb > 10, facts);
    assert.ok(row.cpuMsPerKb <= 20, facts);
    assert.ok(row.heldKbPerKb <= 160, facts);
    assert.equal(row.failures, 0, facts);
  }
});
