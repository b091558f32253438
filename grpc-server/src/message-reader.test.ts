import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GrpcError, Status } from './errors.ts';
import { MessageReader, type MessageSink } from './message-reader.ts';

function collector(mostHeld = Number.POSITIVE_INFINITY) {
  const sink = {
    messages: [] as string[],
    heldBytes: 0,
    onFramedMessage(flag: number, message: Buffer): void {
      sink.messages.push(`${flag}:${message.toString()}`);
    },
    onHeldBytes(bytes: number): boolean {
      if (bytes > 0 && sink.heldBytes + bytes > mostHeld) return false;
      sink.heldBytes += bytes;
      return true;
    },
  };
  return sink satisfies MessageSink;
}

function framed(text: string, flag = 0): Buffer {
  const bytes = Buffer.alloc(5 + text.length);
  bytes[0] = flag;
  bytes.writeUInt32BE(text.length, 1);
  bytes.write(text, 5);
  return bytes;
}

const STREAM = Buffer.concat([framed('first'), framed(''), framed('compressed', 1), framed('x'.repeat(300))]);
const EXPECTED = ['0:first', '0:', '1:compressed', `0:${'x'.repeat(300)}`];

test('messages come out the same when the stream is cut in two at every byte', () => {
  for (let cut = 0; cut <= STREAM.length; cut++) {
    const sink = collector();
    const reader = new MessageReader(1_000);
    reader.read(STREAM, 0, cut, sink);
    reader.read(STREAM, cut, STREAM.length, sink);
    assert.deepEqual(sink.messages, EXPECTED, `cut at ${cut}`);
    assert.equal(sink.heldBytes, 0);
    assert.equal(reader.midMessage, false);
  }
});

test('messages come out the same byte by byte', () => {
  const sink = collector();
  const reader = new MessageReader(1_000);
  for (let i = 0; i < STREAM.length; i++) reader.read(STREAM, i, i + 1, sink);
  assert.deepEqual(sink.messages, EXPECTED);
  assert.equal(sink.heldBytes, 0);
});

test('the size limit holds at its value and not one beyond, before the body has come', () => {
  const sink = collector();
  new MessageReader(10).read(framed('x'.repeat(10)), 0, 15, sink);
  assert.equal(sink.messages.length, 1);
  assert.throws(
    () => new MessageReader(10).read(framed('x'.repeat(11)), 0, 5, sink),
    (error: unknown) => error instanceof GrpcError && error.status === Status.RESOURCE_EXHAUSTED,
  );
});

test('a flag other than 0 and 1 is INTERNAL', () => {
  assert.throws(
    () => new MessageReader(10).read(framed('', 2), 0, 5, collector()),
    (error: unknown) => error instanceof GrpcError && error.status === Status.INTERNAL,
  );
});

test('memory follows the bytes received, not the length declared, and is accounted for', () => {
  const sink = collector();
  const reader = new MessageReader(4_000_000);
  const prefix = Buffer.from([0, 0, 0x3d, 0x09, 0x00]);
  reader.read(prefix, 0, 5, sink);
  assert.ok(sink.heldBytes < 100, `${sink.heldBytes} held for 5 received`);
  reader.read(Buffer.alloc(1_000), 0, 1_000, sink);
  assert.ok(sink.heldBytes >= 1_005 && sink.heldBytes <= 2_100, `${sink.heldBytes} held for 1,005 received`);
  reader.release(sink);
  assert.equal(sink.heldBytes, 0);
});

test('a sink that may hold no more ends it with RESOURCE_EXHAUSTED', () => {
  assert.throws(
    () => new MessageReader(10_000).read(framed('x'.repeat(1_000)), 0, 500, collector(400)),
    (error: unknown) => error instanceof GrpcError && error.status === Status.RESOURCE_EXHAUSTED,
  );
});
