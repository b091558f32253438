import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { DeadlineWheel } from './deadline-wheel.ts';
import { PresenceError } from './errors.ts';
import { crc16, partitionOf } from './partition.ts';
import { checkUserId } from './user-id.ts';

describe('user ids', () => {
  const accepts = (id: string) => assert.doesNotThrow(() => checkUserId(id, 'user_id'));
  const refuses = (id: string, problem: RegExp) =>
    assert.throws(
      () => checkUserId(id, 'user_id'),
      (error) =>
        error instanceof PresenceError && error.code === 'INVALID_ARGUMENT' && problem.test(error.message),
    );

  it('have 1 to 128 bytes of UTF-8', () => {
    accepts('a');
    accepts('a'.repeat(128));
    refuses('', /user_id must not be empty/);
    refuses('a'.repeat(129), /at most 128 bytes/);
    accepts('é'.repeat(64));
    refuses('é'.repeat(65), /at most 128 bytes/);
    accepts('漢'.repeat(42));
    refuses('漢'.repeat(43), /at most 128 bytes/);
    accepts('😀'.repeat(32));
    refuses('😀'.repeat(33), /at most 128 bytes/);
  });

  it('count bytes as the encoder does', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 140 }), (id) => {
        const isTooLong = Buffer.byteLength(id) > 128;
        try {
          checkUserId(id, 'id');
          assert.equal(isTooLong, false);
        } catch (error) {
          assert.equal(/at most/.test((error as Error).message), isTooLong);
        }
      }),
    );
  });

  it('hold no control characters and no half surrogate pairs', () => {
    for (const bad of ['a\u0000', '\n', 'a\u001fb', 'x\u007f', 'x\u0085', '\ud800']) refuses(bad, /control/);
    accepts('Ada Lovelace <ada@example.com> ✓');
  });
});

describe('partitions', () => {
  it("hash as Redis Cluster does (the cluster specification's test vector)", () => {
    assert.equal(crc16('123456789'), 0x31c3);
    assert.equal(crc16(''), 0);
    // CLUSTER KEYSLOT foo, somekey
    assert.equal(crc16('foo') % 16_384, 12_182);
    assert.equal(crc16('somekey') % 16_384, 11_058);
  });

  it('are the same for the same bytes, ASCII or not', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (id) => {
        const partition = partitionOf(id, 64);
        assert.equal(partition, crc16(Buffer.from(id).toString()) % 64);
        assert.ok(partition >= 0 && partition < 64);
      }),
    );
    assert.notEqual(crc16('é'), crc16('e'));
  });

  it('share users evenly', () => {
    const counts = new Array<number>(64).fill(0);
    for (let i = 0; i < 64_000; i++) {
      const partition = partitionOf(`user-${i}`, 64);
      counts[partition] = (counts[partition] as number) + 1;
    }
    assert.ok(Math.min(...counts) > 800 && Math.max(...counts) < 1200, String(counts));
  });
});

describe('deadline wheel', () => {
  it('visits a key at the first advance after its time, once', () => {
    const wheel = new DeadlineWheel(0, 10, 8);
    const seen: string[] = [];
    wheel.schedule('a', 25);
    wheel.advance(20, (key) => seen.push(key));
    assert.equal(seen.length, 0);
    wheel.advance(30, (key) => seen.push(key));
    assert.deepEqual(seen, ['a']);
    wheel.advance(1000, (key) => seen.push(key));
    assert.deepEqual(seen, ['a']);
    assert.equal(wheel.size, 0);
  });

  it('visits what is already due at the next slot', () => {
    const wheel = new DeadlineWheel(1000, 10, 8);
    const seen: string[] = [];
    wheel.schedule('late', 5);
    wheel.advance(1010, (key) => seen.push(key));
    assert.deepEqual(seen, ['late']);
  });

  it('never visits late by more than a slot, nor early unless beyond the ring', () => {
    const plan = fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 40 });
    const pauses = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(plan, pauses, (deadlines, steps) => {
        const wheel = new DeadlineWheel(0, 10, 16);
        const left = new Set(deadlines.map((_, index) => String(index)));
        for (const [index, deadline] of deadlines.entries()) wheel.schedule(String(index), deadline);
        let nowMs = 0;
        for (const step of [...steps, 1000]) {
          nowMs += step;
          wheel.advance(nowMs, (key) => {
            const deadline = deadlines[Number(key)] as number;
            if (nowMs >= deadline) left.delete(key);
            else wheel.schedule(key, deadline);
          });
          for (const key of left) assert.ok((deadlines[Number(key)] as number) > nowMs - 10);
        }
        assert.equal(left.size, 0);
        assert.equal(wheel.size, 0);
      }),
    );
  });
});
