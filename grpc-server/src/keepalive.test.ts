import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ConnectionError } from './errors.ts';
import { DEFAULT_KEEPALIVE, PingJudge } from './keepalive.ts';

const hour = 3_600_000;

/** Pings at these times, ms; answers whether all were welcome. */
function areWelcome(judge: PingJudge, timesMs: Iterable<number>, hasStreams = true): boolean {
  try {
    for (const nowMs of timesMs) judge.onPing(nowMs, hasStreams);
    return true;
  } catch (error) {
    assert.ok(error instanceof ConnectionError);
    assert.equal(error.message, 'too_many_pings');
    return false;
  }
}

function* every(intervalMs: number, untilMs: number, jitterMs = 0): Generator<number> {
  for (let index = 0; index * intervalMs < untilMs; index++) {
    yield 1_000 + index * intervalMs + (index % 2 === 0 ? jitterMs : -jitterMs);
  }
}

describe('keepalive PINGs of clients', () => {
  it('every 10 s, the least that grpc-go allows, are welcome for good, however late some arrive', () => {
    assert.equal(areWelcome(new PingJudge(DEFAULT_KEEPALIVE), every(10_000, 24 * hour)), true);
    assert.equal(areWelcome(new PingJudge(DEFAULT_KEEPALIVE), every(10_000, 24 * hour, 4_000)), true);
  });

  it('as often as the minimum says are welcome for good, one early now and then', () => {
    const judge = new PingJudge({ ...DEFAULT_KEEPALIVE, minClientPingMs: 20_000 });
    assert.equal(areWelcome(judge, every(20_000, 24 * hour, 9_000)), true);
  });

  it('twice as often as the minimum end the connection', () => {
    assert.equal(areWelcome(new PingJudge(DEFAULT_KEEPALIVE), every(2_500, 60_000)), false);
  });

  it('at once are three', () => {
    assert.equal(areWelcome(new PingJudge(DEFAULT_KEEPALIVE), [0, 0, 0]), true);
    assert.equal(areWelcome(new PingJudge(DEFAULT_KEEPALIVE), [0, 0, 0, 0]), false);
  });

  it('too early are forgiven with time', () => {
    const judge = new PingJudge(DEFAULT_KEEPALIVE);
    for (let index = 0; index < 100; index++) {
      const startMs = index * 20_000;
      assert.equal(areWelcome(judge, [startMs, startMs, startMs]), true, `burst ${index}`);
    }
  });

  it('without a call are rare where permitWithoutCalls is false', () => {
    const judge = new PingJudge({ ...DEFAULT_KEEPALIVE, permitWithoutCalls: false });
    assert.equal(areWelcome(judge, every(10_000, 60_000), false), false);
  });
});
