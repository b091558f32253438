import assert from 'node:assert/strict';
import { connect as connectTcp } from 'node:net';
import { after, before, test } from 'node:test';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { makeCertificate } from '../support/programs.ts';
import { deadline, RawClient } from '../support/raw-client.ts';
import { Bystander, startServer, type TestServer } from '../support/test-server.ts';

let server: TestServer;
let bystander: Bystander;

before(async () => {
  server = await startServer({ tls: makeCertificate(), limits: { handshakeTimeoutMs: 500 } });
  bystander = await Bystander.start({
    connect: (options) => RawClient.connect(server.port, { ...options, tls: {} }),
  });
});
after(async () => {
  await bystander.stop();
  await server.close();
  assert.deepEqual(server.errors, []);
});

function tls12(): TLSSocket {
  const socket = connectTls({
    host: '127.0.0.1',
    port: server.port,
    rejectUnauthorized: false,
    ALPNProtocols: ['h2'],
    maxVersion: 'TLSv1.2',
  });
  socket.on('error', () => {});
  return socket;
}

test('A24 handshakes that never finish are cut off', async () => {
  const sockets = Array.from({ length: 100 }, (_, i) => {
    const socket = connectTcp(server.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.resume();
    if (i % 2 === 0) socket.write(Buffer.from('160301020001', 'hex')); // the start of a ClientHello
    return socket;
  });
  const closed = sockets.map((socket) => new Promise((resolve) => socket.once('close', resolve)));
  await deadline(Promise.all(closed), 'the end of every handshake', 10_000);
});

test('A24 renegotiation is refused', async () => {
  const socket = tls12();
  await deadline(new Promise((resolve) => socket.once('secureConnect', resolve)), 'the handshake');
  socket.resume();
  const outcome = await deadline(
    new Promise<string>((resolve) => {
      socket.once('close', () => resolve('closed'));
      socket.once('error', () => resolve('refused'));
      socket.renegotiate({ rejectUnauthorized: false }, (error) =>
        resolve(error ? 'refused' : 'renegotiated'),
      );
    }),
    'an answer to the renegotiation',
  );
  assert.notEqual(outcome, 'renegotiated');
  socket.destroy();
});

test('A24 garbage instead of a handshake', async () => {
  const closed = Array.from({ length: 50 }, (_, i) => {
    const socket = connectTcp(server.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.resume();
    socket.write(Buffer.alloc(200, i));
    return new Promise((resolve) => socket.once('close', resolve));
  });
  await deadline(Promise.all(closed), 'the end of every connection', 10_000);
});

test('A14 every TLS connection counts once against maxConnections', async () => {
  const small = await startServer({ tls: makeCertificate(), limits: { maxConnections: 4 } });
  try {
    const clients: RawClient[] = [];
    for (let i = 0; i < 4; i++) clients.push(await RawClient.connect(small.port, { tls: {} }));
    assert.equal(small.server.stats().connections, 4);
    await assert.rejects(RawClient.connect(small.port, { tls: {} }));
    for (const client of clients) {
      await client.expectAlive();
      await client.close();
    }
  } finally {
    await small.close();
  }
});
