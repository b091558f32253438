/** Connections whose socket the test plays itself, by `accept`. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { Code, goaway, PREFACE, settings, settingsAck, Type } from '../support/frames.ts';
import { deadline, eventually } from '../support/raw-client.ts';
import { call } from '../support/requests.ts';
import { useServer } from '../support/suite.ts';
import { SERVER_STREAM, UNARY } from '../support/test-server.ts';

/** The server's end of a connection to a slow reader: what is written leaves when `readAll` is called. */
class SlowSocket extends Duplex {
  readonly #waiting: { bytes: Buffer; done: () => void }[] = [];

  /** What the client has read, once everything that waits has left. */
  readAll(): Buffer {
    const taken: Buffer[] = [];
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      taken.push(next.bytes);
      next.done();
    }
    return Buffer.concat(taken);
  }

  setNoDelay(): this {
    return this;
  }

  override _read(): void {}

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#waiting.push({ bytes, done });
  }
}

const LAST_CALL = [
  PREFACE,
  settings([]),
  settingsAck(),
  call(1, UNARY, 'the tail'),
  goaway(0, Code.NO_ERROR),
];
const LINGER_MS = 20;

test('the tail of the last answer waits for a slow reader, longer than lingerMs', async () => {
  await useServer({ limits: { lingerMs: LINGER_MS } }, async ({ server }) => {
    const socket = new SlowSocket();
    assert.equal(server.accept(socket as unknown as Socket), true);
    socket.push(Buffer.concat(LAST_CALL));
    await eventually(() => socket.writableEnded, 'the end of our side');
    await new Promise((resolve) => setTimeout(resolve, 15 * LINGER_MS));
    assert.equal(socket.destroyed, false, 'the tail is dropped');
    const read = Buffer.concat([socket.readAll(), socket.readAll()]);
    assert.ok(read.includes('the tail'));
    assert.deepEqual(frameTypes(read).slice(-3), [Type.DATA, Type.HEADERS, Type.GOAWAY]);
    // The client never closes: from here on lingerMs counts.
    await eventually(() => server.stats().connections === 0, 'the connection to be gone');
    assert.equal(socket.destroyed, true);
  });
});

test('a reader that takes nothing of the last answer has writeStallTimeoutMs', async () => {
  await useServer({ limits: { lingerMs: LINGER_MS, writeStallTimeoutMs: 300 } }, async ({ server }) => {
    const socket = new SlowSocket();
    server.accept(socket as unknown as Socket);
    socket.push(Buffer.concat(LAST_CALL));
    await eventually(() => server.stats().connections === 0, 'the connection to be gone');
    assert.equal(socket.destroyed, true);
  });
});

test('what waits for a full socket goes out before its end', async () => {
  const limits = { outboundHighWaterBytes: 65_536, drainPingTimeoutMs: 20 };
  await useServer({ limits }, async ({ server }) => {
    const socket = new SlowSocket();
    server.accept(socket as unknown as Socket);
    // Eight messages back, just over the high-water mark together with their trailers.
    const body = Buffer.alloc(8_180, 8);
    socket.push(Buffer.concat([PREFACE, settings([]), settingsAck(), call(1, SERVER_STREAM, body)]));
    await eventually(() => socket.writableLength > limits.outboundHighWaterBytes, 'a full socket');
    const drained = server.drain(5_000);
    await eventually(() => socket.writableEnded, 'the end of our side');
    const types = frameTypes(Buffer.concat([socket.readAll(), socket.readAll(), socket.readAll()]));
    assert.deepEqual(types.slice(types.indexOf(Type.GOAWAY)), [
      Type.GOAWAY,
      Type.PING,
      Type.GOAWAY,
      Type.GOAWAY,
    ]);
    await deadline(drained, 'drain()');
  });
});

test('accept() refuses and destroys what is over maxConnections, and what comes after close()', async () => {
  await useServer({ limits: { maxConnections: 1 } }, async ({ server }) => {
    const sockets = [new SlowSocket(), new SlowSocket(), new SlowSocket()];
    const [first, second, third] = sockets.map((socket) => socket as unknown as Socket);
    assert.equal(server.accept(first as Socket), true);
    assert.equal(server.accept(second as Socket), false);
    assert.equal(second?.destroyed, true);
    await deadline(server.close(), 'close()');
    assert.equal(first?.destroyed, true);
    assert.equal(server.accept(third as Socket), false);
    assert.equal(third?.destroyed, true);
    assert.equal(server.stats().refusedConnections, 2);
  });
});

function frameTypes(bytes: Buffer): number[] {
  const types: number[] = [];
  for (let at = 0; at < bytes.length; at += 9 + bytes.readUIntBE(at, 3)) types.push(bytes[at + 3] as number);
  return types;
}
