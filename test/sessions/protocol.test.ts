/** The session protocol: one suite, over gRPC and over WebSocket as JSON and as protobuf. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Activity, Cause, ConnectionKind, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { RawSession, wireNames } from './support/raw-session.ts';

const { ONLINE, OFFLINE } = UserStatus;
/** All long against what a busy machine makes of an instant. */
const ttlMs = 6000;
const idleAfterMs = 5000;

let nextUser = 0;
const anyUser = (): string => `session user ${nextUser++} é`;

// Each waits for times that are long on a busy machine, and has users of its own: they wait together.
describe('session protocol', { concurrency: true }, () => {
  for (const wire of wireNames) {
    describe(`sessions over ${wire}`, () => {
      let server: TestServer;
      before(async () => {
        server = await startServer({
          MAX_CONNECTIONS_PER_USER: '3',
          USER_STATUS_TTL: `${ttlMs}ms`,
          HEARTBEAT_INTERVAL: '1s',
          DISCONNECT_GRACE: '2s',
          IDLE_AFTER: `${idleAfterMs}ms`,
          MAX_WATCHED_USERS: '1000',
          MAX_FRAMES_PER_SECOND: '1000',
        });
      });
      after(() => server?.stop());

      const open = (
        userId: string,
        hello: { device?: string; resumeToken?: string; activity?: Activity } = {},
      ) => RawSession.open(wire, server, { userId, ...hello });
      const stateOf = async (userId: string) => (await server.client.getUserStatus({ userId })).data;
      const activityOf = async (userId: string) => (await stateOf(userId))?.activity;
      const signOut = { case: 'setStatus', value: { status: OFFLINE } } as const;

      describe('a session', { concurrency: true }, () => {
        it('welcomes a user, who is ONLINE while it is open, and OFFLINE after the grace', async () => {
          const user = anyUser();
          const watcher = await open('');
          await watcher.watch([user]);
          const session = await RawSession.open(wire, server, null);
          const before = Date.now();
          const answer = await session.ask({
            case: 'hello',
            value: { userId: user, activity: Activity.AWAY },
          });
          assert.equal(answer.case, 'welcome');
          const welcome = answer.value;
          assert.ok(Math.abs(Number(welcome.serverTime) - before) < 60_000);
          assert.equal(welcome.heartbeatIntervalMs, BigInt(server.config.heartbeatIntervalMs));
          assert.equal(welcome.pongTimeoutMs, BigInt(server.config.pongTimeoutMs));
          assert.equal(welcome.idleAfterMs, BigInt(idleAfterMs));
          assert.equal(welcome.maxWatchedUsers, 1000);
          assert.equal(welcome.maxFrameBytes, server.config.maxFrameBytes);
          assert.equal(welcome.resumed, false);
          assert.equal(welcome.state?.status, ONLINE);
          await watcher.sees(user, '[OFFLINE] ONLINE');
          assert.equal(watcher.of(user)[1]?.cause, Cause.CONNECT);
          // Nobody heartbeats: transport and server keep the lease by themselves.
          await sleep(1.25 * ttlMs);
          assert.equal(watcher.story(user), '[OFFLINE] ONLINE');
          await session.goodbye();
          await watcher.sees(user, '[OFFLINE] ONLINE OFFLINE');
          assert.equal(watcher.of(user)[2]?.cause, Cause.DISCONNECT);
          watcher.drop();
        });

        it('takes a lost connection for the end, after the grace', async () => {
          const user = anyUser();
          const watcher = await open('');
          await watcher.watch([user]);
          const session = await open(user);
          session.drop();
          await watcher.sees(user, '[OFFLINE] ONLINE OFFLINE');
          watcher.drop();
        });

        it('makes no event of a client that drops and returns within the grace 50 times', async () => {
          const user = anyUser();
          const watcher = await open('');
          await watcher.watch([user]);
          let session = await open(user);
          for (let round = 0; round < 50; round++) {
            session.drop();
            session = await open(user, round % 2 === 0 ? {} : { resumeToken: session.resumeToken });
          }
          await sleep(1.5 * server.config.disconnectGraceMs);
          assert.equal(watcher.story(user), '[OFFLINE] ONLINE');
          session.drop();
          await watcher.sees(user, '[OFFLINE] ONLINE OFFLINE');
          watcher.drop();
        });

        it('counts every device: the last one decides, and each is listed', async () => {
          const user = anyUser();
          const watcher = await open('');
          await watcher.watch([user]);
          const phone = await open(user, { device: 'phone', activity: Activity.IDLE });
          await sleep(5);
          const desk = await open(user, { device: 'desk 🖥' });
          const { connections } = await server.client.getConnections({ userId: user });
          assert.deepEqual(
            connections.map(({ device, kind, activity }) => ({ device, kind, activity })),
            [
              { device: 'phone', kind: ConnectionKind.SESSION, activity: Activity.IDLE },
              { device: 'desk 🖥', kind: ConnectionKind.SESSION, activity: Activity.ACTIVE },
            ],
          );
          assert.ok((connections[0]?.since ?? 0n) < (connections[1]?.since ?? 0n));
          assert.equal(await activityOf(user), Activity.ACTIVE);
          desk.drop();
          await waitFor('the other activity', async () => (await activityOf(user)) === Activity.IDLE);
          await sleep(1.5 * server.config.disconnectGraceMs);
          assert.equal((await stateOf(user))?.status, ONLINE);
          phone.drop();
          await watcher.sees(user, '[OFFLINE] ONLINE ONLINE ONLINE OFFLINE');
          assert.equal((await server.client.getConnections({ userId: user })).connections.length, 0);
          watcher.drop();
        });

        it('closes the oldest session of a user who has too many', async () => {
          const user = anyUser();
          const sessions = [];
          for (let index = 0; index < 4; index++) {
            sessions.push(await open(user, { device: String(index) }));
            await sleep(2);
          }
          await sessions[0]?.endsWith('REPLACED');
          const { connections } = await server.client.getConnections({ userId: user });
          assert.deepEqual(
            connections.map(({ device }) => device),
            ['1', '2', '3'],
          );
          for (const session of sessions) session.drop();
        });

        it('edits a watch list in place', async () => {
          const [watched, other] = [anyUser(), anyUser()];
          const session = await open(anyUser());
          assert.equal((await session.watch([watched, other, watched])).case, 'ack');
          // The acknowledgement comes after the snapshot.
          assert.equal(session.story(watched), '[OFFLINE]');
          assert.equal(session.story(other), '[OFFLINE]');
          await server.client.setUserStatus({ userId: watched, status: ONLINE });
          await session.sees(watched, '[OFFLINE] ONLINE');
          await session.ask({ case: 'unwatch', value: { userIds: [watched, 'never watched'] } });
          await server.client.setUserStatus({ userId: watched, status: OFFLINE });
          await server.client.setUserStatus({ userId: other, status: ONLINE });
          await session.sees(other, '[OFFLINE] ONLINE');
          assert.equal(session.story(watched), '[OFFLINE] ONLINE');
          await session.watch([watched, other]);
          assert.equal(session.story(watched), '[OFFLINE] ONLINE [OFFLINE]');
          assert.equal(session.story(other), '[OFFLINE] ONLINE');
          session.drop();
        });

        it('has neither gap nor fake event between snapshot and changes', async () => {
          const user = anyUser();
          let isDone = false;
          const flips = (async () => {
            for (let flip = 0; !isDone; flip++) {
              const activity = flip % 2 === 0 ? Activity.ACTIVE : Activity.IDLE;
              await server.client.setUserStatus({ userId: user, status: ONLINE, activity });
            }
          })();
          const sessions = [];
          for (let index = 0; index < 10; index++) {
            const session = await open('');
            await session.watch([user]);
            sessions.push(session);
          }
          isDone = true;
          await flips;
          const truth = await stateOf(user);
          for (const session of sessions) {
            await waitFor('the last change', () => session.of(user).at(-1)?.version === truth?.version);
            const seen = session.of(user);
            assert.deepEqual(
              seen.map(({ snapshot }) => snapshot),
              seen.map((_, index) => index === 0),
            );
            for (const [index, event] of seen.slice(1).entries()) {
              assert.ok(event.version > (seen[index]?.version ?? 0n), 'in order, once');
              assert.notEqual(event.activity, seen[index]?.activity, 'a change changes');
            }
            session.drop();
          }
        });

        it('sends what belongs together as one batch', async () => {
          const users = Array.from({ length: 900 }, anyUser);
          const session = await open('');
          await session.watch(users);
          assert.equal(session.events.length, 900);
          assert.ok(session.batches.length <= 10, `${session.batches.length} batches`);
          session.drop();
        });

        it('sends only what changed to a client that comes back with its versions', async () => {
          const [quiet, busy, unknown] = [anyUser(), anyUser(), anyUser()];
          for (const userId of [quiet, busy]) await server.client.setUserStatus({ userId, status: OFFLINE });
          for (const userId of [quiet, busy]) {
            await server.client.setUserStatus({ userId, status: ONLINE });
            await server.client.setUserStatus({ userId, status: OFFLINE });
          }
          const user = anyUser();
          const first = await open(user, { device: 'laptop' });
          await first.watch([quiet, busy, unknown]);
          const versions = [quiet, busy, unknown].map((userId) => first.of(userId).at(-1)?.version ?? 0n);
          first.drop();
          await server.client.setUserStatus({ userId: busy, status: ONLINE });
          const second = await RawSession.open(wire, server, null);
          const answer = await second.ask({
            case: 'hello',
            value: { userId: user, resumeToken: first.resumeToken },
          });
          assert.equal(answer.case, 'welcome');
          await second.watch([quiet, busy, unknown], versions);
          assert.deepEqual(
            second.events.map(({ userId, status, snapshot }) => ({ userId, status, snapshot })),
            [
              { userId: busy, status: ONLINE, snapshot: true },
              { userId: unknown, status: OFFLINE, snapshot: true },
            ],
          );
          await server.client.setUserStatus({ userId: quiet, status: ONLINE });
          await second.sees(quiet, 'ONLINE');
          second.drop();
        });

        it('takes the place of the connection that it resumes, while that still counts', async () => {
          const user = anyUser();
          const first = await open(user);
          const { connections: before } = await server.client.getConnections({ userId: user });
          const second = await RawSession.open(wire, server, null);
          const answer = await second.ask({
            case: 'hello',
            value: { userId: user, resumeToken: first.resumeToken },
          });
          assert.equal(answer.case === 'welcome' && answer.value.resumed, true);
          // Longer than half the TTL: the link that was left is still open, and is not renewed.
          await sleep(3500);
          const { connections } = await server.client.getConnections({ userId: user });
          assert.equal(connections.length, 1);
          assert.equal(connections[0]?.since, before[0]?.since);
          const stranger = await RawSession.open(wire, server, null);
          const other = await stranger.ask({
            case: 'hello',
            value: { userId: user, resumeToken: 'no such' },
          });
          assert.equal(other.case === 'welcome' && other.value.resumed, false);
          for (const session of [first, second, stranger]) session.drop();
        });

        it('is taken over by nobody who knows no more than its id', async () => {
          const user = anyUser();
          const phone = await open(user, { device: 'phone' });
          const { connections } = await server.client.getConnections({ userId: user });
          const id = connections[0]?.connectionId as string;
          assert.equal(id, phone.sessionId, 'the id is no secret');
          assert.notEqual(phone.resumeToken, id);
          const resume = async (userId: string, resumeToken: string) => {
            const session = await RawSession.open(wire, server, null);
            const answer = await session.ask({ case: 'hello', value: { userId, resumeToken } });
            return { session, isResumed: answer.case === 'welcome' && answer.value.resumed };
          };
          const laptop = await resume(user, id);
          assert.equal(laptop.isResumed, false, 'another device of the user, by the id');
          const other = await resume(anyUser(), phone.resumeToken);
          assert.equal(other.isResumed, false, 'another user, by the token');
          const { connections: after } = await server.client.getConnections({ userId: user });
          assert.ok(after.some(({ connectionId, device }) => connectionId === id && device === 'phone'));
          const again = await resume(user, phone.resumeToken);
          assert.equal(again.isResumed, true);
          for (const session of [phone, laptop.session, other.session, again.session]) session.drop();
        });

        it('lets a sign-out stand, until a device says ONLINE or hello anew', async () => {
          const user = anyUser();
          const session = await open(user);
          const answer = await session.ask(signOut);
          assert.equal(answer.case === 'ack' && answer.value.state?.status, OFFLINE);
          await session.ask({ case: 'heartbeat', value: { activity: Activity.ACTIVE } });
          await sleep(1.25 * ttlMs);
          assert.equal((await stateOf(user))?.status, OFFLINE);
          const resumed = await open(user, { resumeToken: session.resumeToken });
          assert.equal((await stateOf(user))?.status, OFFLINE);
          await resumed.ask({ case: 'setStatus', value: { status: ONLINE } });
          assert.equal((await stateOf(user))?.status, ONLINE);
          await resumed.ask(signOut);
          const anew = await open(user);
          assert.equal((await stateOf(user))?.status, ONLINE);
          for (const each of [session, resumed, anew]) each.drop();
        });

        it('takes a silent user for IDLE, but never one who must not be disturbed', async () => {
          const [silent, busy] = [anyUser(), anyUser()];
          const session = await open(silent);
          const other = await open(busy);
          const busily = { activity: Activity.DO_NOT_DISTURB };
          const answer = await other.ask({ case: 'setStatus', value: busily });
          assert.equal(answer.case === 'ack' && answer.value.state?.activity, Activity.DO_NOT_DISTURB);
          await session.ask({ case: 'heartbeat', value: {} });
          assert.equal(await activityOf(silent), Activity.ACTIVE);
          await waitFor('IDLE', async () => (await activityOf(silent)) === Activity.IDLE);
          await session.ask({ case: 'heartbeat', value: { activity: Activity.ACTIVE } });
          assert.equal(await activityOf(silent), Activity.ACTIVE);
          await waitFor('IDLE again', async () => (await activityOf(silent)) === Activity.IDLE);
          await session.ask({ case: 'query', value: { userIds: [] } });
          await waitFor(
            'ACTIVE by any other frame',
            async () => (await activityOf(silent)) === Activity.ACTIVE,
          );
          assert.equal(await activityOf(busy), Activity.DO_NOT_DISTURB);
          session.drop();
          other.drop();
        });

        it('shows a custom status, and lets the one before it return', async () => {
          const user = anyUser();
          const watcher = await open('');
          await watcher.watch([user]);
          const session = await open(user);
          const say = (text: string, expiresInMs: number) =>
            session.ask({
              case: 'setCustomStatus',
              value: { text, emoji: '🚀', expiresInMs: BigInt(expiresInMs) },
            });
          const answer = await say('at work', 0);
          assert.equal(answer.case === 'ack' && answer.value.state?.customStatus?.text, 'at work');
          await say('in a meeting', 300);
          const texts = () => watcher.of(user).map(({ customStatus }) => customStatus?.text);
          await waitFor('the meeting to end', () => texts().at(-1) === 'at work' && texts().length === 5);
          assert.deepEqual(texts(), [undefined, undefined, 'at work', 'in a meeting', 'at work']);
          assert.equal((await say('x'.repeat(141), 0)).case, 'error');
          assert.equal((await say('🚀'.repeat(140), 0)).case, 'ack');
          for (const each of [session, watcher]) each.drop();
        });

        it('answers queries, without watching', async () => {
          const [lit, unknown] = [anyUser(), anyUser()];
          await server.client.setUserStatus({ userId: lit, status: ONLINE });
          const session = await open('');
          const answer = await session.ask({ case: 'query', value: { userIds: [unknown, lit, unknown] } });
          assert.equal(answer.case, 'states');
          assert.deepEqual(
            answer.value.states.map(({ userId, status }) => [userId, status]),
            [
              [unknown, OFFLINE],
              [lit, ONLINE],
              [unknown, OFFLINE],
            ],
          );
          session.drop();
        });

        it('answers what it cannot do with an error, and goes on', async () => {
          const session = await open(anyUser());
          const code = async (frame: Parameters<RawSession['ask']>[0]) => {
            const answer = await session.ask(frame);
            return answer.case === 'error' ? answer.value.code : answer.case;
          };
          assert.equal(await code({ case: 'watch', value: { userIds: ['good', ''] } }), 'INVALID_ARGUMENT');
          const many = Array.from({ length: 1001 }, (_, index) => `u${index}`);
          assert.equal(await code({ case: 'watch', value: { userIds: many } }), 'INVALID_ARGUMENT');
          const uneven = { userIds: ['a', 'b'], knownVersions: [1n] };
          assert.equal(await code({ case: 'watch', value: uneven }), 'INVALID_ARGUMENT');
          assert.equal(await code({ case: 'setStatus', value: {} }), 'INVALID_ARGUMENT');
          const contradiction = { status: OFFLINE, activity: Activity.IDLE };
          assert.equal(await code({ case: 'setStatus', value: contradiction }), 'INVALID_ARGUMENT');
          assert.equal(await code({ case: 'query', value: { userIds: ['ok\n'] } }), 'INVALID_ARGUMENT');
          assert.equal(await code({ case: 'hello', value: { userId: 'again' } }), 'INVALID_ARGUMENT');
          assert.equal(await code({ case: undefined }), 'INVALID_ARGUMENT');
          for (const kind of ['watch', 'query'] as const) {
            const named = await session.ask({ case: kind, value: { userIds: ['good', 'bad\n', 'fine'] } });
            assert.equal(named.case, 'error');
            assert.match(named.value.message, /^user_ids\[1\] /);
            assert.deepEqual(named.value.userIds, ['bad\n']);
          }
          assert.equal(await code({ case: 'watch', value: {} }), 'ack');
          assert.equal(await code({ case: 'heartbeat', value: {} }), 'ack');
          assert.equal(session.events.length, 0);
          assert.equal(session.closeCode, undefined);
          session.drop();
          const looker = await open('');
          const refused = await looker.ask({ case: 'setStatus', value: { status: ONLINE } });
          assert.equal(refused.case === 'error' && refused.value.code, 'INVALID_ARGUMENT');
          looker.drop();
        });

        it('ends what is no session', async () => {
          const early = await RawSession.open(wire, server, null);
          early.tell({ case: 'query', value: {} });
          await early.endsWith('BAD_FRAME');
          for (const hello of [{ userId: 'x'.repeat(129) }, { userId: 'a', device: 'x'.repeat(65) }]) {
            const bad = await RawSession.open(wire, server, null);
            bad.tell({ case: 'hello', value: hello });
            await bad.endsWith('BAD_HELLO');
            assert.deepEqual(bad.errors, ['INVALID_ARGUMENT']);
          }
        });
      });

      it('leaves nothing behind', async () => {
        await waitFor('everything to be closed', () => {
          const { sessions, connections, hub, webSocket, grpc } = server.server.stats();
          return (
            sessions.sessions === 0 &&
            connections.held === 0 &&
            connections.unclosed === 0 &&
            hub.watches === 0 &&
            hub.subscriptions === 0 &&
            webSocket.connections === 0 &&
            grpc.queuedBytes === 0
          );
        });
      });
    });
  }
});
