/** Every flow of the spec against a running server, through a generated gRPC client, on each engine. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Activity, Cause, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { type PresenceClient, startServer, type TestServer, Watcher } from './support/pilotlight.ts';
import { RedisServer } from './support/redis-server.ts';
import { waitFor } from './support/wait.ts';

const { ONLINE, OFFLINE } = UserStatus;
/** Of the tests that wait for the end of a lease. */
const ttlMs = 2000;
/** Of the others: nobody goes OFFLINE because a busy machine let a second pass. */
const patient = { USER_STATUS_TTL: '1m', DISCONNECT_GRACE: '1500ms' };
type Start = (
  environment: Readonly<Record<string, string>>,
) => Promise<{ servers: TestServer[]; stop(): Promise<void> }>;

function testFlows(engine: string, start: Start): void {
  describe(`flows of the spec: ${engine}`, () => {
    let stop: () => Promise<void>;
    let client: PresenceClient;
    /** A client of the last server: another one, where the engine is shared. */
    let remote: PresenceClient;
    let servers: TestServer[];

    before(async () => {
      ({ servers, stop } = await start(patient));
      client = (servers[0] as TestServer).client;
      remote = (servers.at(-1) as TestServer).client;
    });
    after(() => stop());

    const statusOf = async (userId: string) => (await remote.getUserStatus({ userId })).data?.status;

    it('a user goes online: confirmation, query, broadcast', async () => {
      const watcher = new Watcher(remote, ['ada']);
      await watcher.sees('ada', '[OFFLINE]');
      const before = Date.now();
      const { success, data, message } = await client.setUserStatus({ userId: 'ada', status: ONLINE });
      assert.equal(success, true);
      assert.equal(message, 'ada is ONLINE');
      assert.equal(data?.status, ONLINE);
      assert.equal(data.activity, Activity.ACTIVE);
      assert.ok(Math.abs(Number(data.lastSeen) - before) < 60_000);
      assert.equal(data.since, data.lastSeen);
      assert.equal(await statusOf('ada'), ONLINE);
      await watcher.sees('ada', '[OFFLINE] ONLINE');
      const event = watcher.of('ada')[1];
      assert.equal(event?.cause, Cause.SET);
      assert.equal(event.timestamp, data.since);
      assert.ok(event.version > 0n);
      await watcher.stop();
    });

    it('a user goes offline by call', async () => {
      await client.setUserStatus({ userId: 'cleo', status: ONLINE });
      const watcher = new Watcher(remote, ['cleo']);
      await watcher.sees('cleo', '[ONLINE]');
      const { data } = await client.setUserStatus({ userId: 'cleo', status: OFFLINE });
      assert.equal(data?.status, OFFLINE);
      await watcher.sees('cleo', '[ONLINE] OFFLINE');
      assert.equal(watcher.events[1]?.cause, Cause.SET);
      assert.equal(watcher.events[1]?.activity, Activity.UNSPECIFIED);
      await watcher.stop();
    });

    it('closing the subscription of a user who is watching puts the light out after the grace', async () => {
      await client.setUserStatus({ userId: 'gwen', status: ONLINE });
      const observer = new Watcher(remote, ['gwen']);
      const own = new Watcher(client, ['ada'], 'gwen');
      await Promise.all([own.has(1), observer.has(1)]);
      await own.stop();
      await observer.sees('gwen', '[ONLINE] OFFLINE');
      assert.equal(observer.events[1]?.cause, Cause.DISCONNECT);
      await observer.stop();
    });

    it('a subscription that comes back within the grace makes no flicker', async () => {
      await client.setUserStatus({ userId: 'hedy', status: ONLINE });
      const observer = new Watcher(remote, ['hedy']);
      for (let turn = 0; turn < 5; turn++) {
        const own = new Watcher(turn % 2 === 0 ? client : remote, ['ada'], 'hedy');
        await own.has(1);
        await client.sendHeartbeat({ userId: 'hedy' });
        await own.stop();
      }
      const last = new Watcher(client, ['ada'], 'hedy');
      await last.has(1);
      // Longer than the grace.
      await sleep(1700);
      assert.equal(observer.story('hedy'), '[ONLINE]');
      await Promise.all([last.stop(), observer.stop()]);
    });

    it('queries many users in one call, in order, known and unknown', async () => {
      const userIds = Array.from({ length: 1000 }, (_, i) => `bulk-${i}`);
      const lit = userIds.filter((_, i) => i % 3 === 0);
      await Promise.all(lit.map((userId) => client.setUserStatus({ userId, status: ONLINE })));
      const { success, data } = await remote.getMultipleUserStatus({ userIds });
      assert.equal(success, true);
      assert.deepEqual(
        data.map(({ userId }) => userId),
        userIds,
      );
      assert.ok(data.every(({ status }, i) => status === (i % 3 === 0 ? ONLINE : OFFLINE)));
      assert.equal((await remote.getMultipleUserStatus({ userIds: [] })).data.length, 0);
    });

    it('a subscription begun before the first status sees it, one begun after gets it as snapshot', async () => {
      const early = new Watcher(remote, ['iris', 'iris', 'june']);
      await early.sees('june', '[OFFLINE]');
      await client.setUserStatus({ userId: 'iris', status: ONLINE, activity: Activity.AWAY });
      await early.sees('iris', '[OFFLINE] ONLINE');
      const late = new Watcher(remote, ['iris']);
      await late.sees('iris', '[ONLINE]');
      assert.equal(late.events[0]?.activity, Activity.AWAY);
      assert.equal(late.events[0]?.version, early.of('iris')[1]?.version);
      await Promise.all([early.stop(), late.stop()]);
    });

    it('1,000 concurrent updates of 50 users by 20 clients: in order, no duplicate, the truth at the end', async () => {
      const userIds = Array.from({ length: 50 }, (_, i) => `storm-${i}`);
      const watchers = servers.map((server) => new Watcher(server.newClient(), userIds));
      await Promise.all(watchers.map((watcher) => watcher.has(50)));
      const clients = Array.from({ length: 20 }, (_, i) =>
        (servers[i % servers.length] as TestServer).newClient(),
      );
      await Promise.all(
        Array.from({ length: 1000 }, async (_, i) => {
          const userId = userIds[(i * 7) % 50] as string;
          const status = (i * 31) % 5 < 3 ? ONLINE : OFFLINE;
          await clients[i % 20]?.setUserStatus({ userId, status });
        }),
      );
      await waitFor('all watchers to end with the truth', async () => {
        const { data } = await client.getMultipleUserStatus({ userIds });
        return watchers.every((watcher) =>
          data.every(({ userId, status }) => watcher.of(userId).at(-1)?.status === status),
        );
      });
      for (const watcher of watchers) {
        for (const userId of userIds) {
          const versions = watcher.of(userId).map(({ version }) => version);
          for (const [index, version] of versions.entries()) {
            assert.ok(
              index === 0 || version > (versions[index - 1] as bigint),
              'in order, without duplicates',
            );
          }
        }
      }
      await Promise.all(watchers.map((watcher) => watcher.stop()));
    });

    it('leaks nothing: open streams and maps are empty when everybody has gone', async () => {
      const watchers = servers.map((server) => new Watcher(server.newClient(), ['ada', 'bea'], 'kay'));
      await Promise.all(watchers.map((watcher) => watcher.has(2)));
      await Promise.all(watchers.map((watcher) => watcher.stop()));
      for (const { server } of servers) {
        await waitFor(
          () => `nothing to be left: ${JSON.stringify(server.stats())}`,
          () => {
            const { grpc, hub } = server.stats();
            return (
              grpc.streams === 0 && grpc.queuedBytes === 0 && hub.users + hub.partitions + hub.watches === 0
            );
          },
        );
      }
    });
  });

  describe(`leases: ${engine}`, () => {
    let stop: () => Promise<void>;
    let client: PresenceClient;
    let remote: PresenceClient;
    before(async () => {
      const started = await start({ USER_STATUS_TTL: `${ttlMs}ms` });
      stop = started.stop;
      client = (started.servers[0] as TestServer).client;
      remote = (started.servers.at(-1) as TestServer).client;
    });
    after(() => stop());

    const statusOf = async (userId: string) => (await remote.getUserStatus({ userId })).data?.status;

    it('a user stays online with heartbeats, for many times the TTL', async () => {
      for (let attempt = 0; !(await staysOnline(`bea-${attempt}`)); attempt++) {
        assert.ok(attempt < 5, 'the machine was too busy to heartbeat in time');
      }
    });

    /** Whether each heartbeat was in time: one that this process sent late proves nothing. */
    async function staysOnline(userId: string): Promise<boolean> {
      let sentMs = performance.now();
      await client.setUserStatus({ userId, status: ONLINE });
      const watcher = new Watcher(remote, [userId]);
      await watcher.has(1);
      const endMs = performance.now() + 3 * ttlMs;
      let longestMs = 0;
      while (performance.now() < endMs) {
        const nextMs = performance.now();
        const { success, nextHeartbeatInSeconds, nextHeartbeatInMs } = await client.sendHeartbeat({ userId });
        longestMs = Math.max(longestMs, performance.now() - sentMs);
        sentMs = nextMs;
        assert.equal(success, true);
        assert.equal(nextHeartbeatInSeconds, 1n);
        assert.equal(nextHeartbeatInMs, 200n);
        await sleep(150);
      }
      const status = await statusOf(userId);
      longestMs = Math.max(longestMs, performance.now() - sentMs);
      await watcher.stop();
      if (longestMs >= ttlMs) return false;
      assert.equal(watcher.story(userId), '[ONLINE]');
      assert.equal(status, ONLINE);
      return true;
    }

    it('a user goes offline by TTL, never before the deadline, last seen at the last heartbeat', async () => {
      // A heartbeat that a busy machine sends after the deadline says nothing.
      for (let attempt = 0; !(await expires(`dora-${attempt}`)); attempt++) assert.ok(attempt < 20);
    });

    /** false: the heartbeat came too late. */
    async function expires(userId: string): Promise<boolean> {
      const watcher = new Watcher(remote, [userId]);
      await watcher.sees(userId, '[OFFLINE]');
      const setMs = Date.now();
      await client.setUserStatus({ userId, status: ONLINE });
      await sleep(50);
      const sentMs = Date.now();
      await client.sendHeartbeat({ userId });
      const answeredMs = Date.now();
      if (answeredMs - setMs >= ttlMs) {
        await watcher.stop();
        return false;
      }
      await watcher.sees(userId, '[OFFLINE] ONLINE OFFLINE');
      const event = watcher.events[2];
      assert.equal(event?.cause, Cause.EXPIRED);
      const lastSeenMs = Number(event.lastSeen);
      assert.ok(lastSeenMs >= sentMs - 1 && lastSeenMs <= answeredMs + 1, 'the last heartbeat');
      assert.ok(Number(event.timestamp) > lastSeenMs + ttlMs, 'not before the deadline');
      assert.equal(await statusOf(userId), OFFLINE);
      await watcher.stop();
      return true;
    }

    it('a heartbeat lights an unknown user, and an expired one', async () => {
      assert.equal((await client.sendHeartbeat({ userId: 'emmy' })).success, true);
      assert.equal(await statusOf('emmy'), ONLINE);
      await waitFor('emmy to expire', async () => (await statusOf('emmy')) === OFFLINE);
      assert.equal((await client.sendHeartbeat({ userId: 'emmy' })).success, true);
      assert.equal(await statusOf('emmy'), ONLINE);
    });

    it('a straggling heartbeat does not undo a sign-out, for one TTL', async () => {
      const watcher = new Watcher(remote, ['fay']);
      await watcher.sees('fay', '[OFFLINE]');
      await client.setUserStatus({ userId: 'fay', status: ONLINE });
      await watcher.sees('fay', '[OFFLINE] ONLINE');
      await client.setUserStatus({ userId: 'fay', status: OFFLINE });
      const { success, nextHeartbeatInSeconds } = await remote.sendHeartbeat({ userId: 'fay' });
      assert.equal(success, false);
      assert.equal(nextHeartbeatInSeconds, 1n);
      assert.equal(await statusOf('fay'), OFFLINE);
      await sleep(ttlMs + 50);
      assert.equal((await remote.sendHeartbeat({ userId: 'fay' })).success, true);
      await waitFor('the second time', () =>
        watcher.story('fay').startsWith('[OFFLINE] ONLINE OFFLINE ONLINE'),
      );
      await watcher.stop();
    });
  });
}

testFlows('memory', async (environment) => {
  const server = await startServer(environment);
  return { servers: [server], stop: () => server.stop() };
});

testFlows('two servers on one Redis', async (environment) => {
  const redis = await RedisServer.start();
  const servers = await Promise.all([
    startServer({ ...environment, REDIS_URL: redis.url }),
    startServer({ ...environment, REDIS_URL: redis.url }),
  ]);
  return {
    servers,
    stop: async () => {
      await Promise.all(servers.map((server) => server.stop()));
      await redis.stop();
    },
  };
});
