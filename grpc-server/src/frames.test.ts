import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ConnectionError } from './errors.ts';
import {
  FrameReader,
  type FrameSink,
  goawayFrameBytes,
  settingsFrameBytes,
  writeFrameHeader,
  writeGoaway,
  writePing,
  writeRstStream,
  writeSettings,
  writeWindowUpdate,
} from './frames.ts';

interface Seen {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: string;
}

function collector(): FrameSink & { seen: Seen[]; closing: boolean } {
  const seen: Seen[] = [];
  return {
    seen,
    closing: false,
    onFrame(type, flags, streamId, bytes, start, end) {
      seen.push({ type, flags, streamId, payload: bytes.toString('hex', start, end) });
    },
  };
}

function frame(type: number, flags: number, streamId: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(9 + payload.length);
  payload.copy(bytes, writeFrameHeader(bytes, 0, payload.length, type, flags, streamId));
  return bytes;
}

test('writers, byte by byte', () => {
  const target = Buffer.alloc(64);
  writeRstStream(target, 0, 3, 8);
  assert.equal(target.toString('hex', 0, 13), '0000040300000000030000 0008'.replace(' ', ''));
  writeWindowUpdate(target, 0, 0, 0x7fffffff);
  assert.equal(target.toString('hex', 0, 13), '0000040800000000007fffffff');
  writePing(target, 0, 1, Buffer.from('0102030405060708', 'hex'), 0);
  assert.equal(target.toString('hex', 0, 17), '0000080601000000000102030405060708');
  writeSettings(target, 0, 0, [[4, 65_535]]);
  assert.equal(
    target.toString('hex', 0, settingsFrameBytes([[4, 65_535]])),
    '00000604000000000000040000ffff',
  );
  const debug = Buffer.from('hi');
  writeGoaway(target, 0, 5, 11, debug);
  assert.equal(
    target.toString('hex', 0, goawayFrameBytes(debug)),
    '00000a0700000000000000000 50000000b6869'.replace(' ', ''),
  );
});

test('the frame size limit holds at its value and not one beyond', () => {
  const sink = collector();
  new FrameReader(100).read(frame(0, 0, 1, Buffer.alloc(100)), 0, sink);
  assert.equal(sink.seen.length, 1);
  assert.throws(
    () => new FrameReader(100).read(frame(0, 0, 1, Buffer.alloc(101)).subarray(0, 9), 0, sink),
    (error: unknown) => error instanceof ConnectionError && error.code === 6,
    'refused on its header alone',
  );
});

test('the reserved bit of the stream id is ignored', () => {
  const sink = collector();
  const bytes = frame(6, 0, 5, Buffer.alloc(8));
  bytes[5] = 0x80;
  new FrameReader(100).read(bytes, 0, sink);
  assert.equal(sink.seen[0]?.streamId, 5);
});

test('frames come out the same however the bytes are cut', () => {
  const frames = fc.array(
    fc.record({
      type: fc.nat(255),
      flags: fc.nat(255),
      streamId: fc.nat(0x7fffffff),
      payload: fc.uint8Array({ maxLength: 60 }),
    }),
    { minLength: 1, maxLength: 6 },
  );
  fc.assert(
    fc.property(frames, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (list, cuts) => {
      const bytes = Buffer.concat(
        list.map((f) => frame(f.type, f.flags, f.streamId, Buffer.from(f.payload))),
      );
      const sink = collector();
      const reader = new FrameReader(60);
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const end = Math.min(bytes.length, at + (cuts[i % cuts.length] as number));
        reader.read(bytes.subarray(at, end), 0, sink);
        at = end;
      }
      const expected = list.map((f) => ({ ...f, payload: Buffer.from(f.payload).toString('hex') }));
      assert.deepEqual(sink.seen, expected);
      assert.equal(reader.midFrame, false, 'nothing is held between frames');
    }),
  );
});

test('a closing sink gets no more frames', () => {
  const sink = collector();
  const one = frame(6, 0, 0, Buffer.alloc(8));
  sink.onFrame = () => {
    sink.seen.push({ type: 6, flags: 0, streamId: 0, payload: '' });
    sink.closing = true;
  };
  new FrameReader(100).read(Buffer.concat([one, one, one]), 0, sink);
  assert.equal(sink.seen.length, 1);
});
