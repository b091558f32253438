import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fuzzInMemory, fuzzSockets } from './support/fuzz.ts';

/** FUZZ_SEED reproduces a run; FUZZ_MS shortens or lengthens it. `fuzz-long.ts` does a million sessions. */
const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 1e9));
const totalMs = Number(process.env.FUZZ_MS ?? 60_000);

test(`mutated sessions through memory, FUZZ_SEED=${seed}`, async (t) => {
  const report = await fuzzInMemory({ seed, sessions: 10_000_000, durationMs: totalMs * 0.75 });
  t.diagnostic(`${report.sessions} sessions, ${report.answeredFrames} frames in answer`);
  assert.ok(report.sessions >= 1_000, `${report.sessions} sessions`);
  assert.ok(report.answeredFrames > 3 * report.sessions, 'the sessions get behind the handshake');
});

test(`mutated sessions through sockets, FUZZ_SEED=${seed}`, async (t) => {
  const report = await fuzzSockets({ seed, sessions: 1_000_000, durationMs: totalMs * 0.25 });
  t.diagnostic(`${report.sessions} sessions, ${report.answeredFrames} bytes in answer`);
  assert.ok(report.sessions >= 100, `${report.sessions} sessions`);
});
