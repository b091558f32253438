/** What is done for callers before it is known who they are: nothing that costs, on any interface. */
import assert from 'node:assert/strict';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { fromJson, toBinary } from '@bufbuild/protobuf';
import { ClientFrameSchema } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { apiKeysFile, secureEnvironment, token } from './support/credentials.ts';
import { handshake, masked } from './support/fuzz-inputs.ts';

const service = '/presence.v1.PresenceService';
const unary = [
  'SetUserStatus',
  'SendHeartbeat',
  'GetUserStatus',
  'GetMultipleUserStatus',
  'GetConnections',
  'SetPrivacy',
  'GetPrivacy',
  'DeleteUser',
];

describe('callers who have not said who they are', () => {
  let server: TestServer;
  let keys: ReturnType<typeof apiKeysFile>;
  let http2: ClientHttp2Session;

  before(async () => {
    keys = apiKeysFile();
    server = await startServer({
      ...secureEnvironment(keys.file),
      REQUEST_TIMEOUT: '4s',
      DRAIN_TIMEOUT: '0s',
    });
    http2 = connectHttp2(`http://127.0.0.1:${server.grpcPort}`);
  });
  after(async () => {
    http2?.destroy();
    await server?.stop();
    keys.remove();
  });

  /** A gRPC call whose request stays open, and its status once it is answered. */
  function call(path: string, headers: Record<string, string> = {}) {
    const stream = http2.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    const state = { stream, status: undefined as string | undefined };
    const note = (fields: Record<string, unknown>) => {
      state.status ??= fields['grpc-status'] as string | undefined;
    };
    stream
      .on('response', note)
      .on('trailers', note)
      .on('error', () => {});
    stream.resume();
    return state;
  }

  const framed = (message: Buffer, length = message.length) => {
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(length, 1);
    return Buffer.concat([prefix, message]);
  };

  for (const method of [...unary, 'SubscribeStatusUpdates']) {
    it(`answers ${method} over gRPC by its head`, async () => {
      for (const headers of [{}, { authorization: 'Bearer nonsense' }, { authorization: 'Bearer a.b.c' }]) {
        const { stream, status } = await answered(call(`${service}/${method}`, headers));
        assert.equal(status, '16', JSON.stringify(headers));
        stream.destroy();
      }
    });
  }

  async function answered(asked: ReturnType<typeof call>) {
    await waitFor('an answer', () => asked.status !== undefined);
    return asked;
  }

  it('takes no larger message over gRPC than a method needs', async () => {
    const authorization = `Bearer ${await token('ada')}`;
    const largest = {
      GetMultipleUserStatus: 705_000,
      SubscribeStatusUpdates: 1_410_000,
      SetPrivacy: 282_000,
    };
    for (const method of [...unary, 'SubscribeStatusUpdates'] as const) {
      const most = (largest as Record<string, number>)[method] ?? 65_536;
      const asked = call(`${service}/${method}`, { authorization });
      asked.stream.write(framed(Buffer.alloc(0), most + 1));
      assert.equal((await answered(asked)).status, '8', method);
      const fits = call(`${service}/${method}`, { authorization });
      fits.stream.write(framed(Buffer.alloc(0), most));
      await new Promise((resolve) => http2.ping(resolve));
      assert.equal(fits.status, undefined, method);
      fits.stream.destroy();
    }
  });

  it('takes nothing but a hello of 16 KiB as the first frame of a session over gRPC', async () => {
    const asked = call(`${service}/Connect`);
    asked.stream.write(framed(Buffer.alloc(0), 16 * 1024 + 1));
    assert.equal((await answered(asked)).status, '8');
  });

  it('refuses a list with too many of anything before it is decoded', async () => {
    const authorization = `Bearer ${await token('ada')}`;
    for (const method of unary) {
      const empty = Buffer.alloc(64_000);
      for (let at = 0; at < empty.length; at += 2) empty[at] = 0x0a;
      const asked = call(`${service}/${method}`, { authorization });
      asked.stream.end(framed(empty));
      assert.equal((await answered(asked)).status, '3', method);
    }
  });

  it('waits no longer than REQUEST_TIMEOUT for the rest of a message over gRPC', async () => {
    const authorization = `Bearer ${await token('ada')}`;
    const asked = [
      call(`${service}/SendHeartbeat`, { authorization }),
      call(`${service}/Connect`),
      call('/grpc.health.v1.Health/Check'),
    ];
    for (const { stream } of asked) stream.write(framed(Buffer.from([0x0a, 0x05, 0x61]), 300));
    for (const one of asked) assert.equal((await answered(one)).status, '4');
    assert.equal(server.server.stats().grpc.bufferedRequestBytes, 0);
  });

  it('keeps no name of a service that health is asked for', async () => {
    for (const method of ['Check', 'Watch']) {
      const asked = call(`/grpc.health.v1.Health/${method}`);
      asked.stream.write(framed(Buffer.alloc(0), 4 << 20));
      assert.equal((await answered(asked)).status, '8', method);
    }
  });

  /** What comes back on a socket of our own within the time that a request may take, and whether it was closed. */
  async function exchange(bytes: Buffer | string, isDone: (received: string, isClosed: boolean) => boolean) {
    const socket = connect(Number(new URL(server.httpUrl).port), '127.0.0.1');
    const seen = { received: '', isClosed: false };
    socket.on('data', (chunk) => {
      seen.received += chunk.toString('latin1');
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      seen.isClosed = true;
    });
    socket.write(bytes);
    try {
      await waitFor(
        () => `an answer: ${seen.received.slice(0, 500)}`,
        () => isDone(seen.received, seen.isClosed),
      );
    } finally {
      socket.destroy();
    }
    return seen;
  }

  const head = (target: string, type: string, headers: Record<string, string> = {}) =>
    [
      `${target} HTTP/1.1`,
      'host: localhost',
      `content-type: ${type}`,
      ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
      '\r\n',
    ].join('\r\n');

  it('answers over HTTP before the body has come', async () => {
    const targets = [
      'PUT /v1/users/ada/status',
      'PUT /v1/users/ada/privacy',
      'POST /v1/users/ada/heartbeat',
      'POST /v1/users/status:batchGet',
    ];
    for (const target of targets) {
      for (const headers of [{}, { authorization: 'Bearer a.b.c' }] as Record<string, string>[]) {
        const request = head(target, 'application/json', { 'content-length': '60000', ...headers });
        const { received } = await exchange(request, (text) => text.includes('\r\n\r\n'));
        assert.match(received, /^HTTP\/1.1 401 /, target);
      }
    }
  });

  it('answers over Connect and gRPC-Web before the body has come', async () => {
    for (const method of unary) {
      for (const type of ['application/json', 'application/proto', 'application/grpc-web+proto']) {
        const request = head(`POST ${service}/${method}`, type, {
          'content-length': '60000',
          'content-encoding': 'gzip',
        });
        const { received } = await exchange(request, (text) => /unauthenticated|grpc-status: 16/i.test(text));
        assert.match(received, type.includes('web') ? /^HTTP\/1.1 200 / : /^HTTP\/1.1 401 /, method);
      }
    }
    const type = 'application/connect+json';
    await exchange(
      head(`POST ${service}/SubscribeStatusUpdates`, type, { 'content-length': '60000' }),
      (text) => text.includes('unauthenticated'),
    );
  });

  it('refuses JSON that nests, and lists that are too long, before they are parsed, on every surface', async () => {
    const authorization = `Bearer ${await token('ada')}`;
    const deep = `{"userIds":${'['.repeat(20_000)}`;
    const packed = gzipSync(`{"x":${'['.repeat(60_000)}`);
    const long = `{"userIds":[${'"",'.repeat(30_000)}""]}`;
    const batchGet = `${server.httpUrl}/v1/users/status:batchGet`;
    const connectUrl = `${server.httpUrl}${service}/GetMultipleUserStatus`;
    const ask = async (url: string, body: string | Buffer, headers: Record<string, string> = {}) => {
      const response = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization, ...headers },
        body,
      });
      return `${response.status} ${await response.text()}`;
    };
    for (const url of [batchGet, connectUrl]) {
      assert.match(await ask(url, deep), /^400 .*nests deeper/);
      assert.match(await ask(url, long), /^400 .*more values/);
    }
    const bomb = gzipSync(Buffer.alloc(1_000_000, ' '));
    for (const url of [batchGet, connectUrl]) {
      assert.match(await ask(url, packed, { 'content-encoding': 'gzip' }), /^400 .*nests deeper/);
      assert.match(await ask(url, bomb, { 'content-encoding': 'gzip' }), /^4\d\d /);
    }
    const proto = Buffer.alloc(64_000, Buffer.from([0x0a, 0]));
    assert.match(await ask(connectUrl, proto, { 'content-type': 'application/proto' }), /^400 .*more values/);
    const heartbeat = `${server.httpUrl}${service}/SendHeartbeat`;
    assert.match(await ask(heartbeat, `{"userId":"${'x'.repeat(70_000)}"}`), /^429 .*limit of 65536 bytes/);
    assert.match(await ask(batchGet, '{"userIds":["ada"]}'), /^200 /);
    const fits = gzipSync('{"userIds":["ada"]}');
    assert.match(await ask(connectUrl, fits, { 'content-encoding': 'gzip' }), /^200 /);
  });

  it('answers a hundred requests that wait on one connection, and ends one with more', async () => {
    const livez = 'GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n';
    const { isClosed } = await exchange(
      livez.repeat(100),
      (text) => text.split('HTTP/1.1 200').length === 101,
    );
    assert.equal(isClosed, false);
    await exchange(livez.repeat(2_000), (_text, closed) => closed);
  });

  it('ends a connection whose answers nobody reads', async () => {
    const socket = connect(Number(new URL(server.httpUrl).port), '127.0.0.1');
    let isClosed = false;
    socket
      .on('error', () => {})
      .on('close', () => {
        isClosed = true;
      });
    socket.pause();
    const authorization = `Bearer ${await token('ada')}`;
    const userIds = Array.from({ length: 3_000 }, (_, index) => `user-${index}`);
    const body = JSON.stringify({ userIds });
    const request = `${head('POST /v1/users/status:batchGet', 'application/json', { authorization, 'content-length': String(body.length) })}${body}`;
    // Until what the kernel takes for a reader is full, and more waits in the server.
    for (let sent = 0; sent < 20; sent++) {
      socket.write(request);
      await setTimeout(20);
    }
    await waitFor('the connection to be ended', async () => {
      if (socket.writable) socket.write('GET');
      return isClosed || socket.destroyed;
    });
  });

  const hello = async () => ({ requestId: 1, hello: { userId: 'ada', token: await token('ada') } });
  const webSocketHead = () => Buffer.from(handshake('presence.v1.json', undefined));
  const textFrame = (value: unknown) =>
    masked(0x81, Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)));

  it('does what comes with the hello after it, in order, over WebSocket', async () => {
    const frames = [
      await hello(),
      { requestId: 2, watch: { userIds: ['ada', 'bob'] } },
      { requestId: 3, query: { userIds: ['bob'] } },
      { requestId: 4, heartbeat: {} },
    ].map(textFrame);
    const { received } = await exchange(Buffer.concat([webSocketHead(), ...frames]), (text) =>
      text.includes('"requestId":4'),
    );
    const order = [...received.matchAll(/"requestId":([1-4])/g)].map(([, id]) => id);
    assert.deepEqual(order, ['1', '2', '3', '4']);
  });

  it('does what comes with the hello after it over gRPC', async () => {
    const frames = [
      await hello(),
      { requestId: 2, watch: { userIds: ['ada', 'bob'] } },
      { requestId: 3, query: { userIds: ['bob'] } },
    ].map((json) => framed(Buffer.from(toBinary(ClientFrameSchema, fromJson(ClientFrameSchema, json)))));
    const asked = call(`${service}/Connect`);
    const seen: Buffer[] = [];
    asked.stream.on('data', (chunk: Buffer) => seen.push(chunk));
    asked.stream.write(Buffer.concat(frames));
    // A ServerFrame begins with its request id, as field 1.
    await waitFor('an answer to the last', () => Buffer.concat(seen).includes(Buffer.from([0x08, 3])));
    asked.stream.destroy();
  });

  it('takes a first frame of 16 KiB over WebSocket, and decodes none that comes too early', async () => {
    const large = textFrame({ requestId: 1, hello: { userId: 'ada', device: 'x'.repeat(17_000) } });
    const { received } = await exchange(Buffer.concat([webSocketHead(), large]), (_text, closed) => closed);
    assert.match(received, /at most 16384 bytes/);
    // One frame that goes on and on is given up before it is whole.
    const endless = Buffer.concat([
      Buffer.from('81ff000000000003d0900000'.padEnd(28, '0'), 'hex'),
      Buffer.alloc(200_000, 'x'),
    ]);
    await exchange(Buffer.concat([webSocketHead(), endless]), (_text, closed) => closed);
    const many = Array.from({ length: 100 }, (_, index) =>
      textFrame({ requestId: index + 2, heartbeat: {} }),
    );
    const early = await exchange(
      Buffer.concat([webSocketHead(), textFrame(await hello()), ...many]),
      (_text, closed) => closed,
    );
    assert.match(early.received, /"closeCode":4003/);
  });

  it('reads little of what comes after the end of a session over WebSocket', async () => {
    const first = Buffer.concat([webSocketHead(), textFrame('no JSON')]);
    const after = Array.from({ length: 40 }, () => masked(0x81, Buffer.alloc(60_000, 'x')));
    // None can be that fast where the server waits for a close frame; some are, on a busy machine too.
    let fastestMs = Number.POSITIVE_INFINITY;
    for (let round = 0; round < 20 && fastestMs >= 1900; round++) {
      const beganMs = performance.now();
      await exchange(Buffer.concat([first, ...after]), (_text, closed) => closed);
      fastestMs = Math.min(fastestMs, performance.now() - beganMs);
    }
    assert.ok(fastestMs < 1900, 'closed before the time for a close frame is over');
  });
});
