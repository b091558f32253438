/** How much a caller, an address and a whole process may, and that only what is too much is refused. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import { Code, ConnectError } from '@connectrpc/connect';
import { ErrorInfoSchema } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import { UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { readConfig } from '../../src/config.ts';
import { Limits } from '../../src/security/limits.ts';
import { TokenBuckets } from '../../src/security/token-buckets.ts';
import { errorCode, startServer, type TestServer, Watcher } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { apiKeys, apiKeysFile, secureEnvironment, token } from './support/credentials.ts';
import { TestSession } from './support/session.ts';

const bearer = (value: string) => ({ authorization: `Bearer ${value}` });

describe('token buckets', () => {
  it('give a burst, then the rate', () => {
    let nowMs = 0;
    const buckets = new TokenBuckets(10, 20, 1000, () => nowMs);
    const takeAll = () => {
      let taken = 0;
      while (buckets.take('ada', 1) === 0) taken++;
      return taken;
    };
    assert.equal(takeAll(), 20);
    assert.equal(buckets.take('ada', 1), 100);
    assert.equal(buckets.take('bob', 1), 0, 'keys do not share');
    nowMs += 1000;
    assert.equal(takeAll(), 10);
    nowMs += 3_600_000;
    assert.equal(takeAll(), 20);
  });

  it('give more than a burst once, and make it waited for', () => {
    let nowMs = 0;
    const buckets = new TokenBuckets(10, 20, 1000, () => nowMs);
    assert.equal(buckets.take('ada', 120), 0);
    assert.equal(buckets.take('ada', 1), 10_100);
    nowMs += 10_100;
    assert.equal(buckets.take('ada', 1), 0);
  });

  it('keep a bounded number of keys, and none without a limit', () => {
    const buckets = new TokenBuckets(10, 20, 100);
    for (let key = 0; key < 1000; key++) buckets.take(String(key), 1);
    assert.equal(buckets.size, 100);
    const unlimited = new TokenBuckets(0);
    for (let i = 0; i < 1000; i++) assert.equal(unlimited.take('ada', 1_000_000), 0);
    assert.equal(unlimited.size, 0);
  });
});

describe('limits', () => {
  it('bound the calls under way', () => {
    const limits = new Limits({ ...readConfig({}), maxCalls: 2 }, () => ({
      streams: 0,
      watchEdges: 0,
      memoryBytes: 0,
    }));
    const begin = () => {
      const may = limits.mayCall();
      if (may) limits.beginCall();
      return may;
    };
    assert.deepEqual([begin(), begin(), begin()], [true, true, false]);
    limits.endCall();
    assert.deepEqual([begin(), begin()], [true, false]);
    assert.equal(limits.refused['calls-under-way'], 2);
  });

  async function withServer(
    environment: Record<string, string>,
    run: (server: TestServer) => Promise<void>,
  ): Promise<void> {
    const keys = apiKeysFile();
    const auth = environment.AUTH === '' ? {} : secureEnvironment(keys.file);
    const server = await startServer({ USER_STATUS_TTL: '1h', ...auth, ...environment });
    try {
      await run(server);
    } finally {
      await server.stop();
      keys.remove();
    }
  }

  /** How many of `count` calls, one after the other, were answered before the first refusal. */
  async function answered(count: number, call: () => Promise<unknown>): Promise<number> {
    for (let done = 0; done < count; done++) {
      try {
        await call();
      } catch (error) {
        assert.equal(errorCode(error), 'RATE_LIMITED');
        return done;
      }
    }
    return count;
  }

  async function metric(server: TestServer, limit: string): Promise<number> {
    const text = await (await fetch(`${server.httpUrl}/metrics`, { headers: bearer(apiKeys.admin) })).text();
    return Number(
      new RegExp(`^pilotlight_refusals_total\\{limit="${limit}"\\} (\\d+)$`, 'm').exec(text)?.[1],
    );
  }

  it('hold each user to a rate of calls, on all transports together, and nobody else', () =>
    withServer({ RATE_LIMIT_CALLS: '5' }, async (server) => {
      const [ada, bob] = [bearer(await token('ada')), bearer(await token('bob'))];
      const ask = (headers: Record<string, string>) => () =>
        server.client.getUserStatus({ userId: 'x' }, { headers });
      const count = await answered(200, ask(ada));
      assert.ok(count >= 10 && count < 200, `${count} calls were answered`);
      // On a busy machine a token may have come between two calls.
      await waitFor('a refusal over gRPC', async () => {
        const error = await ask(ada)().then(
          () => undefined,
          (reason: unknown) => ConnectError.from(reason),
        );
        if (!error) return false;
        assert.equal(error.code, Code.ResourceExhausted);
        return Number(error.findDetails(ErrorInfoSchema)[0]?.metadata.retry_after_ms) > 0;
      });
      await waitFor('a refusal over HTTP', async () => {
        const response = await fetch(`${server.httpUrl}/v1/users/x/status`, { headers: ada });
        return response.status === 429 && Number(response.headers.get('retry-after')) >= 1;
      });
      await ask(bob)();
      await ask(bearer(apiKeys.read))();
      assert.ok((await metric(server, 'calls')) >= 3);
      await waitFor('the next token', async () => (await answered(1, ask(ada))) === 1);
    }));

  it('hold each user to a rate of updates, in calls and sessions, and change nothing beyond it', () =>
    withServer({ RATE_LIMIT_UPDATES: '1', RATE_LIMIT_BACKEND_FACTOR: '0' }, async (server) => {
      const ada = bearer(await token('ada'));
      await answered(50, () => server.client.sendHeartbeat({ userId: 'ada' }, { headers: ada }));
      const off = () =>
        server.client.setUserStatus({ userId: 'ada', status: UserStatus.OFFLINE }, { headers: ada });
      await assert.rejects(off(), (error) => errorCode(error) === 'RATE_LIMITED');
      const admin = { headers: bearer(apiKeys.admin) };
      const { data } = await server.client.getUserStatus({ userId: 'ada' }, admin);
      assert.equal(data?.status, UserStatus.ONLINE);
      const all = await answered(100, () => server.client.sendHeartbeat({ userId: 'bob' }, admin));
      assert.equal(all, 100, 'backends have no limit here');

      const session = TestSession.open('WebSocket', server, await token('carol'));
      await session.ask({ case: 'hello', value: { userId: 'carol' } });
      const answers = new Set<string>();
      for (let i = 0; i < 20; i++) {
        answers.add(await session.ask({ case: 'setStatus', value: { status: UserStatus.ONLINE } }));
      }
      assert.deepEqual([...answers], ['ack', 'error RATE_LIMITED'], 'the session goes on');
      for (const frame of ['setStatus', 'heartbeat'] as const) {
        const changes = new Set<string>();
        for (let i = 0; i < 10; i++) {
          changes.add(await session.ask({ case: frame, value: { activity: 1 + (i % 2) } }));
        }
        assert.ok(changes.has('error RATE_LIMITED'), `changes of activity by ${frame} are updates`);
      }
      session.drop();
    }));

  it('hold each user to a rate of watch edits, counted in users', () =>
    withServer({ RATE_LIMIT_WATCH_EDITS: '10' }, async (server) => {
      const session = TestSession.open('gRPC', server, await token('ada'));
      await session.ask({ case: 'hello', value: { userId: 'ada' } });
      const watch = (from: number, users: number) =>
        session.ask({
          case: 'watch',
          value: { userIds: Array.from({ length: users }, (_, index) => `u${from + index}`) },
        });
      assert.equal(await watch(0, 500), 'ack', 'a whole list at once');
      assert.equal(await watch(500, 1), 'error RATE_LIMITED');
      assert.equal(server.server.stats().hub.watches, 500);
      session.drop();
    }));

  it('hold each user to a rate of users asked for, by bulk, single call and session together', () =>
    withServer({ RATE_LIMIT_READS: '10' }, async (server) => {
      const value = await token('ada');
      const userIds = Array.from({ length: 500 }, (_, index) => `u${index}`);
      const many = await server.client.getMultipleUserStatus({ userIds }, { headers: bearer(value) });
      assert.equal(many.data.length, 500, 'a whole list at once');
      for (const again of [
        () => server.client.getMultipleUserStatus({ userIds: ['bob', 'bob'] }, { headers: bearer(value) }),
        () => server.client.getUserStatus({ userId: 'bob' }, { headers: bearer(value) }),
      ]) {
        await assert.rejects(again, (error) => errorCode(error) === 'RATE_LIMITED');
      }
      const session = TestSession.open('WebSocket', server, value);
      await session.ask({ case: 'hello', value: { userId: 'ada' } });
      const query = await session.ask({ case: 'query', value: { userIds: ['bob'] } });
      assert.equal(query, 'error RATE_LIMITED');
      session.drop();
    }));

  it('refuse by its head a call that is too much already, and decode nothing of it', () =>
    withServer({ RATE_LIMIT_READS: '10' }, async (server) => {
      const headers = { ...bearer(await token('ada')), 'content-type': 'application/json' };
      const ask = (body: string) =>
        fetch(`${server.httpUrl}/v1/users/status:batchGet`, { method: 'POST', headers, body });
      const userIds = Array.from({ length: 500 }, (_, index) => `u${index}`);
      assert.equal((await ask(JSON.stringify({ userIds }))).status, 200);
      assert.equal((await ask('no JSON')).status, 429);
    }));

  it('hold all sessions of a user to a rate of bytes, and read on when it allows', () =>
    withServer({ MAX_FRAME_BYTES: '65536' }, async (server) => {
      const [bytesPerSecond, frameBytes] = [4 * 65_536, 60_000];
      const value = await token('ada');
      const beganMs = performance.now();
      const wires = ['WebSocket', 'gRPC'] as const;
      let done = 0;
      const sessions = wires.map((wire) => TestSession.open(wire, server, value));
      for (const session of sessions) {
        await session.ask({ case: 'hello', value: { userId: 'ada' } });
        const userIds = Array.from({ length: frameBytes / 100 }, (_, index) => `${index}`.padEnd(98, 'x'));
        for (let i = 0; i < 15; i++) {
          const answer = session.ask({ case: 'unwatch', value: { userIds } });
          void answer.then((kind) => {
            if (kind === 'ack') done++;
          });
        }
      }
      // Each session may have one frame under way when the other has used up what there was.
      const allowed = () =>
        (1 + (performance.now() - beganMs) / 1000) * (bytesPerSecond / 58_000) + 2 * wires.length;
      const other = TestSession.open('WebSocket', server, await token('bob'));
      await other.ask({ case: 'hello', value: { userId: 'bob' } });
      for (let i = 0; i < 10; i++) {
        assert.equal(await other.ask({ case: 'query', value: { userIds: ['ada'] } }), 'states');
        assert.ok(done <= allowed(), `${done} frames of ${allowed()} were read`);
      }
      const before = done;
      assert.ok(before < 30, 'not all');
      await waitFor('more to be read', () => done > before + 3);
      assert.ok(done <= allowed(), `${done} frames of ${allowed()} were read`);
      assert.ok((await metric(server, 'bytes')) > 0);
      for (const session of [...sessions, other]) session.drop();
    }));

  it('hold addresses to rates without authentication too', () =>
    withServer({ AUTH: '', RATE_LIMIT_ADDRESS_UPDATES: '2' }, async (server) => {
      const count = await answered(100, () => server.client.sendHeartbeat({ userId: 'ada' }));
      assert.ok(count >= 4 && count < 100, `${count} updates were done`);
      await server.client.getUserStatus({ userId: 'ada' });
    }));

  it('make bad tokens of an address wait, but no valid one of it', () =>
    withServer({ RATE_LIMIT_AUTH_FAILURES: '5' }, async (server) => {
      const url = `${server.httpUrl}/v1/users/x/status`;
      const statusOf = async (value: string) => (await fetch(url, { headers: bearer(value) })).status;
      const known = await token('ada');
      assert.equal(await statusOf(known), 200);
      const statuses: number[] = [];
      for (let i = 0; i < 8; i++) statuses.push(await statusOf(`guess-${i}`));
      assert.deepEqual(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
      assert.equal(await statusOf(await token('bob')), 200, 'not known before');
      assert.equal(await statusOf(known), 200);
      const session = TestSession.open('WebSocket', server, 'guess');
      assert.equal(await session.ask({ case: 'hello', value: { userId: 'bob' } }), 'error RATE_LIMITED');
      assert.equal(await session.closes(), 4006);
    }));

  it('close connections beyond a rate, and leave those there are alone', () =>
    withServer({ RATE_LIMIT_ADDRESS_CONNECTIONS: '5' }, async (server) => {
      const admin = { headers: bearer(apiKeys.admin) };
      await server.client.getUserStatus({ userId: 'x' }, admin);
      const sockets: Socket[] = [];
      let closed = 0;
      for (let i = 0; i < 60; i++) {
        const socket = connect(server.grpcPort, '127.0.0.1');
        socket.on('error', () => {});
        socket.once('close', () => closed++);
        sockets.push(socket);
      }
      await waitFor('most to be closed', () => closed >= 30);
      await server.client.getUserStatus({ userId: 'x' }, admin);
      for (const socket of sockets) {
        socket.destroy();
        if (!socket.closed) await once(socket, 'close');
      }
      await waitFor('a connection to be let in again', () =>
        metric(server, 'connections').then(
          (refused) => refused >= 30,
          () => false,
        ),
      );
    }));

  it('end the oldest subscription of a user who opens more than they may, on every interface', () =>
    withServer({ MAX_CONNECTIONS_PER_USER: '2' }, async (server) => {
      const headers = bearer(await token('ada'));
      const openGrpc = () =>
        server.client.subscribeStatusUpdates({ userId: 'ada', watchUserIds: ['bob'] }, { headers });
      const grpc = openGrpc()[Symbol.asyncIterator]();
      await grpc.next();
      const openEvents = async () => {
        const url = `${server.httpUrl}/v1/events?watch=bob&user_id=ada`;
        const response = await fetch(url, { headers });
        assert.equal(response.status, 200);
        return response;
      };
      const events = await openEvents();
      const { connections } = await server.client.getConnections({ userId: 'ada' }, { headers });
      assert.equal(connections.length, 2);
      const third = await openEvents();
      await assert.rejects(grpc.next(), (error) => errorCode(error) === 'RATE_LIMITED');
      const fourth = await openEvents();
      assert.match(await events.text(), /^retry: 5000\nevent: end\ndata: \{"code":"RATE_LIMITED"/m);
      const left = await server.client.getConnections({ userId: 'ada' }, { headers });
      assert.equal(left.connections.length, 2, 'the newest');
      await Promise.all([third.body?.cancel(), fourth.body?.cancel()]);
      await waitFor('the last to be closed', () => server.server.stats().hub.subscriptions === 0);
    }));

  it("bound what one user of a server opens that is nobody's connection, until it is closed", () =>
    withServer({ MAX_CONNECTIONS_PER_USER: '2' }, async (server) => {
      const ada = await token('ada');
      const client = {
        ...server.client,
        subscribeStatusUpdates: (request: { watchUserIds?: string[] }, more?: { signal?: AbortSignal }) =>
          server.client.subscribeStatusUpdates(request, { ...more, headers: bearer(ada) }),
      } as typeof server.client;
      const watchers = [new Watcher(client, ['bob']), new Watcher(client, ['bob'])];
      for (const watcher of watchers) await watcher.sees('bob', '[OFFLINE]');
      assert.equal(errorCode(await new Watcher(client, ['bob']).ended), 'RATE_LIMITED');
      const url = `${server.httpUrl}/v1/events?watch=bob`;
      const refused = await fetch(url, { headers: bearer(ada) });
      assert.equal(refused.status, 429);
      assert.equal(refused.headers.get('retry-after'), '5');
      assert.equal(server.server.stats().hub.subscriptions, 2, 'what was refused holds nothing');
      const others = await Promise.all(
        [await token('bob'), apiKeys.read].map((it) => fetch(url, { headers: bearer(it) })),
      );
      assert.deepEqual(
        others.map(({ status }) => status),
        [200, 200],
      );

      const observe = async () => {
        const session = TestSession.open('WebSocket', server, ada);
        return { session, answer: await session.ask({ case: 'hello', value: {} }) };
      };
      const [first, second] = [await observe(), await observe()];
      assert.deepEqual([first.answer, second.answer], ['welcome', 'welcome'], 'each kind has its own bound');
      assert.equal((await observe()).answer, 'error RATE_LIMITED');
      assert.equal(await metric(server, 'open-connections'), 3);

      first.session.drop();
      await watchers[0]?.stop();
      await waitFor('the place of the session', async () => {
        const { session, answer } = await observe();
        session.drop();
        return answer === 'welcome';
      });
      await waitFor('the place of the subscription', async () => {
        const response = await fetch(url, { headers: bearer(ada) });
        await response.body?.cancel();
        return response.status === 200;
      });
      second.session.drop();
      await watchers[1]?.stop();
      for (const { body } of others) await body?.cancel();
    }));

  it('refuse newcomers when there is no room, and serve those inside', () =>
    withServer({ MAX_STREAMS: '2', MAX_WATCH_EDGES: '4' }, async (server) => {
      const options = { headers: bearer(apiKeys.admin) };
      const client = {
        ...server.client,
        subscribeStatusUpdates: (request: { watchUserIds?: string[] }, more?: { signal?: AbortSignal }) =>
          server.client.subscribeStatusUpdates(request, { ...more, ...options }),
      } as typeof server.client;
      const first = new Watcher(client, ['ada', 'bob']);
      await first.sees('ada', '[OFFLINE]');
      const greedy = new Watcher(client, ['a', 'b', 'c']);
      assert.equal(errorCode(await greedy.ended), 'RATE_LIMITED', 'too many edges');
      const second = new Watcher(client, ['ada']);
      await second.sees('ada', '[OFFLINE]');
      const third = new Watcher(client, ['ada']);
      assert.equal(errorCode(await third.ended), 'RATE_LIMITED', 'too many streams');
      await server.client.setUserStatus({ userId: 'ada', status: UserStatus.ONLINE }, options);
      await first.sees('ada', '[OFFLINE] ONLINE');
      await second.stop();
      await waitFor('the place to be free', () => server.server.stats().hub.subscriptions === 1);
      const fourth = new Watcher(client, ['ada']);
      await fourth.sees('ada', '[ONLINE]');
      await Promise.all([first.stop(), fourth.stop()]);
      assert.equal(await metric(server, 'streams'), 1);
      assert.equal(await metric(server, 'watch-edges'), 1);
    }));

  it('refuse newcomers when memory is short, and no call of those inside', () =>
    withServer({ MAX_MEMORY: '1' }, async (server) => {
      const session = TestSession.open('WebSocket', server, apiKeys.admin);
      assert.equal(await session.ask({ case: 'hello', value: { userId: 'ada' } }), 'error RATE_LIMITED');
      const options = { headers: bearer(apiKeys.admin) };
      assert.equal((await server.client.sendHeartbeat({ userId: 'ada' }, options)).success, true);
      assert.ok((await metric(server, 'memory')) >= 1);
    }));
});
