/** Connect and gRPC-Web on the HTTP port, by the official clients. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type Client, Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { ErrorInfoSchema } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import { PresenceService, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { startServer, type TestServer, Watcher } from '../support/pilotlight.ts';
import { freePort } from '../support/redis-server.ts';
import { waitFor } from '../support/wait.ts';

const protocols: [name: string, create: (baseUrl: string) => Transport][] = [
  [
    'Connect, JSON',
    (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: false }),
  ],
  ['Connect, binary', (baseUrl) => createConnectTransport({ baseUrl, httpVersion: '1.1' })],
  ['gRPC-Web', (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: '1.1' })],
];

for (const [name, createTransport] of protocols) {
  describe(name, () => {
    let server: TestServer;
    let client: Client<typeof PresenceService>;

    before(async () => {
      server = await startServer({ USER_STATUS_TTL: '30s', HEARTBEAT_INTERVAL: '15s' });
      client = createClient(PresenceService, createTransport(server.httpUrl));
    });
    after(() => server.stop());

    it('answers as gRPC does', async () => {
      const { data } = await client.setUserStatus({ userId: 'ada', status: UserStatus.ONLINE });
      assert.equal(data?.status, UserStatus.ONLINE);
      assert.deepEqual(
        await client.getUserStatus({ userId: 'ada' }),
        await server.client.getUserStatus({ userId: 'ada' }),
      );
      const { data: many } = await client.getMultipleUserStatus({ userIds: ['ada', 'bob'] });
      assert.deepEqual(
        many.map(({ status }) => UserStatus[status]),
        ['ONLINE', 'OFFLINE'],
      );
      assert.equal((await client.sendHeartbeat({ userId: 'ada' })).nextHeartbeatInMs, 15_000n);
    });

    it('streams snapshots and changes, and stops when the client does', async () => {
      const watcher = new Watcher(client, ['cat'], 'ada');
      await watcher.sees('cat', '[OFFLINE]');
      await client.setUserStatus({ userId: 'cat', status: UserStatus.ONLINE });
      await client.setUserStatus({ userId: 'cat', status: UserStatus.OFFLINE });
      await watcher.sees('cat', '[OFFLINE] ONLINE OFFLINE');
      await watcher.stop();
      await waitFor('the watch to end', () => server.server.stats().hub.subscriptions === 0);
    });

    it('fails with the status and the ErrorInfo that gRPC has', async () => {
      for (const one of [client, server.client]) {
        const failure = await one
          .getUserStatus({ userId: '' })
          .catch((error: unknown) => ConnectError.from(error));
        assert.ok(failure instanceof ConnectError);
        assert.equal(failure.code, Code.InvalidArgument);
        assert.equal(failure.rawMessage, 'user_id must not be empty');
        const [info] = failure.findDetails(ErrorInfoSchema);
        assert.deepEqual([info?.reason, info?.domain], ['INVALID_ARGUMENT', 'presence.v1']);
      }
      const watcher = new Watcher(client, []);
      assert.equal((await watcher.ended)?.code, Code.InvalidArgument);
    });
  });
}

describe('Connect and what is no request', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
  });
  after(() => server.stop());

  it('takes a charset with quotes, and names in any case', async () => {
    const body = '{"userId":"ada"}';
    for (const [headers, sent, status] of [
      [{ 'content-type': 'application/json; charset="utf-8"' }, body, 200],
      [{ 'content-type': 'Application/JSON;Charset=UTF-8' }, body, 200],
      [{ 'content-type': 'application/json;' }, body, 200],
      [{ 'content-type': 'application/json; charset=utf-16' }, body, 415],
      [{ 'content-type': 'application/json', 'content-encoding': 'GZip' }, gzipSync(body), 200],
      [{ 'content-type': 'application/json', 'content-encoding': '' }, body, 200],
    ] as const) {
      const url = `${server.httpUrl}/presence.v1.PresenceService/GetUserStatus`;
      const response = await fetch(url, { method: 'POST', headers, body: sent });
      assert.equal(response.status, status, JSON.stringify(headers));
      await response.text();
    }
  });

  it('says so when the deadline ends a stream', async () => {
    const request = Buffer.from('{"watchUserIds":["a"]}');
    const prefix = Buffer.from([0, 0, 0, 0, request.length]);
    for (const [type, timeout, expected] of [
      ['application/connect+json', { 'connect-timeout-ms': '300' }, /"code":"deadline_exceeded"/],
      ['application/grpc-web+json', { 'grpc-timeout': '300m' }, /grpc-status: 4/],
    ] as const) {
      const response = await fetch(`${server.httpUrl}/presence.v1.PresenceService/SubscribeStatusUpdates`, {
        method: 'POST',
        headers: { 'content-type': type, ...timeout },
        body: Buffer.concat([prefix, request]),
      });
      assert.match(await response.text(), expected, type);
    }
  });

  it('blames the caller for a message that is no protobuf', async () => {
    const response = await fetch(`${server.httpUrl}/presence.v1.PresenceService/SetUserStatus`, {
      method: 'POST',
      headers: { 'content-type': 'application/proto' },
      body: '{"userId":"ada"}',
    });
    assert.equal(response.status, 400);
    const { code, message } = (await response.json()) as { code: string; message: string };
    assert.deepEqual([code, message], ['invalid_argument', 'the message is not valid protobuf']);
  });

  async function answerTo(method: string, ...headers: string[]): Promise<string> {
    const { port } = new URL(server.httpUrl);
    const socket = connect(Number(port), '127.0.0.1');
    const lines = [`${method} /presence.v1.PresenceService/SetUserStatus HTTP/1.1`, ...headers];
    socket.write(`${lines.join('\r\n')}\r\ncontent-length: 2\r\n\r\n{}`);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    socket.destroy();
    return answer.toString();
  }

  it('answers a request whose Host is no host', async () => {
    const answer = await answerTo('POST', 'host: [x', 'content-type: application/json');
    assert.match(answer, /^HTTP\/1\.1 400 [\s\S]*Host header is malformed/);
  });

  it('refuses what the framework refuses, as a mistake of the caller', async () => {
    assert.match(await answerTo('QUERY', 'host: localhost'), /^HTTP\/1\.1 405 [\s\S]*INVALID_ARGUMENT/);
  });
});

describe('Connect while the engine is away', () => {
  it('is UNAVAILABLE with REDIS_ERROR', async () => {
    const server = await startServer({
      REDIS_URL: `redis://127.0.0.1:${await freePort()}`,
      REDIS_TIMEOUT: '100ms',
    });
    try {
      const client = createClient(
        PresenceService,
        createConnectTransport({ baseUrl: server.httpUrl, httpVersion: '1.1' }),
      );
      const failure = await client
        .getUserStatus({ userId: 'ada' })
        .catch((error: unknown) => ConnectError.from(error));
      assert.ok(failure instanceof ConnectError);
      assert.equal(failure.code, Code.Unavailable);
      assert.equal(failure.findDetails(ErrorInfoSchema)[0]?.reason, 'REDIS_ERROR');
    } finally {
      await server.stop();
    }
  });
});
