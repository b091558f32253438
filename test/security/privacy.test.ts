/** Privacy through the real interfaces: two servers on one Redis, users by token, and who hides beside who really leaves. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import {
  Activity,
  LastSeenVisibility,
  PresenceService,
  type StatusUpdateEvent,
  UserStatus,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import {
  errorCode,
  type PresenceClient,
  startServer,
  type TestServer,
  Watcher,
} from '../support/pilotlight.ts';
import { RedisServer } from '../support/redis-server.ts';
import { waitFor } from '../support/wait.ts';
import { apiKeys, apiKeysFile, secureEnvironment, token } from './support/credentials.ts';
import { TestSession } from './support/session.ts';

const { ONLINE, OFFLINE } = UserStatus;
type Seen = Pick<StatusUpdateEvent, 'userId' | 'status' | 'activity' | 'cause' | 'lastSeen' | 'version'>;

function clientOf(server: TestServer, value: string): PresenceClient {
  return createClient(
    PresenceService,
    createGrpcTransport({
      baseUrl: `http://127.0.0.1:${server.grpcPort}`,
      interceptors: [
        (next) => (request) => {
          request.header.set('authorization', `Bearer ${value}`);
          return next(request);
        },
      ],
    }),
  );
}

/** Somebody who watches, by one of the interfaces. */
interface Observer {
  readonly name: string;
  seen(): readonly Seen[];
  stop(): void;
}

function overGrpc(name: string, server: TestServer, value: string, users: readonly string[]): Observer {
  const watcher = new Watcher(clientOf(server, value), users);
  return { name, seen: () => watcher.events, stop: () => void watcher.stop() };
}

async function bySession(
  wire: 'gRPC' | 'WebSocket',
  server: TestServer,
  value: string,
  userId: string,
  users: readonly string[],
): Promise<Observer> {
  const session = TestSession.open(wire, server, value);
  assert.equal(await session.ask({ case: 'hello', value: { userId } }), 'welcome');
  assert.equal(await session.ask({ case: 'watch', value: { userIds: [...users] } }), 'ack');
  const seen = () =>
    session.frames.flatMap(({ frame }) => (frame.case === 'events' ? frame.value.events : []));
  return { name: `${wire} session of ${userId || 'nobody'}`, seen, stop: () => session.drop() };
}

async function byEvents(server: TestServer, value: string, users: readonly string[]): Promise<Observer> {
  const aborter = new AbortController();
  const response = await fetch(`${server.httpUrl}/v1/events?watch=${users.join(',')}`, {
    headers: { authorization: `Bearer ${value}` },
    signal: aborter.signal,
  });
  const seen: Seen[] = [];
  const read = async () => {
    let text = '';
    for await (const piece of response.body as unknown as AsyncIterable<Uint8Array>) {
      text += Buffer.from(piece).toString();
      const events = text.split('\n\n');
      text = events.pop() as string;
      for (const [, data] of events.join('\n').matchAll(/^data: (.*)$/gm)) {
        const { status, activity, cause, lastSeen, version, userId } = JSON.parse(data as string);
        seen.push({
          userId,
          status: UserStatus[status as keyof typeof UserStatus],
          activity: Activity[activity.replace('ACTIVITY_', '') as keyof typeof Activity],
          cause,
          lastSeen: BigInt(lastSeen),
          version: BigInt(version),
        });
      }
    }
  };
  read().catch(() => {});
  return { name: 'server-sent events', seen: () => seen, stop: () => aborter.abort() };
}

describe('privacy, two servers on one Redis', () => {
  let redis: RedisServer;
  let servers: readonly [TestServer, TestServer];
  let keys: { file: string; remove: () => void };
  let admin: PresenceClient;
  const observers: Observer[] = [];

  before(async () => {
    redis = await RedisServer.start();
    keys = apiKeysFile();
    const environment = {
      ...secureEnvironment(keys.file),
      REDIS_URL: redis.url,
      USER_STATUS_TTL: '1h',
      MAX_BLOCKED_USERS: '3',
    };
    servers = [await startServer(environment), await startServer(environment)];
    admin = clientOf(servers[0], apiKeys.admin);
  });
  after(async () => {
    for (const { stop } of observers) stop();
    await Promise.all(servers.map((server) => server.stop()));
    await redis.stop();
    keys.remove();
  });

  const on = (userId: string, activity = Activity.ACTIVE) =>
    admin.setUserStatus({ userId, status: ONLINE, activity });
  const off = (userId: string) => admin.setUserStatus({ userId, status: OFFLINE });

  async function observe(users: readonly string[], value: string, userId: string): Promise<Observer[]> {
    const [first, second] = servers;
    const found = [
      overGrpc('gRPC subscription', first, value, users),
      overGrpc('gRPC subscription at the other server', second, value, users),
      await bySession('WebSocket', first, value, userId, users),
      await bySession('gRPC', second, value, userId, users),
      await byEvents(second, value, users),
    ];
    observers.push(...found);
    await waitFor('all snapshots', () => found.every(({ seen }) => seen().length === users.length));
    return found;
  }

  function story({ seen }: Observer, userId: string): string {
    const events = seen().filter((event) => event.userId === userId);
    return events.map(({ status, activity }) => `${UserStatus[status]} ${Activity[activity]}`).join(', ');
  }

  /** What one who asks finds, but for times and versions, which must be there in both or in neither. */
  async function asked(server: TestServer, value: string, userId: string): Promise<unknown> {
    const client = clientOf(server, value);
    const { data } = await client.getUserStatus({ userId });
    const many = await client.getMultipleUserStatus({ userIds: ['nobody', userId] });
    const http = await fetch(`${server.httpUrl}/v1/users/${userId}/status`, {
      headers: { authorization: `Bearer ${value}` },
    });
    const body = (await http.json()) as { data: Record<string, unknown> };
    const connections = await client.getConnections({ userId }).catch((error: unknown) => errorCode(error));
    return JSON.parse(
      JSON.stringify([data, many.data[1], body.data, connections], (name, it) => {
        if (name === 'userId') return 'somebody';
        if (['lastSeen', 'since', 'version'].includes(name)) return BigInt(it) > 0n;
        return typeof it === 'bigint' ? `${it}` : it;
      }),
    );
  }

  for (const how of ['block', 'invisible'] as const) {
    it(`who hides (${how}) and who leaves look the same, in all that is told and asked`, async () => {
      const hider = `hider-${how}`;
      const leaver = `leaver-${how}`;
      const users = [hider, leaver];
      const vic = await token('vic');
      const fooled = await observe(users, vic, 'vic');
      const values = [vic];
      if (how === 'invisible') {
        fooled.push(...(await observe(users, apiKeys.read, '')));
        values.push(apiKeys.read);
      }
      const insiders = [
        overGrpc('admin', servers[1], apiKeys.admin, users),
        overGrpc('the hider', servers[1], await token(hider), [hider]),
      ];
      if (how === 'block') insiders.push(...(await observe(users, await token('fay'), 'fay')));
      observers.push(...insiders);
      const sees = (observer: Observer, userId: string, expected: string) =>
        waitFor(
          () => `${observer.name} to see: ${expected}; it sees: ${story(observer, userId)}`,
          () => story(observer, userId) === expected,
        );
      const agree = async (expected: string) => {
        for (const observer of fooled) for (const userId of users) await sees(observer, userId, expected);
        for (const server of servers) {
          for (const value of values) {
            assert.deepEqual(await asked(server, value, hider), await asked(server, value, leaver));
          }
        }
      };
      const hide = (isHidden: boolean) => {
        const list = isHidden ? { addBlocked: ['vic'] } : { removeBlocked: ['vic'] };
        return admin.setPrivacy({ userId: hider, ...(how === 'block' ? list : { invisible: isHidden }) });
      };

      await Promise.all(users.map((userId) => on(userId)));
      await agree('OFFLINE UNSPECIFIED, ONLINE ACTIVE');
      await Promise.all([hide(true), off(leaver)]);
      await agree('OFFLINE UNSPECIFIED, ONLINE ACTIVE, OFFLINE UNSPECIFIED');
      await on(hider, Activity.AWAY);
      await off(hider);
      await on(hider, Activity.IDLE);
      const device = TestSession.open('WebSocket', servers[0], await token(hider));
      assert.equal(
        await device.ask({ case: 'hello', value: { userId: hider, activity: Activity.IDLE } }),
        'welcome',
      );
      await device.ask({ case: 'setCustomStatus', value: { text: 'secret' } });
      await agree('OFFLINE UNSPECIFIED, ONLINE ACTIVE, OFFLINE UNSPECIFIED');
      await device.ask({ case: 'setCustomStatus', value: { text: '' } });
      await Promise.all([hide(false), on(leaver, Activity.IDLE)]);
      const appeared = 'OFFLINE UNSPECIFIED, ONLINE ACTIVE, OFFLINE UNSPECIFIED, ONLINE IDLE';
      for (const observer of fooled) for (const userId of users) await sees(observer, userId, appeared);
      await device.ask({ case: 'goodbye', value: {} });
      await Promise.all([hide(true), off(leaver)]);
      await off(hider);
      await hide(false);
      await agree(`${appeared}, OFFLINE UNSPECIFIED`);

      for (const observer of insiders) {
        await waitFor(`${observer.name} to see all`, () => story(observer, hider).split(', ').length >= 7);
        assert.match(story(observer, hider), /ONLINE ACTIVE, ONLINE AWAY, OFFLINE UNSPECIFIED, ONLINE IDLE/);
      }
      for (const observer of [...fooled, ...insiders]) {
        const versions = observer.seen().filter(({ userId }) => userId === hider);
        const numbers = versions.map(({ version }) => Number(version));
        assert.deepEqual(
          numbers,
          [...new Set(numbers)].toSorted((x, y) => x - y),
          observer.name,
        );
      }
    });
  }

  it('conceals last seen, and shows it to those who show theirs, as they change their minds', async () => {
    const { NOBODY, RECIPROCAL, EVERYONE } = LastSeenVisibility;
    await on('una');
    await off('una');
    const one = overGrpc('vic', servers[0], await token('vic'), ['una']);
    const two = await bySession('WebSocket', servers[1], await token('vic'), 'vic', ['una']);
    const anyone = overGrpc('a backend', servers[1], apiKeys.read, ['una']);
    observers.push(one, two, anyone);
    const concealed = ({ seen }: Observer) => {
      const last = seen().at(-1);
      return last?.lastSeen === 0n && last.version === 0n;
    };
    const both = (isConcealed: boolean) => () =>
      [one, two].every((it) => it.seen().length > 0 && concealed(it) === isConcealed);
    await waitFor('last seen to be shown', both(false));
    await admin.setPrivacy({ userId: 'una', lastSeen: NOBODY });
    await waitFor('it to be concealed', both(true));
    assert.equal(
      (await clientOf(servers[0], await token('vic')).getUserStatus({ userId: 'una' })).data?.since,
      0n,
    );
    await admin.setPrivacy({ userId: 'una', lastSeen: RECIPROCAL });
    await waitFor('it to be shown to who shows theirs', both(false));
    await admin.setPrivacy({ userId: 'vic', lastSeen: NOBODY });
    await waitFor('it to be concealed from who does not', both(true));
    const { data } = await clientOf(servers[1], await token('vic')).getUserStatus({ userId: 'una' });
    assert.equal(data?.lastSeen, 0n);
    await admin.setPrivacy({ userId: 'vic', lastSeen: EVERYONE });
    await waitFor('it to be shown again', both(false));
    assert.ok(concealed(anyone), 'not to a backend');
    const own = await clientOf(servers[1], await token('una')).getUserStatus({ userId: 'una' });
    assert.ok((own.data?.lastSeen ?? 0n) > 0n);
  });

  it('tells privacy to the user, and refuses what cannot be', async () => {
    const una = clientOf(servers[0], await token('pia'));
    const { privacy } = await una.setPrivacy({ userId: 'pia', invisible: true, addBlocked: ['b', 'a'] });
    assert.deepEqual(privacy?.blockedUserIds, ['b', 'a']);
    const { privacy: kept } = await una.setPrivacy({ userId: 'pia', removeBlocked: ['b'] });
    assert.deepEqual([kept?.invisible, kept?.blockedUserIds], [true, ['a']]);
    const { privacy: read } = await clientOf(servers[1], await token('pia')).getPrivacy({ userId: 'pia' });
    assert.deepEqual(read, kept);
    for (const wrong of [
      { addBlocked: ['pia'] },
      { addBlocked: ['c'], removeBlocked: ['c'] },
      { addBlocked: [''] },
      { addBlocked: ['c', 'd'] },
      { lastSeen: 9 as LastSeenVisibility },
    ]) {
      await assert.rejects(
        una.setPrivacy({ userId: 'pia', ...wrong }),
        (error) => errorCode(error) === 'INVALID_ARGUMENT',
      );
    }
    assert.deepEqual((await una.getPrivacy({ userId: 'pia' })).privacy, kept);
  });
});

describe('privacy without authentication', () => {
  it('goes by the user whom a session or a subscription names', async () => {
    const server = await startServer({ USER_STATUS_TTL: '1h' });
    try {
      await server.client.setUserStatus({ userId: 'una', status: ONLINE });
      await server.client.setPrivacy({ userId: 'una', addBlocked: ['vic'] });
      const blocked = new Watcher(server.client, ['una'], 'vic');
      const stranger = new Watcher(server.client, ['una']);
      await blocked.sees('una', '[OFFLINE]');
      await stranger.sees('una', '[ONLINE]');
      const session = TestSession.open('WebSocket', server, null);
      await session.ask({ case: 'hello', value: { userId: 'vic' } });
      await session.ask({ case: 'query', value: { userIds: ['una'] } });
      const states = session.frames.flatMap(({ frame }) =>
        frame.case === 'states' ? frame.value.states : [],
      );
      assert.equal(states[0]?.status, OFFLINE);
      session.drop();
      await Promise.all([blocked.stop(), stranger.stop()]);
    } finally {
      await server.stop();
    }
  });
});
