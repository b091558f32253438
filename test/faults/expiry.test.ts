/** The small form of bench/expiry.ts. How late they are is told, and asserted by nobody: the machine may be busy. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { measureExpiry } from '../../bench/expiry-run.ts';

it('tells watchers of 2,000 leases that end among 20,000 live ones: none early, none missing', async (context) => {
  const { watcher, falselyEnded, renewedLateMs } = await measureExpiry({
    live: 20_000,
    ending: 2000,
    spreadMs: 1000,
    ttlMs: 8000,
    patienceMs: 60_000,
    compare: false,
    say: (line) => context.diagnostic(line),
  });
  const { lateMs } = watcher;
  context.diagnostic(`p50 ${lateMs[lateMs.length >> 1]} ms, max ${lateMs.at(-1)} ms`);
  assert.equal(watcher.missing, 0);
  assert.equal(watcher.early, 0);
  assert.ok(falselyEnded === 0 || renewedLateMs > 3500, `${falselyEnded} live users ended`);
});
