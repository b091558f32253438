/** WATCH_POLICY: who may see whom, on every interface; what becomes of open watches; and what counts while nobody answers. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectError } from '@connectrpc/connect';
import { UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { watchNobody } from '../../src/core/principal.ts';
import type { PresenceApi } from '../../src/presence/presence-api.ts';
import type { Subscription } from '../../src/presence/subscription.ts';
import { parseApiKeys } from '../../src/security/api-keys.ts';
import { GuardedPresence } from '../../src/security/guarded-presence.ts';
import { OpenCredentials } from '../../src/security/open-credentials.ts';
import type { WatchPolicy } from '../../src/security/watch-policy.ts';
import { EventReader, request } from '../support/http.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { apiKeys, apiKeysFile, secureEnvironment, token } from './support/credentials.ts';
import { Endpoint } from './support/endpoint.ts';
import { type SessionWire, TestSession } from './support/session.ts';

const wires: readonly SessionWire[] = ['gRPC', 'WebSocket'];
const bearer = (value: string) => ({ authorization: `Bearer ${value}` });
const scope = 'presence:read';

/** Users whom ada may watch, and users whom she may not. */
const allowed = ['ada', 'bob', 'team-7:cyd'];
const refused = ['eve', 'team-70', 'Bob', 'team-7'];

/** One call, as `OK` or the catalogue's code; of what it was refused for, the message. */
type See = (server: TestServer, token: string, userIds: readonly string[]) => Promise<string>;

async function grpcAnswer(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'OK';
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    return `${code}: ${rawMessage}`;
  }
}

async function firstEvent(server: TestServer, value: string, watchUserIds: readonly string[]): Promise<void> {
  const aborter = new AbortController();
  const options = { headers: bearer(value), signal: aborter.signal };
  try {
    const events = server.client.subscribeStatusUpdates({ watchUserIds: [...watchUserIds] }, options);
    for await (const _ of events) return;
  } finally {
    aborter.abort();
  }
}

async function httpAnswer(server: TestServer, path: string, value: string, body?: unknown): Promise<string> {
  const method = body === undefined ? 'GET' : 'POST';
  const answer = await request(`${server.httpUrl}${path}`, method, body, bearer(value));
  if (answer.status === 200) return 'OK';
  const { message } = (answer.body as { error: { message: string } }).error;
  return `${answer.status === 403 ? 7 : answer.status}: ${message}`;
}

/** Every way to see one user, and those for lists. */
const ofOne: Readonly<Record<string, See>> = {
  GetUserStatus: (server, value, [userId = '']) =>
    grpcAnswer(server.client.getUserStatus({ userId }, { headers: bearer(value) })),
  GetConnections: (server, value, [userId = '']) =>
    grpcAnswer(server.client.getConnections({ userId }, { headers: bearer(value) })),
  'GET status': (server, value, [userId]) => httpAnswer(server, `/v1/users/${userId}/status`, value),
  'GET connections': (server, value, [userId]) =>
    httpAnswer(server, `/v1/users/${userId}/connections`, value),
};
const ofMany: Readonly<Record<string, See>> = {
  GetMultipleUserStatus: (server, value, userIds) =>
    grpcAnswer(server.client.getMultipleUserStatus({ userIds: [...userIds] }, { headers: bearer(value) })),
  SubscribeStatusUpdates: (server, value, userIds) => grpcAnswer(firstEvent(server, value, userIds)),
  batchGet: (server, value, userIds) => httpAnswer(server, '/v1/users/status:batchGet', value, { userIds }),
  events: async (server, value, userIds) => {
    const reader = new EventReader(`${server.httpUrl}/v1/events?watch=${userIds.join()}`, bearer(value));
    const status = await reader.status;
    reader.close();
    if (status === 200) return 'OK';
    return httpAnswer(server, `/v1/events?watch=${userIds.join()}`, value);
  },
  'session over gRPC': (server, value, userIds) => sessionAnswer('gRPC', server, value, userIds),
  'session over WebSocket': (server, value, userIds) => sessionAnswer('WebSocket', server, value, userIds),
};

async function sessionAnswer(
  wire: SessionWire,
  server: TestServer,
  value: string,
  userIds: readonly string[],
): Promise<string> {
  const session = TestSession.open(wire, server, value);
  await session.ask({ case: 'hello', value: {} });
  const watch = await session.ask({ case: 'watch', value: { userIds: [...userIds] } });
  const last = session.frames.at(-1)?.frame;
  const query = await session.ask({ case: 'query', value: { userIds: [...userIds] } });
  await session.ask({ case: 'goodbye', value: {} });
  assert.equal(query.startsWith('error'), watch.startsWith('error'), 'watch and query agree');
  if (last?.case !== 'error') return 'OK';
  return `${last.value.code === 'UNAUTHORIZED' ? 7 : last.value.code}: ${last.value.message}`;
}

for (const kind of ['claims', 'http'] as const) {
  describe(`a watch policy: ${kind}`, () => {
    let keys: { file: string; remove: () => void };
    let endpoint: Endpoint;
    let server: TestServer;

    before(async () => {
      keys = apiKeysFile();
      endpoint = await Endpoint.start('allowed');
      endpoint.yes = new Set([...allowed.map((userId) => `ada>${userId}`), 'billing>bob']);
      server = await startServer({
        ...secureEnvironment(keys.file),
        WATCH_POLICY: kind,
        ...(kind === 'http' && { WATCH_POLICY_URL: endpoint.url }),
        RATE_LIMIT_CONNECTIONS: '0',
        USER_STATUS_TTL: '1m',
      });
    });
    after(async () => {
      await server.stop();
      endpoint.stop();
      keys.remove();
    });

    const adaToken = () => token('ada', { claims: { scope, watch: ['bob', 'team-7:*'] } });

    it('lets see whom it names and oneself, on every interface', async () => {
      const value = await adaToken();
      for (const [name, see] of Object.entries({ ...ofOne, ...ofMany })) {
        for (const userId of allowed)
          assert.equal(await see(server, value, [userId]), 'OK', `${name} ${userId}`);
        for (const userId of refused) {
          const answer = await see(server, value, [userId]);
          assert.equal(answer, `7: you may not watch user ${userId}`, `${name} ${userId}`);
        }
      }
    });

    it('refuses a list whole, naming who is refused', async () => {
      const value = await adaToken();
      for (const [name, see] of Object.entries(ofMany)) {
        assert.equal(await see(server, value, allowed), 'OK', name);
        assert.equal(
          await see(server, value, ['bob', 'eve', 'team-70']),
          '7: you may not watch user eve',
          name,
        );
      }
      const session = TestSession.open('gRPC', server, value);
      await session.ask({ case: 'hello', value: { userId: 'ada' } });
      await session.ask({ case: 'watch', value: { userIds: ['bob', 'eve', 'team-70'] } });
      const last = session.frames.at(-1)?.frame;
      assert.deepEqual(last?.case === 'error' && last.value.userIds, ['eve', 'team-70']);
      assert.equal(server.server.stats().hub.watches, 0);
      await session.ask({ case: 'goodbye', value: {} });
    });

    it('lets others see themselves only, operators everybody, backends whom it names', async () => {
      const see = ofMany.GetMultipleUserStatus as See;
      const stranger = await token('eve');
      assert.equal(await see(server, stranger, ['eve']), 'OK');
      assert.equal(await see(server, stranger, ['bob']), '7: you may not watch user bob');
      assert.equal(await see(server, apiKeys.read, ['bob']), '7: you may not watch user bob');
      assert.equal(await see(server, apiKeys.admin, [...allowed, ...refused]), 'OK');
      const billing = await token(undefined, { claims: { scope, client_id: 'billing', watch: ['bob'] } });
      assert.equal(await see(server, billing, ['bob']), 'OK');
      assert.equal(await see(server, billing, ['ada']), '7: you may not watch user ada');
      // A backend of that name is not the user.
      const namesake = await token(undefined, { claims: { scope, client_id: 'eve' } });
      assert.equal(await see(server, namesake, ['eve']), '7: you may not watch user eve');
    });

    it('does not stand in the way of what users do themselves', async () => {
      const options = { headers: bearer(await token('eve')) };
      const set = server.client.setUserStatus({ userId: 'eve', status: UserStatus.ONLINE }, options);
      assert.equal(await grpcAnswer(set), 'OK');
      assert.equal(await grpcAnswer(server.client.sendHeartbeat({ userId: 'eve' }, options)), 'OK');
    });

    it('is not asked about what is no id, or too many', async () => {
      const value = await adaToken();
      const before = endpoint.asked.length;
      assert.match(
        await (ofMany.GetMultipleUserStatus as See)(server, value, ['bob', '']),
        /^3: user_ids\[1\]/,
      );
      const many = Array.from({ length: 10_001 }, (_, index) => `u${index}`);
      assert.match(await (ofMany.SubscribeStatusUpdates as See)(server, value, many), /^3: watch_user_ids/);
      assert.equal(endpoint.asked.length, before);
    });

    if (kind === 'claims') {
      it('reads a malformed claim as nobody', async () => {
        for (const watch of ['bob', { bob: true }, ['bob', 7], null]) {
          const value = await token('ada', { claims: { watch } });
          const answer = await (ofOne.GetUserStatus as See)(server, value, ['bob']);
          assert.equal(answer, '7: you may not watch user bob', JSON.stringify(watch));
        }
        const key = { id: 'billing', sha256: '0'.repeat(64), scopes: [scope] };
        assert.throws(() => parseApiKeys(JSON.stringify([{ ...key, watch: 'bob' }])), /key billing: watch/);
        const [parsed] = parseApiKeys(JSON.stringify([{ ...key, watch: ['bob', '*'] }]));
        assert.deepEqual(parsed?.principal.watch, { ids: new Set(['bob']), beginnings: [''] });
      });

      for (const wire of wires) {
        it(`ends watches that a newer token does not allow, over ${wire}`, async () => {
          const session = TestSession.open(wire, server, await adaToken());
          await session.ask({ case: 'hello', value: { userId: 'ada' } });
          const userIds = ['ada', 'bob', 'team-7:cyd'];
          assert.equal(await session.ask({ case: 'watch', value: { userIds } }), 'ack');
          const newer = await token('ada', { claims: { watch: ['team-7:*'] } });
          assert.equal(await session.ask({ case: 'authenticate', value: { token: newer } }), 'ack');
          await waitFor('the end of one watch', () => server.server.stats().hub.watches === 2);
          await endOf(session, ['bob'], 'UNAUTHORIZED', false);
          const again = await session.ask({ case: 'watch', value: { userIds: ['bob'] } });
          assert.equal(again, 'error UNAUTHORIZED');
          await session.ask({ case: 'goodbye', value: {} });
          await waitFor('no watch', () => server.server.stats().hub.watches === 0);
        });
      }
    } else {
      it('is told who asks, and asked once about each', () => {
        const asked = endpoint.asked
          .filter(({ viewer }) => viewer?.id === 'ada')
          .flatMap(({ users }) => users);
        assert.deepEqual(
          asked.toSorted(),
          [...allowed.slice(1), ...refused].toSorted(),
          'once each, not oneself',
        );
        assert.ok(endpoint.asked.some(({ viewer }) => viewer?.kind === 'backend' && viewer.id === 'eve'));
      });
    }
  });
}

/** The notice that some watches are over. */
async function endOf(
  session: TestSession,
  userIds: readonly string[],
  code: string,
  retryable: boolean,
): Promise<void> {
  const notice = () =>
    session.frames.find(({ requestId, frame }) => requestId === 0 && frame.case === 'error')?.frame;
  await waitFor('a notice', () => notice() !== undefined);
  const found = notice();
  assert.ok(found?.case === 'error');
  const { value } = found;
  assert.deepEqual([value.userIds, value.code, value.retryable], [userIds, code, retryable]);
}

describe('open watches under a policy over HTTP', () => {
  let keys: { file: string; remove: () => void };
  let endpoint: Endpoint;
  let server: TestServer;
  let ada: string;

  before(async () => {
    keys = apiKeysFile();
    endpoint = await Endpoint.start('allowed');
    endpoint.cacheControl = 'private, max-age=1';
    server = await startServer({
      ...secureEnvironment(keys.file),
      WATCH_POLICY: 'http',
      WATCH_POLICY_URL: endpoint.url,
      WATCH_POLICY_TIMEOUT: '200ms',
      WATCH_POLICY_STALE: '2s',
      USER_STATUS_TTL: '1m',
    });
    ada = await token('ada');
  });
  after(async () => {
    await server.stop();
    endpoint.stop();
    keys.remove();
  });

  /** A session over each wire, a gRPC stream, server-sent events, all watching bob and cyd. */
  async function openAll() {
    const sessions = wires.map((wire) => TestSession.open(wire, server, ada));
    for (const session of sessions) {
      await session.ask({ case: 'hello', value: { userId: 'ada' } });
      assert.equal(await session.ask({ case: 'watch', value: { userIds: ['bob', 'cyd'] } }), 'ack');
    }
    const events = new EventReader(`${server.httpUrl}/v1/events?watch=bob,cyd`, bearer(ada));
    const options = { headers: bearer(ada) };
    const stream = (async () => {
      const request = { watchUserIds: ['bob', 'cyd'] };
      for await (const _ of server.client.subscribeStatusUpdates(request, options));
    })();
    stream.catch(() => {});
    await waitFor('all watches', () => server.server.stats().hub.watches === 8);
    return { sessions, events, stream };
  }

  const light = (userId: string, status: UserStatus) =>
    server.client.setUserStatus({ userId, status }, { headers: bearer(apiKeys.admin) });
  const toldOf = (session: TestSession, userId: string) =>
    session.frames.flatMap(({ frame }) =>
      frame.case === 'events' ? frame.value.events.filter((event) => event.userId === userId) : [],
    ).length;

  it('end for whom they may see no longer, and go on for others', async () => {
    endpoint.yes = new Set(['ada>bob', 'ada>cyd']);
    const { sessions, events, stream } = await openAll();
    endpoint.yes.delete('ada>bob');
    for (const session of sessions) await endOf(session, ['bob'], 'UNAUTHORIZED', false);
    assert.equal(await grpcAnswer(stream), '7: you may not watch user bob');
    await waitFor('the end of the events', () => events.ended);
    assert.deepEqual(JSON.parse(events.events.at(-1)?.data ?? ''), {
      code: 'UNAUTHORIZED',
      message: 'you may not watch user bob',
    });
    await waitFor('what is left', () => server.server.stats().hub.watches === 2);
    await light('bob', UserStatus.ONLINE);
    await light('cyd', UserStatus.ONLINE);
    for (const session of sessions) {
      await waitFor('news of cyd', () => toldOf(session, 'cyd') === 2);
      assert.equal(toldOf(session, 'bob'), 1, 'the snapshot, and nothing since');
      await session.ask({ case: 'goodbye', value: {} });
    }
    await waitFor('no watch', () => server.server.stats().hub.watches === 0);
    await sleep(100);
    const asked = endpoint.asked.length;
    await sleep(1200);
    assert.equal(endpoint.asked.length, asked, 'nobody asks for watches that are closed');
  });

  it('outlive a policy that hangs for a while, then end, retryable, as closed as all else', async () => {
    endpoint.yes = new Set(['ada>bob', 'ada>cyd']);
    const { sessions, events, stream } = await openAll();
    endpoint.behaviour = () => {};
    const began = performance.now();
    const query = () => grpcAnswer(server.client.getUserStatus({ userId: 'bob' }, { headers: bearer(ada) }));
    const eve = server.client.getUserStatus({ userId: 'eve' }, { headers: bearer(ada) });
    assert.equal(await grpcAnswer(eve), '14: nobody can say now whether you may watch user eve');
    await sleep(900);
    assert.equal(await query(), 'OK', 'a permission that was heard before');
    for (const session of sessions) await endOf(session, ['bob', 'cyd'], 'REDIS_ERROR', true);
    assert.equal(await grpcAnswer(stream), '14: nobody can say now whether you may watch user bob');
    await waitFor('the end of the events', () => events.ended);
    assert.ok(performance.now() - began > 1000, 'not at once');
    assert.match(await query(), /^14/);
    assert.equal(server.server.stats().hub.watches, 0);
    endpoint.behaviour = undefined;
    await waitFor('the policy', async () => (await query()) === 'OK');
    for (const session of sessions) {
      assert.equal(await session.ask({ case: 'watch', value: { userIds: ['bob'] } }), 'ack');
      await session.ask({ case: 'goodbye', value: {} });
    }
  });

  it('ask no more often than once a second, whatever the policy says', async () => {
    endpoint.yes = new Set(['ada>bob']);
    endpoint.cacheControl = 'no-store';
    const session = TestSession.open('gRPC', server, ada);
    await session.ask({ case: 'hello', value: { userId: 'ada' } });
    assert.equal(await session.ask({ case: 'watch', value: { userIds: ['bob'] } }), 'ack');
    const asked = endpoint.asked.length;
    await waitFor('another question', () => endpoint.asked.length > asked);
    await sleep(700);
    assert.ok(endpoint.asked.length <= asked + 2, `${endpoint.asked.length - asked} questions`);
    await session.ask({ case: 'goodbye', value: {} });
  });
});

describe('a watch under a policy', () => {
  it('is judged no more once its subscription is closed', async () => {
    let close = unused as () => void;
    const subscription = {
      userIds: ['bob'],
      onClosed: (listener: () => void) => {
        close = listener;
      },
    } as unknown as Subscription;
    const presence = { subscribe: () => subscription, addWatched: async () => {} };
    let judged = 0;
    const policy = {
      require: async () => ({ no: [], unknown: [], freshUntilMs: 0, staleUntilMs: 0 }),
      judge: () => {
        judged++;
        return { no: [], unknown: [], freshUntilMs: 0, staleUntilMs: 0 };
      },
    };
    const guarded = new GuardedPresence({
      presence: presence as unknown as PresenceApi,
      principal: {
        kind: 'user',
        id: 'ada',
        userId: 'ada',
        scopes: new Set(),
        watch: watchNobody,
        expiresAtMs: Number.POSITIVE_INFINITY,
        credential: { kind: 'jwt', key: 'secret', tokenId: null, issuedAtMs: 0 },
      },
      toleranceMs: 0,
      open: new OpenCredentials((principal) => principal),
      policy: policy as unknown as WatchPolicy,
    });
    guarded.subscribe({ send: unused, revoked: unused });
    await guarded.addWatched(subscription, ['bob']);
    await waitFor('a judgement', () => judged === 1);
    close();
    await sleep(1200);
    assert.equal(judged, 1);
  });
});

function unused(): never {
  throw new Error('not called here');
}
