/** Clients that are slow on purpose, too many, or too big: each is bounded, and a well-behaved client beside them sees no error. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { RawSession } from '../sessions/support/raw-session.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { handshake, masked } from './support/fuzz-inputs.ts';

/** Far above what anybody needs on a busy machine, far below what a stalled server would give. */
const bystanderLimitMs = 10_000;

describe('floods and slow clients', () => {
  let server: TestServer;
  let session: RawSession;
  let isWatched = false;
  let standing: Promise<void>;
  const sockets: Socket[] = [];

  before(async () => {
    server = await startServer({
      USER_STATUS_TTL: '1h',
      DRAIN_TIMEOUT: '0s',
      REQUEST_TIMEOUT: '600ms',
      MAX_CONNECTIONS: '1500',
      PING_INTERVAL: '400ms',
      PONG_TIMEOUT: '5s',
    });
    session = await RawSession.open('WebSocket JSON', server, { userId: 'bystander' });
  });
  after(() => server.stop());

  beforeEach(() => {
    isWatched = true;
    standing = standBy();
  });
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    isWatched = false;
    await standing;
    assert.equal(session.closeCode, undefined);
    await waitFor(
      () => `only the bystander to be left: ${JSON.stringify(server.server.stats())}`,
      () => {
        const { webSocket, sessions, grpc } = server.server.stats();
        return webSocket.connections === 1 && sessions.sessions === 1 && grpc.connections <= 1;
      },
    );
  });

  /** Calls, a session and plain HTTP, over connections that are there already and over one that is new each time. */
  async function standBy(): Promise<void> {
    while (isWatched) {
      const beganMs = performance.now();
      const answer = await session.ask({ case: 'query', value: { userIds: ['bystander'] } });
      assert.equal(answer.case === 'states' && answer.value.states[0]?.status, UserStatus.ONLINE);
      assert.equal((await server.client.sendHeartbeat({ userId: 'bystander' })).success, true);
      const response = await fetch(`${server.httpUrl}/v1/users/bystander/status`);
      assert.equal(response.status, 200);
      await response.arrayBuffer();
      const tookMs = performance.now() - beganMs;
      assert.ok(tookMs < bystanderLimitMs, `the bystander waited ${tookMs} ms`);
      await sleep(20);
    }
  }

  const httpPort = () => Number(new URL(server.httpUrl).port);

  /** A socket by hand, what came on it, and whether it is closed. */
  function open(port = httpPort(), localAddress = '127.0.0.1') {
    const socket = connect({ port, host: '127.0.0.1', localAddress });
    sockets.push(socket);
    const state = { socket, received: '', isClosed: false };
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      state.received += chunk.toString('latin1');
    });
    socket.once('close', () => {
      state.isClosed = true;
    });
    return state;
  }

  /** Sends a byte now and then until the other side has had enough. */
  async function drip(bytes: string, port = httpPort(), first = '') {
    const state = open(port);
    state.socket.write(first);
    const endMs = performance.now() + 60_000;
    for (let at = 0; !state.isClosed; at++) {
      assert.ok(performance.now() < endMs, `still open after ${state.received}`);
      state.socket.write(bytes.charAt(at % bytes.length));
      await sleep(20);
    }
    return state.received;
  }

  const many = <Result>(count: number, work: () => Promise<Result>): Promise<Result[]> =>
    Promise.all(Array.from({ length: count }, work));

  it('ends heads that come byte by byte', async () => {
    const answers = await many(50, () =>
      drip('x', httpPort(), 'GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slow: '),
    );
    for (const answer of answers) assert.match(answer, /^HTTP\/1\.1 408 /);
    const handshakes = await many(20, () =>
      drip('x', httpPort(), handshake('presence.v1.json', undefined).slice(0, -4)),
    );
    for (const answer of handshakes) assert.match(answer, /^HTTP\/1\.1 408 /);
  });

  it('ends bodies that come byte by byte', async () => {
    const head =
      'POST /v1/users/status:batchGet HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{';
    const answers = await many(50, () => drip(' ', httpPort(), head));
    for (const answer of answers) assert.match(answer, /^(HTTP\/1\.1 408 |$)/);
  });

  it('ends connections to the gRPC port that say nothing whole', async () => {
    // The preface of HTTP/2 and its SETTINGS have two seconds.
    await many(20, () => drip('P', server.grpcPort));
    await many(20, async () => {
      const state = open(server.grpcPort);
      state.socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
      await waitFor('the end', () => state.isClosed);
    });
  });

  it('ends sessions that never say hello, on time', async () => {
    const states = Array.from({ length: 100 }, () => open());
    for (const { socket } of states) socket.write(handshake('presence.v1.json', undefined));
    await waitFor('all to be told', () =>
      states.every(({ received }) => received.includes('no hello came in time')),
    );
    // They do not answer the close frame either.
    await waitFor('all to be closed', () => states.every(({ isClosed }) => isClosed));
    assert.equal(server.server.stats().sessions.ends.HELLO_TIMEOUT, 100);
  });

  it('bounds connections, from one address and from many', async () => {
    const states = Array.from({ length: 2000 }, (_, index) =>
      open(httpPort(), `127.0.0.${1 + (index % 200)}`),
    );
    await waitFor('the surplus to be closed', () => states.filter(({ isClosed }) => isClosed).length >= 500);
    const toGrpc = Array.from({ length: 2000 }, (_, index) =>
      open(server.grpcPort, `127.0.1.${1 + (index % 200)}`),
    );
    await waitFor('the surplus to be closed', () => toGrpc.filter(({ isClosed }) => isClosed).length >= 500);
    const { connections } = server.server.stats().grpc;
    assert.ok(connections <= 1500, `${connections} connections`);
    // Who was refused for want of room gets in when there is some: the bystander needs a new one.
    for (const { socket } of [...states, ...toGrpc]) socket.destroy();
  });

  it('refuses heads, URLs and bodies that are too big', async () => {
    const big = 'x'.repeat(70_000);
    const answerTo = async (text: string) => {
      const state = open();
      state.socket.write(text);
      await waitFor('an answer', () => state.received !== '' || state.isClosed);
      return state.received;
    };
    const line = (path: string, headers = '') => `GET ${path} HTTP/1.1\r\nhost: localhost\r\n${headers}\r\n`;
    assert.match(await answerTo(line('/livez', `x-big: ${big}\r\n`)), /^HTTP\/1\.1 400 [\s\S]*too long/);
    assert.match(await answerTo(line(`/v1/users/${big}/status`)), /^HTTP\/1\.1 400 [\s\S]*too long/);
    const manyHeaders = Array.from({ length: 5000 }, (_, index) => `x-${index}: ${'y'.repeat(20)}\r\n`).join(
      '',
    );
    assert.match(await answerTo(line('/livez', manyHeaders)), /^HTTP\/1\.1 400 /);
    const post = (headers: string) =>
      `POST /v1/users/status:batchGet HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n${headers}\r\n`;
    assert.match(await answerTo(post('content-length: 100000000\r\n')), /^HTTP\/1\.1 400 [\s\S]*at most/);
    const chunks = `${(1_000_000).toString(16)}\r\n${'z'.repeat(1_000_000)}\r\n`.repeat(3);
    assert.match(
      await answerTo(`${post('transfer-encoding: chunked\r\n')}${chunks}`),
      /^HTTP\/1\.1 400 [\s\S]*at most/,
    );
  });

  it('ends fragments without end, pings without end and frames without end', async () => {
    const flood = async (first: string | Buffer, piece: Buffer) => {
      const state = open();
      state.socket.write(handshake('presence.v1.json', undefined));
      state.socket.write(first);
      for (let pieces = 0; pieces < 200 && !state.isClosed; pieces++) {
        state.socket.write(Buffer.concat(Array.from({ length: 50 }, () => piece)));
        await sleep(1);
      }
      await waitFor('the end', () => state.isClosed);
    };
    await many(10, () => flood(masked(0x01, Buffer.from('{')), masked(0x00, Buffer.from(' '))));
    await many(10, () => flood('', masked(0x89, Buffer.from('ping'))));
    await many(10, () => flood('', masked(0x8a, Buffer.alloc(0))));
    // A frame that says that 8 GiB will follow.
    await many(10, () =>
      flood(Buffer.from([0x82, 0xff, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]), Buffer.alloc(1000)),
    );
  });

  it('gives up on clients that ask and never read', async () => {
    const userIds = Array.from({ length: 2000 }, (_, index) => `user-${index}-${'x'.repeat(80)}`);
    const states = Array.from({ length: 5 }, () => connect(httpPort(), '127.0.0.1'));
    for (const socket of states) {
      sockets.push(socket);
      socket.on('error', () => {});
      await once(socket, 'connect');
      socket.write(handshake('presence.v1.json', undefined));
      socket.pause();
      socket.write(masked(0x81, Buffer.from('{"hello":{}}')));
      const query = Buffer.from(JSON.stringify({ query: { userIds: userIds.slice(0, 500) } }));
      for (let asked = 0; asked < 150; asked++) socket.write(masked(0x81, query.subarray()));
    }
    await waitFor('them to be given up', () => (server.server.stats().sessions.ends.TOO_SLOW ?? 0) === 5);
  });
});
