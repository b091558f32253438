/** USER_DIRECTORY: who is not there is not found, on every interface; and what happens while nobody says who is. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectError } from '@connectrpc/connect';
import { PresenceService, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { readConfig } from '../../src/config.ts';
import { errorOf, request } from '../support/http.ts';
import {
  errorCode,
  type PresenceClient,
  startServer,
  type TestServer,
  Watcher,
} from '../support/pilotlight.ts';
import { redisCommand } from '../support/redis-command.ts';
import { RedisServer } from '../support/redis-server.ts';
import { waitFor } from '../support/wait.ts';
import { apiKeysFile, secureEnvironment, token } from './support/credentials.ts';
import { Endpoint } from './support/endpoint.ts';
import { TestSession } from './support/session.ts';

const status = UserStatus.ONLINE;
const notFound = errorOf('USER_NOT_FOUND', 'User with ID nobody not found');

/** Every call about one user. */
const calls: Readonly<Record<string, (client: PresenceClient, userId: string) => Promise<unknown>>> = {
  setUserStatus: (client, userId) => client.setUserStatus({ userId, status }),
  getUserStatus: (client, userId) => client.getUserStatus({ userId }),
  sendHeartbeat: (client, userId) => client.sendHeartbeat({ userId }),
  getConnections: (client, userId) => client.getConnections({ userId }),
  getPrivacy: (client, userId) => client.getPrivacy({ userId }),
  setPrivacy: (client, userId) => client.setPrivacy({ userId, invisible: true }),
  'subscribeStatusUpdates of': (client, userId) => new Watcher(client, ['ada', userId]).ended.then(fail),
  'subscribeStatusUpdates by': (client, userId) => new Watcher(client, ['ada'], userId).ended.then(fail),
};

function fail(error: ConnectError | null): void {
  if (error) throw error;
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'OK';
  } catch (error) {
    return `${errorCode(error)}: ${ConnectError.from(error).rawMessage}`;
  }
}

interface Directory {
  readonly environment: Record<string, string>;
  add(userId: string): Promise<void>;
  stop(): Promise<void>;
}

async function inRedis(): Promise<Directory> {
  const redis = await RedisServer.start();
  const add = async (userId: string) => void (await redisCommand(redis.port, 'SADD', 'app:members', userId));
  return {
    environment: {
      REDIS_URL: redis.url,
      REDIS_PREFIX: 'app:',
      USER_DIRECTORY: 'redis',
      USER_DIRECTORY_KEY: 'members',
    },
    add,
    stop: () => redis.stop(),
  };
}

async function overHttp(): Promise<Directory> {
  const endpoint = await Endpoint.start('known');
  return {
    environment: { USER_DIRECTORY: 'http', USER_DIRECTORY_URL: endpoint.url },
    add: async (userId) => void endpoint.yes.add(userId),
    stop: async () => endpoint.stop(),
  };
}

for (const [kind, make] of [
  ['redis', inRedis],
  ['http', overHttp],
] as const) {
  describe(`a user directory: ${kind}`, () => {
    let directory: Directory;
    let server: TestServer;

    before(async () => {
      directory = await make();
      await directory.add('ada');
      await directory.add('bob');
      server = await startServer({
        ...directory.environment,
        USER_DIRECTORY_CACHE: '1s',
        USER_STATUS_TTL: '1m',
      });
    });
    after(async () => {
      await server.stop();
      await directory.stop();
    });

    it('finds nobody who is not in it, by any rpc', async () => {
      for (const [name, call] of Object.entries(calls)) {
        const code = await codeOf(call(server.client, 'nobody'));
        assert.equal(code, 'USER_NOT_FOUND: User with ID nobody not found', name);
      }
      assert.equal(await codeOf(server.client.setUserStatus({ userId: 'ada', status })), 'OK');
      assert.equal(await codeOf(server.client.sendHeartbeat({ userId: 'ada' })), 'OK');
      assert.equal(server.server.stats().connections.held, 0);
      assert.equal(server.server.stats().hub.subscriptions, 0);
    });

    it('is tested with every rpc of the contract', () => {
      // A bulk query leaves out, frames have a test of their own, and users who are gone can be
      // deleted, and their tokens revoked.
      const others = ['getMultipleUserStatus', 'connect', 'revokeTokens', 'deleteUser'];
      const known = [...Object.keys(calls).map((name) => name.split(' ')[0] as string), ...others];
      const methods = PresenceService.methods.map(({ localName }) => localName);
      assert.deepEqual([...new Set(known)].toSorted(), methods.toSorted());
    });

    it('leaves out of a bulk query who is not in it', async () => {
      const { data } = await server.client.getMultipleUserStatus({
        userIds: ['bob', 'nobody', 'ada', 'bob'],
      });
      assert.deepEqual(
        data.map(({ userId }) => userId),
        ['bob', 'ada', 'bob'],
      );
      assert.deepEqual((await server.client.getMultipleUserStatus({ userIds: ['nobody'] })).data, []);
    });

    it("answers HTTP with 404 and the spec's body", async () => {
      const bodies: Readonly<Record<string, unknown>> = {
        'put /v1/users/{id}/status': { status: 'ONLINE' },
        'put /v1/users/{id}/privacy': { invisible: true },
      };
      const { paths } = (await request(`${server.httpUrl}/openapi.json`)).body as {
        paths: Record<string, Record<string, unknown>>;
      };
      const routes = Object.entries(paths).flatMap(([path, methods]) =>
        path.includes('{id}/') ? Object.keys(methods).map((method) => [method, path] as const) : [],
      );
      assert.ok(routes.length >= 6);
      const answers = routes.map(([method, path]) =>
        request(
          `${server.httpUrl}${path.replace('{id}', 'nobody')}`,
          method.toUpperCase(),
          bodies[`${method} ${path}`],
        ),
      );
      for (const answer of [
        ...(await Promise.all(answers)),
        await request(`${server.httpUrl}/v1/events?watch=ada,nobody`),
        await request(`${server.httpUrl}/v1/events?watch=ada&user_id=nobody`),
      ]) {
        assert.equal(answer.status, 404);
        assert.deepEqual(answer.body, notFound);
      }
      assert.equal((await request(`${server.httpUrl}/v1/users/ada/status`)).status, 200);
      const malformed = await request(`${server.httpUrl}/v1/users/${'x'.repeat(129)}/status`);
      assert.equal(malformed.status, 400, 'nobody is asked about what is no id');
    });

    for (const wire of ['gRPC', 'WebSocket'] as const) {
      it(`refuses frames over ${wire} that name somebody else`, async () => {
        const stranger = TestSession.open(wire, server, null);
        assert.equal(
          await stranger.ask({ case: 'hello', value: { userId: 'nobody' } }),
          'error USER_NOT_FOUND',
        );
        assert.equal(await stranger.closes(), 4504);
        const session = TestSession.open(wire, server, null);
        assert.equal(await session.ask({ case: 'hello', value: { userId: 'ada' } }), 'welcome');
        const users = { userIds: ['bob', 'nobody', 'noone'] };
        assert.equal(await session.ask({ case: 'watch', value: users }), 'error USER_NOT_FOUND');
        const refused = session.frames.at(-1)?.frame;
        assert.ok(refused?.case === 'error');
        assert.deepEqual(refused.value.userIds, ['nobody', 'noone']);
        assert.equal(await session.ask({ case: 'query', value: users }), 'states');
        const states = session.frames.at(-1)?.frame;
        assert.ok(states?.case === 'states');
        assert.deepEqual(
          states.value.states.map(({ userId }) => userId),
          ['bob'],
        );
        assert.equal(await session.ask({ case: 'setCustomStatus', value: { text: 'here' } }), 'ack');
        assert.equal(await session.ask({ case: 'watch', value: { userIds: ['bob'] } }), 'ack');
        await session.ask({ case: 'goodbye', value: {} });
        await waitFor('the session to be gone', () => server.server.stats().connections.held === 0);
      });
    }

    it('lets in who has signed up, a moment later', async () => {
      assert.match(await codeOf(server.client.getUserStatus({ userId: 'cyd' })), /USER_NOT_FOUND/);
      await directory.add('cyd');
      await waitFor(
        'cyd',
        async () => (await codeOf(server.client.getUserStatus({ userId: 'cyd' }))) === 'OK',
      );
    });
  });
}

describe('a user directory that fails', () => {
  it('in Redis, without its set, finds nobody missing', async () => {
    const redis = await RedisServer.start();
    const server = await startServer({
      REDIS_URL: redis.url,
      USER_DIRECTORY: 'redis',
      USER_STATUS_TTL: '1m',
    });
    try {
      const get = (userId: string) => codeOf(server.client.getUserStatus({ userId }));
      await waitFor('the engine', async () => /the user directory/.test(await get('ada')));
      assert.equal(await get('ada'), 'REDIS_ERROR: the user directory does not answer');
      const answer = await fetch(`${server.httpUrl}/v1/users/ada/status`);
      assert.deepEqual([answer.status, answer.headers.get('retry-after')], [503, '1']);
      await redisCommand(redis.port, 'SET', 'user:directory', 'no set');
      assert.equal(await get('ada'), 'REDIS_ERROR: the user directory does not answer');
      await redisCommand(redis.port, 'DEL', 'user:directory');
      await redisCommand(redis.port, 'SADD', 'user:directory', 'ada');
      assert.equal(await get('ada'), 'OK');
      assert.match(await get('bob'), /USER_NOT_FOUND/);
    } finally {
      await server.stop();
      await redis.stop();
    }
  });

  it('over HTTP is believed for a while of whom it knew, refuses others without saying that they are not there, and recovers', async () => {
    const endpoint = await Endpoint.start('known');
    endpoint.yes = new Set(['ada', 'bob']);
    endpoint.cacheControl = 'max-age=1';
    const server = await startServer({
      USER_DIRECTORY: 'http',
      USER_DIRECTORY_URL: endpoint.url,
      USER_DIRECTORY_TIMEOUT: '100ms',
      USER_DIRECTORY_STALE: '2s',
      USER_STATUS_TTL: '1m',
    });
    const heartbeat = (userId: string) => codeOf(server.client.sendHeartbeat({ userId }));
    try {
      assert.equal(await heartbeat('ada'), 'OK');
      // It hangs.
      endpoint.behaviour = () => {};
      await sleep(1100);
      assert.equal(await heartbeat('ada'), 'OK', 'known before');
      assert.equal(await heartbeat('bob'), 'REDIS_ERROR: the user directory does not answer');
      const answer = await request(`${server.httpUrl}/v1/users/bob/heartbeat`, 'POST');
      assert.equal(answer.status, 503);
      const bulk = server.client.getMultipleUserStatus({ userIds: ['ada', 'bob'] });
      assert.match(await codeOf(bulk), /^REDIS_ERROR/);
      await sleep(2000);
      assert.match(await heartbeat('ada'), /^REDIS_ERROR/, 'too long ago');
      const session = TestSession.open('WebSocket', server, null);
      assert.equal(await session.ask({ case: 'hello', value: { userId: 'ada' } }), 'error REDIS_ERROR');
      assert.equal(await session.closes(), 4004);
      endpoint.behaviour = undefined;
      assert.equal(await heartbeat('ada'), 'OK');
      assert.equal(await heartbeat('bob'), 'OK');
    } finally {
      await server.stop();
      endpoint.stop();
    }
  });
});

describe('a user directory with authentication', () => {
  it('is not asked by who may not ask', async () => {
    const keys = apiKeysFile();
    const endpoint = await Endpoint.start('known');
    endpoint.yes.add('ada');
    const server = await startServer({
      ...secureEnvironment(keys.file),
      USER_DIRECTORY: 'http',
      USER_DIRECTORY_URL: endpoint.url,
    });
    try {
      const headers = { authorization: `Bearer ${await token('ada')}` };
      for (const userId of ['bob', 'nobody']) {
        const refused = server.client.setUserStatus({ userId, status }, { headers });
        assert.match(await codeOf(refused), /^UNAUTHORIZED/);
        const session = TestSession.open('gRPC', server, await token('ada'));
        assert.equal(await session.ask({ case: 'hello', value: { userId } }), 'error UNAUTHORIZED');
      }
      assert.deepEqual(endpoint.asked, []);
      const deleted = { authorization: `Bearer ${await token('nobody')}` };
      const call = server.client.sendHeartbeat({ userId: 'nobody' }, { headers: deleted });
      assert.match(await codeOf(call), /^USER_NOT_FOUND/);
      const session = TestSession.open('WebSocket', server, await token('nobody'));
      const hello = await session.ask({ case: 'hello', value: { userId: 'nobody' } });
      assert.equal(hello, 'error USER_NOT_FOUND');
      assert.equal(await session.closes(), 4504);
    } finally {
      await server.stop();
      endpoint.stop();
      keys.remove();
    }
  });
});

describe('options of directory and policy', () => {
  const url = 'https://app.test/ask';
  it('are refused where nobody could be asked, or nobody would be', () => {
    for (const environment of [
      { USER_DIRECTORY: 'ldap' },
      { USER_DIRECTORY: 'redis' },
      { USER_DIRECTORY: 'http' },
      { USER_DIRECTORY_URL: url },
      { USER_DIRECTORY: 'http', USER_DIRECTORY_URL: 'http://app.test/ask' },
      { USER_DIRECTORY_KEY: 'two words' },
      { WATCH_POLICY: 'claims' },
      { WATCH_POLICY: 'http', WATCH_POLICY_URL: url },
      { AUTH: 'jwt', AUTH_JWT_SECRET: 'x'.repeat(32), WATCH_POLICY: 'http' },
      { AUTH: 'jwt', AUTH_JWT_SECRET: 'x'.repeat(32), WATCH_POLICY_URL: url },
    ]) {
      assert.throws(() => readConfig(environment as Record<string, string>), JSON.stringify(environment));
    }
    readConfig({ USER_DIRECTORY: 'http', USER_DIRECTORY_URL: url });
    const secret = 'x'.repeat(32);
    readConfig({ AUTH: 'jwt', AUTH_JWT_SECRET: secret, WATCH_POLICY: 'http', WATCH_POLICY_URL: url });
  });

  it('never show a password', () => {
    const environment = { USER_DIRECTORY: 'http', USER_DIRECTORY_URL: 'http://u:hidden@app.test/' };
    assert.throws(
      () => readConfig(environment),
      (error: Error) => /USER_DIRECTORY_URL/.test(error.message) && !error.message.includes('hidden'),
    );
  });
});
