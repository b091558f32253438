/** Sessions of one user on several servers: limits, hand-over, crash. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Activity, Cause } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { runRecovery } from '../../bench/sessions/recovery.ts';
import { runSteady } from '../../bench/sessions/steady.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { RedisServer } from '../support/redis-server.ts';
import { waitFor } from '../support/wait.ts';
import { RawSession } from './support/raw-session.ts';

/** Both long against what a busy machine makes of an instant. */
const ttlMs = 6000;
const graceMs = 1000;

let nextUser = 0;
const anyUser = (): string => `cluster user ${nextUser++}`;

describe('sessions on two servers', () => {
  let redis: RedisServer;
  let one: TestServer;
  let two: TestServer;
  before(async () => {
    redis = await RedisServer.start();
    const environment = {
      REDIS_URL: redis.url,
      USER_STATUS_TTL: `${ttlMs}ms`,
      DISCONNECT_GRACE: `${graceMs}ms`,
      MAX_CONNECTIONS_PER_USER: '2',
      DRAIN_TIMEOUT: '1s',
      // A hello that waits for Redis for longer than a hello may take to come is not late.
      REDIS_TIMEOUT: '6s',
      REQUEST_TIMEOUT: '4s',
    };
    one = await startServer(environment);
    two = await startServer(environment);
  });
  after(async () => {
    await Promise.allSettled([one?.stop(), two?.stop()]);
    await redis?.stop();
  });

  const open = (server: TestServer, userId: string, hello: { device?: string; resumeToken?: string } = {}) =>
    RawSession.open('WebSocket protobuf', server, { userId, ...hello });

  it('are one user: the first to close changes nothing, the last does', async () => {
    const user = anyUser();
    const watcher = await open(two, '');
    await watcher.watch([user]);
    const [first, second] = [await open(one, user), await open(two, user)];
    await watcher.sees(user, '[OFFLINE] ONLINE');
    first.drop();
    await sleep(1.5 * graceMs);
    assert.equal(watcher.story(user), '[OFFLINE] ONLINE');
    second.drop();
    await watcher.sees(user, '[OFFLINE] ONLINE OFFLINE');
    assert.equal(watcher.of(user)[2]?.cause, Cause.DISCONNECT);
    watcher.drop();
  });

  it('makes no event of a client that flaps between them', async () => {
    const user = anyUser();
    const watcher = await open(two, '');
    await watcher.watch([user]);
    let session = await open(one, user);
    for (let round = 0; round < 50; round++) {
      session.drop();
      session = await open(round % 2 === 0 ? two : one, user);
    }
    await sleep(1.5 * graceMs);
    assert.equal(watcher.story(user), '[OFFLINE] ONLINE');
    for (const each of [session, watcher]) each.drop();
  });

  it('share the limit: the oldest is told and closed, wherever it is', async () => {
    const user = anyUser();
    const oldest = await open(one, user, { device: 'oldest' });
    await sleep(5);
    const middle = await open(one, user, { device: 'middle' });
    await sleep(5);
    const newest = await open(two, user, { device: 'newest' });
    await oldest.endsWith('REPLACED');
    const { connections } = await one.client.getConnections({ userId: user });
    assert.deepEqual(
      connections.map(({ device }) => device),
      ['middle', 'newest'],
    );
    for (const each of [middle, newest]) each.drop();
  });

  it('merge their activities', async () => {
    const user = anyUser();
    const [phone, desk] = [await open(one, user), await open(two, user)];
    await phone.ask({ case: 'setStatus', value: { activity: Activity.AWAY } });
    const answer = await desk.ask({ case: 'setStatus', value: { activity: Activity.IDLE } });
    assert.equal(answer.case === 'ack' && answer.value.state?.activity, Activity.IDLE);
    await phone.ask({ case: 'setStatus', value: { activity: Activity.DO_NOT_DISTURB } });
    const { data } = await two.client.getUserStatus({ userId: user });
    assert.equal(data?.activity, Activity.DO_NOT_DISTURB);
    for (const each of [phone, desk]) each.drop();
  });

  it('are written again by their servers when Redis lost everything', async () => {
    const user = anyUser();
    const session = await open(one, user);
    const watcher = await open(two, '');
    await watcher.watch([user]);
    await redis.kill();
    await redis.run();
    await waitFor('the connection to be known again', async () => {
      try {
        return (await two.client.getConnections({ userId: user })).connections.length === 1;
      } catch {
        return false;
      }
    });
    const { data } = await two.client.getUserStatus({ userId: user });
    assert.equal(data?.status, 1);
    assert.doesNotMatch(watcher.story(user), / OFFLINE/);
    assert.equal(session.closeCode, undefined);
    for (const each of [session, watcher]) each.drop();
  });

  it('stay open while Redis is away; new ones are told to come back', async () => {
    const user = anyUser();
    const session = await open(one, user);
    const watcher = await open(two, '');
    await watcher.watch([user]);
    redis.signal('SIGSTOP');
    try {
      const late = await RawSession.open('WebSocket JSON', one, null);
      late.tell({ case: 'hello', value: { userId: anyUser() } });
      await late.endsWith('ENGINE_AWAY');
      assert.deepEqual(late.errors, ['REDIS_ERROR']);
      const answer = await session.ask({ case: 'setStatus', value: { activity: Activity.AWAY } });
      assert.equal(answer.case === 'error' && answer.value.code, 'REDIS_ERROR');
      assert.equal(answer.case === 'error' && answer.value.retryable, true);
      await sleep(1.25 * ttlMs);
    } finally {
      redis.signal('SIGCONT');
    }
    await waitFor('an answer', async () => {
      const answer = await session.ask({ case: 'setStatus', value: { activity: Activity.DO_NOT_DISTURB } });
      return answer.case === 'ack';
    });
    await waitFor('the change', () => watcher.of(user).at(-1)?.activity === Activity.DO_NOT_DISTURB);
    assert.doesNotMatch(watcher.story(user), / OFFLINE/);
    for (const each of [session, watcher]) each.drop();
  });

  it('are handed over when a server stops: nobody sees it', async () => {
    const users = Array.from({ length: 20 }, anyUser);
    const watcher = await open(two, '');
    await watcher.watch(users);
    const sessions = await Promise.all(users.map((user) => open(one, user)));
    await waitFor('all ONLINE', () => users.every((user) => watcher.story(user) === '[OFFLINE] ONLINE'));
    const ready = async () => (await fetch(`${one.httpUrl}/readyz`)).status;
    await waitFor('the probe to be green', async () => (await ready()) === 200);
    const stopping = one.stop();
    await waitFor('the probe to go red', async () => {
      try {
        return (await ready()) === 503;
      } catch {
        return true;
      }
    });
    await waitFor('all to be told', () => sessions.every(({ goingAways }) => goingAways.length > 0));
    const delays = sessions.map(({ goingAways }) => goingAways[0]?.reconnectInMs ?? -1);
    assert.ok(Math.max(...delays) <= 500 && new Set(delays).size > 5, 'spread out');
    await assert.rejects(open(one, anyUser()), 'no new sessions');
    // Half of them do as they are told; the others are closed, and come back then.
    for (const session of sessions.slice(0, 10)) session.drop();
    const again = await Promise.all(
      sessions
        .slice(0, 10)
        .map((session, index) => open(two, users[index] as string, { resumeToken: session.resumeToken })),
    );
    for (const session of sessions.slice(10)) await session.endsWith('DRAINING');
    await stopping;
    await sleep(1.5 * graceMs);
    for (const [index, session] of sessions.slice(10).entries()) {
      again.push(await open(two, users[10 + index] as string, { resumeToken: session.resumeToken }));
    }
    await sleep(1.25 * ttlMs);
    for (const user of users) assert.equal(watcher.story(user), '[OFFLINE] ONLINE');
    for (const user of users) {
      assert.equal((await two.client.getConnections({ userId: user })).connections.length, 1);
    }
    for (const each of [...again, watcher]) each.drop();
  });
});

/** bench/sessions.ts, in small. */
describe('many sessions', () => {
  let redis: RedisServer;
  before(async () => {
    redis = await RedisServer.start();
  });
  after(() => redis?.stop());

  it('of both kinds see the changes of those they watch', async (context) => {
    const figures = await runSteady({
      redisUrl: redis.url,
      webSockets: 150,
      grpcStreams: 150,
      watched: 20,
      loadProcesses: 2,
      changesPerSecond: 40,
      settleMs: 50,
      durationMs: 1500,
    });
    context.diagnostic(JSON.stringify(figures));
    assert.equal(figures.lost, 0);
    assert.equal(figures.events, figures.changes * 20, 'every change to every watcher');
  });

  it('of a server that is killed are on the other soon, and nobody sees an OFFLINE', async (context) => {
    const figures = await runRecovery({
      redisUrl: redis.url,
      sessions: 200,
      loadProcesses: 1,
      signal: 'SIGKILL',
    });
    context.diagnostic(JSON.stringify(figures));
    assert.equal(figures.falseOfflines, 0);
    assert.equal(figures.events, 0);
  });
});
