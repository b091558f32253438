/** Clients that mean ill, or are ill: each meets its limit and its close code, and a bystander feels nothing. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Activity, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { WebSocket } from 'ws';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';
import { openConnectStream, prefixed, RawSession } from './support/raw-session.ts';

const hello = (userId: string) => JSON.stringify({ hello: { userId } });
/** Far above what the bystander needs on a busy machine; a server that hangs gives nothing at all. */
const bystanderLimitMs = 30_000;

describe('abuse of sessions', () => {
  let server: TestServer;
  let bystander: RawSession;
  let isWatched = false;
  let slowestMs = 0;
  let watching: Promise<void>;

  before(async () => {
    server = await startServer({
      PING_INTERVAL: '400ms',
      PONG_TIMEOUT: '2s',
      MAX_FRAME_BYTES: '65536',
      MAX_SESSIONS: '40',
      USER_STATUS_TTL: '5s',
      DRAIN_TIMEOUT: '200ms',
    });
    bystander = await RawSession.open('WebSocket JSON', server, { userId: 'bystander' });
  });
  after(() => server?.stop());

  beforeEach(() => {
    isWatched = true;
    slowestMs = 0;
    watching = (async () => {
      while (isWatched) {
        const beganMs = performance.now();
        const answer = await bystander.ask({ case: 'query', value: { userIds: ['bystander'] } });
        slowestMs = Math.max(slowestMs, performance.now() - beganMs);
        assert.equal(answer.case === 'states' && answer.value.states[0]?.status, UserStatus.ONLINE);
        await sleep(40);
      }
    })();
  });
  afterEach(async () => {
    isWatched = false;
    await watching;
    assert.ok(slowestMs < bystanderLimitMs, `the bystander waited ${slowestMs} ms`);
    await waitFor('only the bystander to be left', () => server.server.stats().webSocket.connections === 1);
  });

  const port = () => Number(new URL(server.httpUrl).port);

  /** A client by hand, whose close code is awaited. */
  function openSocket(
    protocol = 'presence.v1.json',
    at = port(),
  ): { socket: WebSocket; closed: Promise<number> } {
    const socket = new WebSocket(`ws://127.0.0.1:${at}/v1/connect`, protocol);
    socket.on('error', () => {});
    return { socket, closed: once(socket, 'close').then(([code]) => code as number) };
  }
  async function closeCodeOf(act: (socket: WebSocket) => void, protocol?: string): Promise<number> {
    const { socket, closed } = openSocket(protocol);
    await once(socket, 'open');
    act(socket);
    return closed;
  }

  async function answerTo(lines: readonly string[]): Promise<string> {
    const socket = connect(port(), '127.0.0.1');
    socket.on('error', () => {});
    socket.write(`${lines.join('\r\n')}\r\n\r\n`);
    let answer = '';
    socket.on('data', (data) => {
      answer += data.toString();
    });
    let isClosed = false;
    socket.on('close', () => {
      isClosed = true;
    });
    try {
      await waitFor('an answer', () => isClosed || isWhole(answer));
    } finally {
      socket.destroy();
    }
    return answer;
  }
  const handshake = (...more: string[]) => [
    'GET /v1/connect HTTP/1.1',
    `Host: 127.0.0.1:${port()}`,
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    ...more,
  ];
  const key = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
  const protocol = 'Sec-WebSocket-Protocol: presence.v1.json';

  it('refuses handshakes that are garbage, or ask for what there is not', async () => {
    assert.match(await answerTo(['\x16\x03\x01\x02 garbage']), /^HTTP\/1\.1 400 /);
    assert.match(await answerTo(handshake(protocol, 'Sec-WebSocket-Key: short')), /^HTTP\/1\.1 400 /);
    assert.match(await answerTo(handshake(protocol)), /^HTTP\/1\.1 400 /);
    const other = 'Sec-WebSocket-Protocol: chat, presence.v9.json';
    assert.match(await answerTo(handshake(key, other)), /^HTTP\/1\.1 400 [\s\S]*presence\.v1\.json/);
    assert.match(await answerTo(handshake(key)), /^HTTP\/1\.1 400 /);
    assert.match(
      await answerTo(handshake(key, protocol, 'Origin: https://evil.example')),
      /^HTTP\/1\.1 403 [\s\S]*UNAUTHORIZED/,
    );
    const elsewhere = handshake(key, protocol).with(0, 'GET /v1/other HTTP/1.1');
    assert.match(await answerTo(elsewhere), /^HTTP\/1\.1 404 /);
  });

  it('lets the pages of its own host in', async () => {
    const own = new WebSocket(`ws://127.0.0.1:${port()}/v1/connect`, 'presence.v1.json', {
      origin: `http://127.0.0.1:${port()}`,
    });
    await once(own, 'open');
    assert.equal(own.protocol, 'presence.v1.json');
    own.close();
  });

  it('refuses more sessions than it may have, and says when to come back', async () => {
    const sockets: WebSocket[] = [];
    for (let index = 0; index < 39; index++) sockets.push(openSocket().socket);
    await Promise.all(
      sockets.map(async (socket) => {
        await once(socket, 'open');
        socket.send(JSON.stringify({ hello: {} }));
        await once(socket, 'message');
      }),
    );
    assert.match(await answerTo(handshake(key, protocol)), /^HTTP\/1\.1 503 [\s\S]*retry-after: 5/i);
    for (const socket of sockets) socket.terminate();
  });

  const wrongs: readonly [what: string, code: number, protocol: string, act: (socket: WebSocket) => void][] =
    [
      ['a frame of 10 MB', 1009, 'presence.v1.json', (socket) => socket.send('x'.repeat(10_000_000))],
      [
        'a frame over the limit by one byte',
        1009,
        'presence.v1.proto',
        (socket) => socket.send(Buffer.alloc(65_537)),
      ],
      ['text that is no JSON', 4007, 'presence.v1.json', (socket) => socket.send('hello?')],
      ['JSON as deep as it gets', 4007, 'presence.v1.json', (socket) => socket.send('['.repeat(16_000))],
      [
        'bytes that are no protobuf',
        4007,
        'presence.v1.proto',
        (socket) => socket.send(Buffer.alloc(64, 0xff)),
      ],
      ['binary where text belongs', 4007, 'presence.v1.json', (socket) => socket.send(Buffer.from('{}'))],
      ['text where binary belongs', 4007, 'presence.v1.proto', (socket) => socket.send('{}')],
      [
        'text that is no UTF-8',
        1007,
        'presence.v1.json',
        (socket) => rawOf(socket).write(masked(0x81, [0xff, 0xfe])),
      ],
      [
        'a frame without a mask',
        1002,
        'presence.v1.json',
        (socket) => rawOf(socket).write(Buffer.from([0x81, 1, 0x7b])),
      ],
      ['a reserved opcode', 1002, 'presence.v1.json', (socket) => rawOf(socket).write(masked(0x83, []))],
      [
        'a frame in a thousand pieces',
        1008,
        'presence.v1.json',
        (socket) => {
          rawOf(socket).write(masked(0x01, [0x7b]));
          for (let piece = 0; piece < 1000; piece++) rawOf(socket).write(masked(0x00, [0x20]));
        },
      ],
      [
        '10,000 frames in a second',
        4003,
        'presence.v1.json',
        (socket) => {
          socket.send(hello('flood'));
          for (let frame = 0; frame < 10_000; frame++) socket.send('{"heartbeat":{}}');
        },
      ],
      [
        '10,000 pings in a second',
        4003,
        'presence.v1.json',
        (socket) => {
          for (let ping = 0; ping < 10_000; ping++) rawOf(socket).write(masked(0x89, []));
        },
      ],
    ];
  for (const [what, code, subprotocol, act] of wrongs) {
    it(`closes with ${code} for ${what}`, async () => {
      assert.equal(await closeCodeOf(act, subprotocol), code);
    });
  }

  it('ends a gRPC session alike', async () => {
    const flood = await RawSession.open('gRPC', server, { userId: 'grpc flood' });
    for (let frame = 0; frame < 10_000; frame++) flood.tell({ case: 'heartbeat', value: {} });
    await flood.endsWith('RATE_LIMITED');
    for (const [bytes, status] of [
      [Buffer.alloc(64, 0xff), '3'],
      [Buffer.alloc(5_000_000), '8'],
    ] as const) {
      const { connection, stream } = openConnectStream(server);
      stream.resume();
      const statuses: unknown[] = [];
      for (const event of ['response', 'trailers'] as const) {
        stream.on(event, (headers: Record<string, unknown>) => statuses.push(headers['grpc-status']));
      }
      stream.write(prefixed(bytes));
      await waitFor('the end of the stream', () => statuses.includes(status)).finally(() =>
        connection.destroy(),
      );
    }
  });

  it('bounds what it keeps for a client that asks and never reads, then gives it up', async () => {
    const users = Array.from({ length: 400 }, (_, index) => `busy ${index} ${'x'.repeat(100)}`);
    const { socket, closed } = openSocket();
    await once(socket, 'open');
    socket.send(hello('never reads'));
    await once(socket, 'message');
    socket.send(JSON.stringify({ watch: { userIds: users } }));
    await waitFor('the watch list', () => server.server.stats().hub.watches === users.length);
    rawOf(socket).pause();
    // Some 15 MB of answers: more than the system keeps on the way.
    for (let asked = 0; asked < 180; asked++) socket.send(JSON.stringify({ query: { userIds: users } }));
    const { conflated } = server.server.stats().hub;
    let isOver = false;
    const changes = (async () => {
      for (let round = 0; !isOver; round++) {
        const activity = round % 2 === 0 ? Activity.IDLE : Activity.ACTIVE;
        const set = (userId: string) =>
          server.client.setUserStatus({ userId, status: UserStatus.ONLINE, activity });
        // A few, so that rounds are short on a busy machine too.
        await Promise.all(users.slice(0, 10).map(set));
      }
    })();
    let mostQueuedBytes = 0;
    await waitFor('the server to give up', () => {
      mostQueuedBytes = Math.max(mostQueuedBytes, server.server.stats().webSocket.queuedBytes);
      return server.server.stats().sessions.ends.TOO_SLOW === 1;
    }).finally(() => {
      isOver = true;
    });
    await changes;
    assert.ok(server.server.stats().hub.conflated > conflated, 'steps were left out');
    // An answer or a batch over the bound of 64 KiB; what the system holds is not ours.
    assert.ok(mostQueuedBytes > 65_536 && mostQueuedBytes < 400_000, `${mostQueuedBytes} bytes were queued`);
    rawOf(socket).resume();
    assert.ok([4002, 1006].includes(await closed), 'told, if it read in time');
  });

  it('notices a connection that is half open', async (context) => {
    const proxy = await TcpProxy.start(port());
    context.after(() => proxy.stop());
    const { socket } = openSocket('presence.v1.json', proxy.port);
    await once(socket, 'open');
    socket.send(hello('half open'));
    await once(socket, 'message');
    const count = async () =>
      (await server.client.getConnections({ userId: 'half open' })).connections.length;
    // Answers to pings keep it.
    await sleep(3000);
    assert.equal(await count(), 1);
    const beganMs = performance.now();
    proxy.pause();
    await waitFor('the server to notice', async () => (await count()) === 0);
    const tookMs = performance.now() - beganMs;
    assert.ok(tookMs >= 1500, `not before the pong was late: ${tookMs} ms`);
    assert.equal(server.server.stats().sessions.ends.PING_TIMEOUT, 1);
    const statusOf = async () => (await server.client.getUserStatus({ userId: 'half open' })).data?.status;
    await waitFor('OFFLINE', async () => (await statusOf()) === UserStatus.OFFLINE);
  });
});

/** The socket under a client, to say what the client would not. */
function rawOf(socket: WebSocket): Socket {
  return (socket as unknown as { _socket: Socket })._socket;
}

/** Whether all that an answer announces is there. */
function isWhole(answer: string): boolean {
  const end = answer.indexOf('\r\n\r\n');
  const bytes = Number(/^content-length: (\d+)/im.exec(answer)?.[1] ?? Number.NaN);
  return end >= 0 && answer.length - end - 4 >= bytes;
}

/** A frame with a mask of zeros. */
function masked(firstByte: number, payload: readonly number[]): Buffer {
  return Buffer.from([firstByte, 0x80 | payload.length, 0, 0, 0, 0, ...payload]);
}
