/** What a refusal says of when to come back, on every interface; and how a subscription is told that its token will expire. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from '@connectrpc/connect-node';
import { ErrorInfoSchema, RetryInfoSchema } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import { PresenceService } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { WebSocket } from 'ws';
import { EventReader } from '../support/http.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { apiKeysFile, secureEnvironment, token } from './support/credentials.ts';
import { TestSession } from './support/session.ts';

const bearer = (value: string) => ({ authorization: `Bearer ${value}` });
/** One call a second, two at once. */
const waitOfOneMs = 1000;

function transports(server: TestServer): readonly (readonly [name: string, transport: Transport])[] {
  const http = { baseUrl: server.httpUrl, httpVersion: '1.1' } as const;
  return [
    ['gRPC', createGrpcTransport({ baseUrl: `http://127.0.0.1:${server.grpcPort}` })],
    ['Connect', createConnectTransport(http)],
    ['gRPC-Web', createGrpcWebTransport(http)],
  ];
}

/** What the details and the metadata of a refused call say, ms. */
function delayOf(error: unknown): number {
  const known = ConnectError.from(error);
  assert.equal(known.code, Code.ResourceExhausted);
  const [info] = known.findDetails(ErrorInfoSchema);
  const [retry] = known.findDetails(RetryInfoSchema);
  assert.equal(info?.reason, 'RATE_LIMITED');
  const { seconds = 0n, nanos = 0 } = retry?.retryDelay ?? {};
  const delayMs = Number(seconds) * 1000 + nanos / 1e6;
  assert.equal(Number(info?.metadata.retry_after_ms), delayMs);
  return delayMs;
}

async function refusalOf(call: () => Promise<unknown>): Promise<unknown> {
  for (let calls = 0; calls < 100; calls++) {
    try {
      await call();
    } catch (error) {
      return error;
    }
  }
  throw new Error('nothing was refused');
}

/** With credentials of the test's own, whose file goes with it. */
async function startSecureServer(environment: Readonly<Record<string, string>> = {}): Promise<TestServer> {
  const keys = apiKeysFile();
  const server = await startServer({
    ...secureEnvironment(keys.file),
    USER_STATUS_TTL: '1h',
    DRAIN_TIMEOUT: '200ms',
    ...environment,
  });
  const stop = () => server.stop().finally(keys.remove);
  return { ...server, stop };
}

describe('a refusal', () => {
  let server: TestServer;
  before(async () => {
    server = await startSecureServer({ RATE_LIMIT_CALLS: '1', RATE_LIMIT_CONNECTIONS: '1' });
  });
  after(() => server.stop());

  it('says when to come back over gRPC, Connect and gRPC-Web', async () => {
    for (const [name, transport] of transports(server)) {
      const client = createClient(PresenceService, transport);
      const headers = bearer(await token(`caller over ${name}`));
      const error = await refusalOf(() => client.getUserStatus({ userId: 'x' }, { headers }));
      const delayMs = delayOf(error);
      assert.ok(delayMs > 0 && delayMs <= waitOfOneMs, `${delayMs} ms over ${name}`);
      if (name !== 'gRPC') assert.equal(ConnectError.from(error).metadata.get('retry-after'), '1', name);
    }
  });

  it('says so over HTTP', async () => {
    const headers = bearer(await token('caller over HTTP'));
    let response: Response;
    do {
      response = await fetch(`${server.httpUrl}/v1/users/x/status`, { headers });
      await response.arrayBuffer();
    } while (response.status === 200);
    assert.equal(response.status, 429);
    assert.equal(response.headers.get('retry-after'), '1');
  });

  for (const wire of ['gRPC', 'WebSocket'] as const) {
    it(`says so in a session over ${wire}, which goes on`, async () => {
      const session = TestSession.open(wire, server, await token(`session over ${wire}`));
      await session.ask({ case: 'hello', value: { userId: `session over ${wire}` } });
      const query = () => session.ask({ case: 'query', value: { userIds: ['x'] } });
      while ((await query()) === 'states');
      const refusal = session.frames.find(({ frame }) => frame.case === 'error')?.frame;
      assert.ok(refusal?.case === 'error' && refusal.value.code === 'RATE_LIMITED');
      assert.equal(refusal.value.retryable, true);
      assert.ok(refusal.value.retryAfterMs > 0n && refusal.value.retryAfterMs <= BigInt(waitOfOneMs));
      await waitFor('the session to go on', async () => (await query()) === 'states');
      session.drop();
    });

    it(`sends a hello away for a while, over ${wire}`, async () => {
      const userId = `comes too often over ${wire}`;
      const value = await token(userId);
      let refused: TestSession;
      do {
        refused = TestSession.open(wire, server, value);
      } while ((await refused.ask({ case: 'hello', value: { userId } })) === 'welcome');
      assert.equal(await refused.closes(), 4006);
      const away = refused.frames.find(({ frame }) => frame.case === 'goingAway')?.frame;
      assert.ok(away?.case === 'goingAway' && away.value.closeCode === 4006);
      assert.ok(away.value.reconnectInMs > 0n && away.value.reconnectInMs <= BigInt(waitOfOneMs));
    });
  }

  it('is in the reason of the close frame too', async () => {
    const socket = new WebSocket(`${server.httpUrl.replace('http', 'ws')}/v1/connect`, 'presence.v1.json');
    const closed = new Promise<string>((resolve) =>
      socket.once('close', (code, reason) => resolve(`${code} ${reason}`)),
    );
    await new Promise((resolve) => socket.once('open', resolve));
    for (let pings = 0; pings < 300; pings++) socket.ping();
    assert.equal(await closed, '4003 too many frames; retry after 1000 ms');
  });
});

describe('a subscription whose token expires', () => {
  let server: TestServer;
  before(async () => {
    server = await startSecureServer();
  });
  after(() => server.stop());

  it('is told by an event over server-sent events, then ended', async () => {
    const headers = bearer(await token('ada', { expiresIn: 2 }));
    const events = new EventReader(`${server.httpUrl}/v1/events?watch=bob`, headers);
    assert.equal(await events.status, 200);
    await waitFor('the end', () => events.ended);
    const told = events.events.map(({ event }) => event).filter((event) => event !== 'message');
    assert.deepEqual(told, ['token_expiring', 'end']);
    const notice = events.events.find(({ event }) => event === 'token_expiring');
    const { expiresInMs } = JSON.parse(notice?.data ?? '') as { expiresInMs: string };
    assert.ok(Number(expiresInMs) > 0 && Number(expiresInMs) <= 2000, expiresInMs);
  });

  it('is told by response metadata over gRPC, Connect and gRPC-Web', async () => {
    const seconds = Math.floor(Date.now() / 1000) + 300;
    const headers = bearer(await token('ada', { claims: { exp: seconds }, expiresIn: 300 }));
    for (const [name, transport] of transports(server)) {
      const client = createClient(PresenceService, transport);
      const aborter = new AbortController();
      let expiresAt: string | null = null;
      const stream = client.subscribeStatusUpdates(
        { watchUserIds: ['bob'] },
        {
          headers,
          signal: aborter.signal,
          onHeader: (header) => {
            expiresAt = header.get('presence-token-expires-at');
          },
        },
      );
      for await (const event of stream) {
        assert.equal(event.userId, 'bob');
        break;
      }
      aborter.abort();
      const toldMs = Number(expiresAt);
      assert.ok(toldMs >= seconds * 1000 && toldMs <= (seconds + 2) * 1000, `${expiresAt} over ${name}`);
    }
  });
});
