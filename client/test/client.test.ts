/** The client against a real server, over each way to connect. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Activity as ProtoActivity, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { apiKeysFile, secureEnvironment, token } from '../../test/security/support/credentials.ts';
import { startServer, type TestServer } from '../../test/support/pilotlight.ts';
import { TcpProxy } from '../../test/support/tcp-proxy.ts';
import { waitFor } from '../../test/support/wait.ts';
import { grpcLink } from '../src/grpc.ts';
import {
  type Connect,
  PresenceClient,
  type PresenceClientOptions,
  PresenceError,
  webSocketLink,
} from '../src/index.ts';

const ways: Readonly<Record<string, { link(port: number): Connect; port(server: TestServer): number }>> = {
  WebSocket: {
    link: (port) => webSocketLink(`http://127.0.0.1:${port}`),
    port: (server) => Number(new URL(server.httpUrl).port),
  },
  gRPC: {
    link: (port) => grpcLink(`http://127.0.0.1:${port}`),
    port: (server) => server.grpcPort,
  },
};
const { ONLINE, OFFLINE } = UserStatus;
const environment = {
  HEARTBEAT_INTERVAL: '200ms',
  PING_INTERVAL: '200ms',
  PONG_TIMEOUT: '2s',
  DISCONNECT_GRACE: '3s',
  USER_STATUS_TTL: '5s',
  IDLE_AFTER: '500ms',
  DRAIN_TIMEOUT: '500ms',
};
let nextUser = 0;
const anyUser = (): string => `client user ${nextUser++}`;

for (const [name, way] of Object.entries(ways)) {
  describe(`client over ${name}`, () => {
    let server: TestServer;
    let proxy: TcpProxy;
    const clients: PresenceClient[] = [];
    before(async () => {
      server = await startServer(environment);
      proxy = await TcpProxy.start(way.port(server));
    });
    after(async () => {
      for (const client of clients) client.close();
      proxy.stop();
      await server.stop();
    });

    async function newClient(options: PresenceClientOptions = {}): Promise<PresenceClient> {
      const connect = way.link(proxy.port);
      const client = new PresenceClient({ connect, backoff: { baseMs: 50, maxMs: 400 }, ...options });
      clients.push(client);
      await client.open().ready();
      return client;
    }
    const statusOf = async (userId: string) => (await server.client.getUserStatus({ userId })).data;

    it('keeps its user ONLINE until it closes', async () => {
      const userId = anyUser();
      const client = await newClient({ userId, device: 'test' });
      assert.equal(client.state, 'open');
      assert.equal((await statusOf(userId))?.status, ONLINE);
      await sleep(2 * server.config.ttlMs);
      assert.equal((await statusOf(userId))?.status, ONLINE);
      // By hand: nobody says otherwise, so the user is not taken for IDLE.
      assert.equal((await statusOf(userId))?.activity, ProtoActivity.ACTIVE);
      // On a machine that stood still for half a TTL the renewal is on its way.
      await waitFor('the connection', async () => {
        const { connections } = await server.client.getConnections({ userId });
        return connections[0]?.device === 'test';
      });
      client.close();
      await waitFor('OFFLINE', async () => (await statusOf(userId))?.status === OFFLINE);
      await assert.rejects(client.ready(), { name: 'PresenceError', code: 'CLOSED' });
    });

    it('knows watched users, and tells of changes', async () => {
      const [ada, bob] = [anyUser(), anyUser()];
      const client = await newClient();
      const heard: string[] = [];
      const stop = client.subscribe([ada, bob], ({ userId, state, previous }) =>
        heard.push(`${userId === ada ? 'ada' : 'bob'} ${previous?.status} ${state.status}`),
      );
      await waitFor('both to be known', () => heard.length === 2);
      assert.deepEqual(heard.sort(), ['ada undefined OFFLINE', 'bob undefined OFFLINE']);
      await server.client.setUserStatus({ userId: ada, status: ONLINE });
      await waitFor('the change', () => client.get(ada)?.status === 'ONLINE');
      assert.equal(heard[2], 'ada OFFLINE ONLINE');
      stop();
      assert.equal(client.get(ada), undefined);
      await server.client.setUserStatus({ userId: ada, status: OFFLINE });
      await waitFor('nobody to be watched', () => server.server.stats().hub.watches === 0);
      assert.equal(heard.length, 3);
    });

    it('gives changes one after another, the latest of each user to a slow reader', async () => {
      const userId = anyUser();
      const client = await newClient();
      const changes = client.changes([userId]);
      const first = await changes.next();
      assert.equal(first.value?.state.status, 'OFFLINE');
      await server.client.setUserStatus({ userId, status: ONLINE });
      await server.client.setUserStatus({ userId, status: ONLINE, activity: ProtoActivity.AWAY });
      await waitFor('the last change', () => client.get(userId)?.activity === 'AWAY');
      const second = await changes.next();
      assert.equal(second.value?.state.activity, 'AWAY');
      await changes.return();
      assert.equal(client.get(userId), undefined);
    });

    it('asks, sets and says', async () => {
      const userId = anyUser();
      const client = await newClient({ userId });
      const [own] = await client.query([userId]);
      assert.equal(own?.status, 'ONLINE');
      assert.equal((await client.setActivity('DO_NOT_DISTURB'))?.activity, 'DO_NOT_DISTURB');
      const said = await client.setCustomStatus('on a boat', { emoji: '⛵', expiresInMs: 60_000 });
      assert.equal(said?.customStatus?.text, 'on a boat');
      assert.ok((said?.customStatus?.expiresAt ?? 0) > Date.now());
      assert.equal((await client.setStatus('OFFLINE'))?.status, 'OFFLINE');
      await assert.rejects(client.query(['']), (error) => {
        assert.ok(error instanceof PresenceError);
        assert.equal(error.code, 'INVALID_ARGUMENT');
        assert.equal(error.retryable, false);
        return true;
      });
    });

    it('hides and appears, where it has the address of HTTP', async () => {
      const userId = anyUser();
      const client = await newClient({ userId, url: server.httpUrl });
      const looker = await newClient();
      looker.subscribe([userId], () => {});
      await waitFor('the user to be seen', () => looker.get(userId)?.status === 'ONLINE');
      const hidden = await client.setPrivacy({ invisible: true, lastSeen: 'NOBODY', addBlocked: ['a/b'] });
      assert.deepEqual(hidden, { invisible: true, lastSeen: 'NOBODY', blockedUserIds: ['a/b'] });
      await waitFor('the user to be hidden', () => looker.get(userId)?.status === 'OFFLINE');
      assert.equal(looker.get(userId)?.lastSeen, 0);
      assert.deepEqual(await client.getPrivacy(), hidden);
      await client.setPrivacy({ invisible: false });
      await waitFor('the user to appear', () => looker.get(userId)?.status === 'ONLINE');
      const isWrong = (error: unknown) => error instanceof PresenceError && error.code === 'INVALID_ARGUMENT';
      await assert.rejects(client.setPrivacy({ addBlocked: [userId] }), isWrong);
      await assert.rejects(looker.getPrivacy(), isWrong);
      const nowhere = await newClient({ userId, url: 'http://127.0.0.1:1' });
      await assert.rejects(nowhere.getPrivacy(), { code: 'DISCONNECTED', retryable: true });
    });

    it('comes back after a cut, without a flicker, and hears only of what changed', async () => {
      const [userId, quiet, busy] = [anyUser(), anyUser(), anyUser()];
      await server.client.setUserStatus({ userId: quiet, status: ONLINE });
      await server.client.setUserStatus({ userId: quiet, status: OFFLINE });
      const looker = await newClient();
      const flickers: string[] = [];
      looker.subscribe([userId], ({ state }) => flickers.push(state.status));
      await waitFor('the looker', () => flickers.length === 1);
      const client = await newClient({ userId });
      const heard: string[] = [];
      client.subscribe([quiet, busy], (change) => heard.push(change.userId));
      await waitFor('both', () => heard.length === 2);
      proxy.cut();
      await waitFor('the loss', () => client.state === 'waiting');
      await server.client.setUserStatus({ userId: busy, status: ONLINE });
      await waitFor('the return', () => client.state === 'open');
      await waitFor('the change', () => client.get(busy)?.status === 'ONLINE');
      assert.deepEqual(heard.slice(2), [busy]);
      await server.client.setUserStatus({ userId: quiet, status: ONLINE });
      await waitFor('the next change', () => client.get(quiet)?.status === 'ONLINE');
      assert.deepEqual(flickers, ['OFFLINE', 'ONLINE']);
    });

    it('notices a connection that died without a word, and comes back when it can', async () => {
      const watched = anyUser();
      const client = await newClient({ requestTimeoutMs: 300 });
      client.subscribe([watched], () => {});
      await waitFor('the first state', () => client.get(watched) !== undefined);
      proxy.pause();
      await waitFor('the loss', () => client.state !== 'open');
      await assert.rejects(client.query([]), { name: 'PresenceError', code: 'TIMEOUT' });
      await server.client.setUserStatus({ userId: watched, status: ONLINE, activity: ProtoActivity.IDLE });
      assert.equal(client.get(watched)?.status, 'OFFLINE');
      proxy.cut();
      proxy.resume();
      await waitFor('the return', () => client.state === 'open');
      await waitFor('the truth', () => client.get(watched)?.status === 'ONLINE');
    });

    it('survives a restart of the server, and its loss of memory', async () => {
      const userId = anyUser();
      const client = await newClient({ userId });
      const watched = anyUser();
      await server.client.setUserStatus({ userId: watched, status: ONLINE });
      client.subscribe([watched], () => {});
      await waitFor('the first state', () => client.get(watched)?.status === 'ONLINE');
      proxy.target = null;
      const before = proxy.connections;
      await server.stop();
      await waitFor('the loss', () => client.state !== 'open');
      await sleep(1000);
      // At most 400 ms apart, at least 10: with luck as bad as can be, never a storm.
      const attempts = proxy.connections - before;
      assert.ok(
        attempts < 30 * clients.length,
        `${attempts} attempts of ${clients.length} clients in a second`,
      );
      server = await startServer(environment);
      proxy.target = way.port(server);
      await waitFor('the return', () => client.state === 'open');
      await waitFor('the truth of the new server', () => client.get(watched)?.status === 'OFFLINE');
      assert.equal((await statusOf(userId))?.status, ONLINE);
    });

    it('stays away when the server says so', async () => {
      const client = new PresenceClient({ connect: way.link(proxy.port), userId: 'x'.repeat(200) });
      clients.push(client);
      await assert.rejects(client.open().ready(), { name: 'PresenceError', code: 'CLOSED' });
      assert.equal(client.state, 'closed');
      assert.match(client.error?.message ?? '', /hello/);
    });
  });
}

describe('client with a token', () => {
  const keys = apiKeysFile();
  let server: TestServer;
  before(async () => {
    server = await startServer({ ...environment, ...secureEnvironment(keys.file) });
  });
  after(async () => {
    await server.stop();
    keys.remove();
  });

  it('shows it, asks for a newer one before it expires, and stays away without one', async () => {
    let asked = 0;
    const client = new PresenceClient({
      url: server.httpUrl,
      userId: 'ada',
      token: () => {
        asked++;
        // The first one is of those of whose end the server tells at once.
        return token('ada', { expiresIn: asked === 1 ? 2 : 600 });
      },
    });
    await client.open().ready();
    await waitFor('the newer token', () => asked === 2);
    await sleep(3500);
    assert.equal(client.state, 'open');
    client.close();
    const stranger = new PresenceClient({ url: server.httpUrl, userId: 'ada', token: await token('eve') });
    await assert.rejects(stranger.open().ready(), { name: 'PresenceError', code: 'CLOSED' });
  });

  it('comes back with a new token when the old one has expired', async () => {
    let asked = 0;
    const client = new PresenceClient({
      url: server.httpUrl,
      userId: 'bob',
      backoff: { baseMs: 50 },
      token: async () => {
        asked++;
        if (asked === 2) throw new Error('the issuer is away');
        return token('bob', { expiresIn: asked === 1 ? 2 : 600 });
      },
    });
    await client.open().ready();
    await waitFor('the end of the first token', () => client.state !== 'open');
    await waitFor('the return', () => client.state === 'open');
    assert.equal(asked, 3);
    client.close();
  });
});
