/**
 * Every rpc, route and frame, with every kind of credentials: the right answer, and nothing changed by what was refused.
 * The lists come from the contract and from the server's own routes: what is new and missing here fails.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Client, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from '@connectrpc/connect-node';
import { ClientFrameSchema, PresenceService, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { apiKeys, apiKeysFile, badTokens, secureEnvironment, token } from './support/credentials.ts';
import { type FrameInit, type SessionWire, TestSession } from './support/session.ts';

type Right = 'update' | 'read' | 'connections' | 'operate' | 'open';
type Verdict = 'allowed' | 'unauthenticated' | 'forbidden';

/** What each kind of credentials may do to user ada; `undefined`: nobody's. */
const rights: Readonly<Record<string, readonly Right[]>> = {
  ada: ['update', 'read', 'connections', 'open'],
  bob: ['read', 'open'],
  'bob with presence:write': ['update', 'read', 'open'],
  'backend token with presence:read': ['read', 'connections', 'open'],
  'presence:read': ['read', 'connections', 'open'],
  'presence:write': ['update', 'open'],
  'presence:admin': ['update', 'read', 'connections', 'operate', 'open'],
  'no scope': ['open'],
};

const status = UserStatus.ONLINE;
const calls: Readonly<
  Record<string, { readonly right: Right; run(client: Client<typeof PresenceService>): Promise<unknown> }>
> = {
  setUserStatus: { right: 'update', run: (client) => client.setUserStatus({ userId: 'ada', status }) },
  sendHeartbeat: { right: 'update', run: (client) => client.sendHeartbeat({ userId: 'ada' }) },
  getUserStatus: { right: 'read', run: (client) => client.getUserStatus({ userId: 'ada' }) },
  getMultipleUserStatus: {
    right: 'read',
    run: (client) => client.getMultipleUserStatus({ userIds: ['ada', 'bob'] }),
  },
  getConnections: { right: 'connections', run: (client) => client.getConnections({ userId: 'ada' }) },
  setPrivacy: {
    right: 'update',
    run: (client) => client.setPrivacy({ userId: 'ada', addBlocked: ['mallory'] }),
  },
  getPrivacy: { right: 'update', run: (client) => client.getPrivacy({ userId: 'ada' }) },
  revokeTokens: { right: 'operate', run: (client) => client.revokeTokens({ userId: 'nobody' }) },
  deleteUser: { right: 'operate', run: (client) => client.deleteUser({ userId: 'ada' }) },
  subscribeStatusUpdates: {
    right: 'read',
    run: firstEvent,
  },
};
/** `connect` is a stream of frames, which have a matrix of their own. */
const sessionRpcs = ['connect'];

interface Route {
  readonly right: Right;
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
}

const routes: readonly Route[] = [
  { right: 'read', method: 'GET', path: '/v1/users/{id}/status' },
  { right: 'update', method: 'PUT', path: '/v1/users/{id}/status', body: { status: 'ONLINE' } },
  { right: 'update', method: 'POST', path: '/v1/users/{id}/heartbeat' },
  { right: 'connections', method: 'GET', path: '/v1/users/{id}/connections' },
  { right: 'update', method: 'GET', path: '/v1/users/{id}/privacy' },
  { right: 'update', method: 'PUT', path: '/v1/users/{id}/privacy', body: { addBlocked: ['trudy'] } },
  { right: 'operate', method: 'DELETE', path: '/v1/users/{id}' },
  { right: 'read', method: 'POST', path: '/v1/users/status:batchGet', body: { userIds: ['ada'] } },
  { right: 'operate', method: 'POST', path: '/v1/tokens/revoke', body: { userId: 'nobody' } },
  { right: 'read', method: 'GET', path: '/v1/events' },
  { right: 'operate', method: 'GET', path: '/v1/stats' },
  { right: 'operate', method: 'GET', path: '/v1/stats/live' },
  { right: 'operate', method: 'GET', path: '/metrics' },
  { right: 'operate', method: 'GET', path: '/openapi.json' },
  { right: 'operate', method: 'GET', path: '/' },
  { right: 'open', method: 'GET', path: '/livez' },
  { right: 'open', method: 'GET', path: '/readyz' },
];

const frames: Readonly<Record<string, { readonly right: Right; readonly frame: FrameInit }>> = {
  hello: { right: 'update', frame: { case: 'hello', value: { userId: 'ada' } } },
  setStatus: { right: 'update', frame: { case: 'setStatus', value: { status } } },
  setCustomStatus: { right: 'update', frame: { case: 'setCustomStatus', value: { text: 'here' } } },
  watch: { right: 'read', frame: { case: 'watch', value: { userIds: ['bob'] } } },
  unwatch: { right: 'open', frame: { case: 'unwatch', value: { userIds: ['bob'] } } },
  query: { right: 'read', frame: { case: 'query', value: { userIds: ['bob'] } } },
  heartbeat: { right: 'update', frame: { case: 'heartbeat', value: {} } },
  goodbye: { right: 'open', frame: { case: 'goodbye', value: {} } },
  authenticate: { right: 'open', frame: { case: 'authenticate', value: { token: 'x' } } },
};

function expected(credentials: string, right: Right, isOpen: boolean): Verdict {
  if (isOpen) return 'allowed';
  const own = rights[credentials];
  if (!own) return 'unauthenticated';
  return own.includes(right) ? 'allowed' : 'forbidden';
}

describe('who may do what', () => {
  let server: TestServer;
  let keys: { file: string; remove: () => void };
  /** Name of the credentials -> token; null: none. */
  let credentials: Map<string, string | null>;
  let admin: Client<typeof PresenceService>;
  let bad: Record<string, string>;

  before(async () => {
    keys = apiKeysFile();
    server = await startServer({
      ...secureEnvironment(keys.file),
      USER_STATUS_TTL: '1h',
      DISCONNECT_GRACE: '0s',
    });
    bad = await badTokens();
    credentials = new Map<string, string | null>([
      ['none', null],
      ...Object.entries(bad),
      ['ada', await token('ada')],
      ['bob', await token('bob')],
      ['bob with presence:write', await token('bob', { claims: { scope: 'openid presence:write' } })],
      ['backend token with presence:read', await token(undefined, { claims: { scope: 'presence:read' } })],
      ['presence:read', apiKeys.read],
      ['presence:write', apiKeys.write],
      ['presence:admin', apiKeys.admin],
      ['no scope', apiKeys.nothing],
    ]);
    admin = clientOf(createGrpcTransport, `http://127.0.0.1:${server.grpcPort}`, apiKeys.admin);
    for (const userId of ['ada', 'bob']) await admin.setUserStatus({ userId, status });
  });
  after(async () => {
    await server.stop();
    keys.remove();
  });

  /** All that the store has of the two users. */
  async function stored(): Promise<unknown> {
    // Last seen of a watched user may be answered from memory, a second late.
    await waitFor('all watches to be gone', () => server.server.stats().hub.subscriptions === 0);
    const { data } = await admin.getMultipleUserStatus({ userIds: ['ada', 'bob'] });
    const connections = await Promise.all(['ada', 'bob'].map((userId) => admin.getConnections({ userId })));
    const privacy = await Promise.all(['ada', 'bob'].map((userId) => admin.getPrivacy({ userId })));
    return JSON.parse(
      JSON.stringify([data, connections, privacy], (_, value) =>
        typeof value === 'bigint' ? `${value}` : value,
      ),
    );
  }

  async function check(
    what: string,
    right: Right,
    isOpen: boolean,
    run: (token: string | null) => Promise<Verdict>,
  ) {
    for (const [name, value] of credentials) {
      const verdict = expected(name, right, isOpen);
      const beforeIt = verdict === 'allowed' ? undefined : await stored();
      assert.equal(await run(value), verdict, `${what} with ${name}`);
      if (beforeIt) assert.deepEqual(await stored(), beforeIt, `${what} with ${name} changed the store`);
    }
  }

  it('has every rpc of the contract', () => {
    const known = [...Object.keys(calls), ...sessionRpcs];
    assert.deepEqual(known.toSorted(), PresenceService.methods.map(({ localName }) => localName).toSorted());
  });

  for (const [face, create, port] of [
    ['gRPC', createGrpcTransport, 'grpc'],
    ['Connect', createConnectTransport, 'http'],
    ['gRPC-Web', createGrpcWebTransport, 'http'],
  ] as const) {
    for (const [name, { right, run }] of Object.entries(calls)) {
      it(`${name} over ${face}`, async () => {
        const url = port === 'grpc' ? `http://127.0.0.1:${server.grpcPort}` : server.httpUrl;
        await check(name, right, false, async (value) => {
          try {
            await run(clientOf(create, url, value));
            return 'allowed';
          } catch (error) {
            return verdictOf(error);
          }
        });
      });
    }
  }

  it('has every route of the server', async () => {
    const document = (await (
      await fetch(`${server.httpUrl}/openapi.json`, { headers: { authorization: `Bearer ${apiKeys.admin}` } })
    ).json()) as { paths: Record<string, Record<string, unknown>> };
    const described = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const hidden = ['GET /metrics', 'GET /openapi.json', 'GET /'];
    const known = routes.map(({ method, path }) => `${method} ${path}`);
    assert.deepEqual(known.toSorted(), [...described, ...hidden].toSorted());
  });

  for (const { right, method, path, body } of routes) {
    it(`${method} ${path}`, async () => {
      const query = path === '/v1/events' ? '?watch=ada' : '';
      const url = `${server.httpUrl}${path.replace('{id}', 'ada')}${query}`;
      await check(`${method} ${path}`, right, right === 'open', async (value) => {
        const response = await fetch(url, {
          method,
          headers: {
            ...(value !== null && { authorization: `Bearer ${value}` }),
            ...(body !== undefined && { 'content-type': 'application/json' }),
          },
          ...(body !== undefined && { body: JSON.stringify(body) }),
        });
        await response.body?.cancel();
        if (response.status === 401) {
          assert.ok(response.headers.get('www-authenticate'), 'a 401 says how to authenticate');
          return 'unauthenticated';
        }
        if (response.status === 403) return 'forbidden';
        assert.ok(response.status < 300, `${response.status}`);
        return 'allowed';
      });
    });
  }

  it('what there is not, and what operators may see, is refused before it is looked for', async () => {
    assert.equal((await fetch(`${server.httpUrl}/v1/nothing`)).status, 401);
    const basic = (password: string) => ({
      authorization: `Basic ${Buffer.from(`any:${password}`).toString('base64')}`,
    });
    const statusOf = async (path: string, headers: Record<string, string>) =>
      (await fetch(`${server.httpUrl}${path}`, { headers })).status;
    assert.equal(await statusOf('/metrics', basic(apiKeys.admin)), 200);
    assert.equal(await statusOf('/metrics', basic(apiKeys.read)), 403);
    assert.equal(await statusOf('/v1/users/ada/status', basic(apiKeys.admin)), 401);
    assert.equal(await statusOf(`/v1/users/ada/status?access_token=${apiKeys.admin}`, {}), 401);
  });

  it('has every frame of a session', () => {
    const [oneof] = ClientFrameSchema.oneofs;
    assert.deepEqual(
      Object.keys(frames).toSorted(),
      oneof?.fields.map(({ localName }) => localName).toSorted(),
    );
  });

  for (const wire of ['gRPC', 'WebSocket'] as readonly SessionWire[]) {
    it(`hello over ${wire}, for oneself, for others, and looking on`, async () => {
      const hello = (userId: string) => async (value: string | null) => {
        const session = TestSession.open(wire, server, value);
        const answer = await session.ask({ case: 'hello', value: { userId } });
        if (answer === 'welcome') {
          await session.ask({ case: 'goodbye', value: {} });
          await waitFor('the session to be gone', () => server.server.stats().connections.held === 0);
          return 'allowed';
        }
        assert.equal(answer, 'error UNAUTHORIZED');
        assert.equal(await session.closes(), 4503);
        return 'refused';
      };
      for (const [userId, right] of [
        ['ada', 'update'],
        ['', 'read'],
      ] as const) {
        for (const [name, value] of credentials) {
          const verdict = expected(name, right, false) === 'allowed' ? 'allowed' : 'refused';
          const beforeIt = verdict === 'allowed' ? undefined : await stored();
          assert.equal(await hello(userId)(value), verdict, `hello of "${userId}" with ${name}`);
          if (beforeIt) assert.deepEqual(await stored(), beforeIt, name);
        }
      }
    });

    it(`every other frame over ${wire} before a hello, whatever the credentials`, async () => {
      const beforeIt = await stored();
      for (const [name, { frame }] of Object.entries(frames)) {
        if (name === 'hello') continue;
        await Promise.all(
          [...credentials].map(async ([whose, value]) => {
            const early = TestSession.open(wire, server, value);
            assert.equal(await early.ask(frame), 'error INVALID_ARGUMENT', `${name} with ${whose}`);
            assert.equal(await early.closes(), 4501, `${name} with ${whose}`);
          }),
        );
      }
      assert.deepEqual(await stored(), beforeIt, 'changed the store');
    });

    it(`every frame over ${wire} after a hello that nobody may say`, async () => {
      const beforeIt = await stored();
      for (const [name, { frame }] of Object.entries(frames)) {
        const refused = [...credentials].filter(([whose]) => expected(whose, 'update', false) !== 'allowed');
        await Promise.all(
          refused.map(async ([whose, value]) => {
            // In the handshake, and in the hello itself.
            const inHandshake = TestSession.open(wire, server, value);
            const inHello = TestSession.open(wire, server, null);
            const hellos = await Promise.all([
              inHandshake.askBoth({ case: 'hello', value: { userId: 'ada' } }, frame),
              inHello.askBoth({ case: 'hello', value: { userId: 'ada', token: value ?? '' } }, frame),
            ]);
            for (const [hello, then] of hellos) {
              assert.equal(hello, 'error UNAUTHORIZED', `${name} with ${whose}`);
              assert.equal(then, 'closed 4503', `${name} with ${whose}`);
            }
          }),
        );
      }
      assert.deepEqual(await stored(), beforeIt, 'changed the store');
    });

    it(`every frame over ${wire} after a hello, by what the credentials allow`, async () => {
      for (const [whose, value] of credentials) {
        if (expected(whose, 'update', false) !== 'allowed') continue;
        for (const [name, { right, frame }] of Object.entries(frames)) {
          const session = TestSession.open(wire, server, value);
          assert.equal(await session.ask({ case: 'hello', value: { userId: 'ada' } }), 'welcome', whose);
          const answer = await session.ask(frame);
          const allowed = name === 'query' ? 'states' : 'ack';
          const wanted: Readonly<Record<string, string>> = {
            hello: 'error INVALID_ARGUMENT',
            goodbye: 'closed 1000',
            authenticate: 'error UNAUTHORIZED',
          };
          const byRight =
            expected(whose, right, right === 'open') === 'allowed' ? allowed : 'error UNAUTHORIZED';
          assert.equal(answer, wanted[name] ?? byRight, `${name} with ${whose}`);
          if (name !== 'goodbye') await session.ask({ case: 'goodbye', value: {} });
          await session.closes();
        }
      }
      await waitFor('all sessions to be gone', () => server.server.stats().connections.held === 0);
      await admin.setUserStatus({ userId: 'ada', status });
    });

    it(`authenticate over ${wire} takes a newer token of the same user only`, async () => {
      const session = TestSession.open(wire, server, await token('ada'));
      assert.equal(await session.ask({ case: 'hello', value: { userId: 'ada' } }), 'welcome');
      for (const [name, value] of credentials) {
        const answer = await session.ask({ case: 'authenticate', value: { token: value ?? '' } });
        assert.equal(answer, name === 'ada' ? 'ack' : 'error UNAUTHORIZED', name);
      }
      assert.equal(await session.ask({ case: 'query', value: { userIds: ['bob'] } }), 'states');
      await session.ask({ case: 'goodbye', value: {} });
    });
  }
});

function clientOf(
  create: (options: { baseUrl: string; httpVersion: '2' }) => Transport,
  baseUrl: string,
  value: string | null,
): Client<typeof PresenceService> {
  const transport = (create as (options: object) => Transport)({
    baseUrl,
    httpVersion: create === (createGrpcTransport as unknown) ? '2' : '1.1',
    interceptors: [
      (next: (request: { header: Headers }) => unknown) => (request: { header: Headers }) => {
        if (value !== null) request.header.set('authorization', `Bearer ${value}`);
        return next(request);
      },
    ],
  });
  return createClient(PresenceService, transport);
}

function verdictOf(error: unknown): Verdict {
  const { code, message } = ConnectError.from(error);
  if (code === 16) return 'unauthenticated';
  if (code === 7) return 'forbidden';
  throw new Error(`neither 7 nor 16 but ${code}: ${message}`);
}

async function firstEvent(client: Client<typeof PresenceService>): Promise<unknown> {
  const aborter = new AbortController();
  try {
    const { signal } = aborter;
    for await (const event of client.subscribeStatusUpdates({ watchUserIds: ['ada'] }, { signal }))
      return event;
    throw new Error('the stream ended without an event');
  } finally {
    aborter.abort();
  }
}
