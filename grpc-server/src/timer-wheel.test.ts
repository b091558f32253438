import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TimerNode, TimerWheel } from './timer-wheel.ts';

const GRANULE_MS = 8;

function setUp() {
  const clock = { nowMs: 1_000 };
  const errors: unknown[] = [];
  const wheel = new TimerWheel(
    () => clock.nowMs,
    (error) => errors.push(error),
  );
  const advanceTo = (nowMs: number): void => {
    clock.nowMs = nowMs;
    wheel.advance();
  };
  return { clock, wheel, errors, advanceTo };
}

test('fires at the due time or at most one granule late, never early, at every distance', () => {
  const { clock, wheel, advanceTo } = setUp();
  for (const delayMs of [0, 1, 7, 8, 9, 2_039, 2_040, 2_048, 2_049, 524_287, 524_288, 600_000, 7_200_000]) {
    const startMs = clock.nowMs + 12_345;
    advanceTo(startMs);
    let firedMs = -1;
    const node = new TimerNode({ onTimer: (nowMs) => (firedMs = nowMs) });
    wheel.set(node, startMs + delayMs);
    advanceTo(startMs + delayMs - 1);
    assert.equal(firedMs, -1, `${delayMs}: not early`);
    advanceTo(startMs + delayMs + 2 * GRANULE_MS);
    assert.ok(firedMs >= 0, `${delayMs}: at most a granule late`);
    assert.equal(wheel.size, 0);
    wheel.stop();
  }
});

test('any set of timers fires once each, in order of granules; cancelled ones do not', () => {
  const delays = fc.array(
    fc.record({ delayMs: fc.integer({ min: 0, max: 3_000_000 }), cancel: fc.boolean() }),
    {
      maxLength: 30,
    },
  );
  fc.assert(
    fc.property(delays, fc.integer({ min: 1, max: 100_000 }), (list, stepMs) => {
      const { wheel, clock, advanceTo } = setUp();
      const fired: number[] = [];
      const nodes = list.map(({ delayMs }) => {
        const node = new TimerNode({ onTimer: () => fired.push(delayMs) });
        wheel.set(node, clock.nowMs + delayMs);
        return node;
      });
      list.forEach(({ cancel }, i) => {
        if (cancel) wheel.cancel(nodes[i] as TimerNode);
      });
      const expected = list.filter(({ cancel }) => !cancel).map(({ delayMs }) => delayMs);
      assert.equal(wheel.size, expected.length);
      for (let nowMs = clock.nowMs; nowMs < 3_002_000; nowMs += stepMs) advanceTo(nowMs);
      advanceTo(3_002_000);
      wheel.stop();
      assert.deepEqual(
        fired.toSorted((a, b) => a - b),
        expected.toSorted((a, b) => a - b),
      );
      // What is due in the granule that runs fires with the next; the order within a granule is promised nowhere.
      const next = Math.floor(1_000 / GRANULE_MS) + 1;
      const granules = fired.map((delayMs) => Math.max(next, Math.ceil((1_000 + delayMs) / GRANULE_MS)));
      assert.deepEqual(
        granules,
        granules.toSorted((a, b) => a - b),
      );
      assert.equal(wheel.size, 0);
    }),
    {
      numRuns: 50,
      examples: [
        [
          [
            { delayMs: 0, cancel: false },
            { delayMs: 1, cancel: false },
          ],
          1,
        ],
      ],
    },
  );
});

test('a timer may be set again from within, and moved while pending', () => {
  const { wheel, advanceTo } = setUp();
  let count = 0;
  const node = new TimerNode({
    onTimer: (nowMs) => {
      count++;
      if (count < 3) wheel.set(node, nowMs + 100);
    },
  });
  wheel.set(node, 5_000);
  wheel.set(node, 1_100);
  assert.equal(wheel.size, 1);
  for (let nowMs = 1_000; nowMs <= 6_000; nowMs += 10) advanceTo(nowMs);
  wheel.stop();
  assert.equal(count, 3);
});

test('one that throws does not keep the others from firing', () => {
  const { wheel, errors, advanceTo } = setUp();
  const failure = new Error('from a timer');
  let fired = false;
  wheel.set(new TimerNode({ onTimer: () => (fired = true) }), 1_050);
  wheel.set(
    new TimerNode({
      onTimer: () => {
        throw failure;
      },
    }),
    1_050,
  );
  advanceTo(1_100);
  wheel.stop();
  assert.deepEqual(errors, [failure]);
  assert.equal(fired, true);
});

test('the driver fires timers by itself', async () => {
  const wheel = new TimerWheel(
    () => performance.now(),
    (error) => assert.fail(String(error)),
  );
  await new Promise<void>((resolve, reject) => {
    const hang = setTimeout(() => reject(new Error('waited 60 s')), 60_000);
    wheel.set(
      new TimerNode({
        onTimer: () => {
          clearTimeout(hang);
          resolve();
        },
      }),
      performance.now() + 30,
    );
  });
  assert.equal(wheel.size, 0);
});
