/** A server or a client that stood still: neither takes the other for silent, or for wrong. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2, constants } from 'node:http2';
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { Code, PREFACE, settings, settingsAck, Type } from '../support/frames.ts';
import { deadline, eventually } from '../support/raw-client.ts';
import { call } from '../support/requests.ts';
import { useServer } from '../support/suite.ts';
import { UNARY } from '../support/test-server.ts';

/** Nothing of this process runs meanwhile. */
function standStill(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

test('what came while the server stood still is read before its deadline is judged', async (context) => {
  let nowMs = 1_000;
  await useServer({ now: () => nowMs }, async ({ server }) => {
    const listener = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    context.after(() => listener.close());
    await once(listener, 'listening');
    const accepted = once(listener, 'connection');
    const client = connectTcp((listener.address() as AddressInfo).port, '127.0.0.1');
    context.after(() => client.destroy());
    const received: Buffer[] = [];
    client.on('data', (chunk: Buffer) => received.push(chunk));
    const [socket] = (await accepted) as [Socket];
    const request = Buffer.concat([PREFACE, settings([]), settingsAck(), call(1, UNARY, 'in time')]);
    await new Promise<void>((resolve) => client.write(request, () => resolve()));
    assert.equal(server.accept(socket), true);
    socket.resume();
    nowMs += 60_000;
    standStill(200);
    await eventually(() => Buffer.concat(received).includes('in time'), 'the answer');
    assert.equal(server.stats().connections, 1);
  });
});

test('a client that is late with its handshake may send everything anew', async (context) => {
  const limits = { handshakeTimeoutMs: 50, lingerMs: 60_000 };
  await useServer({ limits }, async ({ port }) => {
    const socket = connectTcp(port, '127.0.0.1');
    context.after(() => socket.destroy());
    const received: Buffer[] = [];
    await eventually(() => {
      const chunk = socket.read() as Buffer | null;
      if (chunk !== null) received.push(chunk);
      return socket.readableEnded || frameTypes(Buffer.concat(received)).includes(Type.GOAWAY);
    }, 'the GOAWAY');
    const goaway = Buffer.concat(received);
    assert.equal(goaway.readUInt32BE(goaway.indexOf('handshake timeout') - 4), Code.NO_ERROR);
    socket.unshift(goaway);
    const session = connectHttp2(`http://127.0.0.1:${port}`, { createConnection: () => socket });
    context.after(() => session.destroy());
    session.on('error', () => {});
    const stream = session.request({ ':method': 'POST', ':path': UNARY });
    stream.on('error', () => {});
    await deadline(
      new Promise<void>((resolve) => stream.once('close', () => resolve())),
      'the end of the call',
    );
    assert.equal(stream.rstCode, constants.NGHTTP2_REFUSED_STREAM);
  });
});

function frameTypes(bytes: Buffer): number[] {
  const types: number[] = [];
  for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3))
    types.push(bytes[at + 3] as number);
  return types;
}
