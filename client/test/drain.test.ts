/** Clients of a server that stops, behind an address that leads to another one then. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startServer, type TestServer, Watcher } from '../../test/support/pilotlight.ts';
import { RedisServer } from '../../test/support/redis-server.ts';
import { TcpProxy } from '../../test/support/tcp-proxy.ts';
import { waitFor } from '../../test/support/wait.ts';
import { grpcLink } from '../src/grpc.ts';
import { type ConnectionState, PresenceClient, webSocketLink } from '../src/index.ts';

const ways = {
  WebSocket: {
    link: (port: number) => webSocketLink(`http://127.0.0.1:${port}`),
    port: (server: TestServer) => Number(new URL(server.httpUrl).port),
  },
  gRPC: {
    link: (port: number) => grpcLink(`http://127.0.0.1:${port}`),
    port: (server: TestServer) => server.grpcPort,
  },
} as const;

describe('a server that stops', () => {
  let redis: RedisServer;
  before(async () => {
    redis = await RedisServer.start();
  });
  after(() => redis.stop());

  for (const [name, way] of Object.entries(ways)) {
    it(`hands its clients over ${name} to another: nobody sees it, nobody hurries`, async () => {
      const environment = {
        REDIS_URL: redis.url,
        USER_STATUS_TTL: '1m',
        // The way to the other node may take long on a busy machine.
        DISCONNECT_GRACE: '20s',
        DRAIN_TIMEOUT: '2s',
      };
      const [first, second] = [await startServer(environment), await startServer(environment)];
      const proxy = await TcpProxy.start(way.port(first));
      const users = Array.from({ length: 20 }, (_, index) => `${name} user ${index}`);
      const watcher = new Watcher(second.client, users);
      const clients = users.map(
        (userId) => new PresenceClient({ connect: way.link(proxy.port), userId, backoff: { baseMs: 50 } }),
      );
      const states: ConnectionState[] = [];
      for (const client of clients) client.open();
      await Promise.all(clients.map((client) => client.ready()));
      await waitFor('all to be seen', () => users.every((user) => watcher.of(user).at(-1)?.status === 1));
      const seen = watcher.events.length;
      const [looker] = clients as [PresenceClient];
      const heard: string[] = [];
      looker.subscribe(users, ({ userId }) => heard.push(userId));
      await waitFor('the first states', () => heard.length === users.length);
      for (const client of clients) client.onStateChange((state) => states.push(state));
      const connections = proxy.connections;

      proxy.target = way.port(second);
      await first.stop();
      await waitFor('all to be back', () => clients.every(({ state }) => state === 'open'));
      assert.equal(second.server.stats().sessions.sessions, users.length);
      assert.equal(states.filter((state) => state === 'waiting').length, users.length, 'each moved once');
      assert.equal(proxy.connections - connections, users.length, 'by one connection');
      await sleep(1000);
      assert.equal(watcher.events.length, seen, 'no event');
      assert.equal(heard.length, users.length, 'nothing new was told');
      const listed = await second.client.getConnections({ userId: users[0] as string });
      assert.equal(listed.connections.length, 1);

      for (const client of clients) client.close();
      await waitFor('all OFFLINE', () => users.every((user) => watcher.of(user).at(-1)?.status === 2));
      await watcher.stop();
      proxy.stop();
      await second.stop();
    });
  }
});
