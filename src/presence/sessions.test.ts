import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { waitFor } from '../../test/support/wait.ts';
import type { UserState } from '../core/presence.ts';
import { silentLog } from '../observe/log.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { Connections } from './connections.ts';
import { PresenceService } from './presence-service.ts';
import { type SessionEnd, sessionEnds } from './session-ends.ts';
import type { SessionLink, SessionMessage } from './session-messages.ts';
import { Sessions } from './sessions.ts';
import { WatchHub } from './watch-hub.ts';

/** A link that remembers what it was given, and is full when told so. */
class TestLink implements SessionLink {
  readonly messages: SessionMessage[] = [];
  end: SessionEnd | undefined;
  isFull = false;
  isPaused = false;
  pings = 0;
  canPing = true;

  send(message: SessionMessage): boolean {
    this.messages.push(message);
    return !this.isFull;
  }
  close(end: SessionEnd): void {
    this.end = end;
  }
  ping(): void {
    this.pings++;
  }
  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }

  get states(): UserState[] {
    return this.messages.flatMap((it) => (it.kind === 'events' ? it.events.map(({ state }) => state) : []));
  }
}

describe('sessions', () => {
  let sessions: Sessions;
  let store: MemoryStore;
  let connections: Connections;
  let hub: WatchHub;

  beforeEach(async () => {
    const ttlMs = 10_000;
    store = new MemoryStore({
      ttlMs,
      disconnectGraceMs: 100,
      maxConnectionsPerUser: 3,
      partitions: 4,
      lastSeenTtlMs: 60_000,
      clock: { nowMs: Date.now },
    });
    hub = new WatchHub({
      store,
      partitions: 4,
      maxWatchedUsers: 10_000,
      ttlMs,
      lastSeenTtlMs: 60_000,
      log: silentLog,
    });
    connections = new Connections({ store, ttlMs, log: silentLog });
    const presence = new PresenceService({
      store,
      hub,
      connections,
      heartbeatIntervalMs: 100,
      maxBulkUsers: 100,
      maxWatchedUsers: 10_000,
      maxBlockedUsers: 10,
    });
    sessions = new Sessions({
      presence,
      connections,
      pingIntervalMs: 100,
      pongTimeoutMs: 100,
      idleAfterMs: 0,
      helloTimeoutMs: 150,
      maxFramesPerSecond: 1000,
      maxSessions,
      maxSessionsWithoutHello: 2,
      log: silentLog,
    });
    await store.start();
    sessions.start();
  });
  afterEach(async () => {
    sessions.stop();
    connections.stop();
    await store.stop();
  });

  const maxSessions = 1500;
  const hello = {
    requestId: 1,
    kind: 'hello',
    userId: 'u',
    device: '',
    resumeToken: '',
    activity: null,
    token: '',
    answersPings: false,
  } as const;

  async function open(): Promise<{ link: TestLink; session: ReturnType<Sessions['open']> }> {
    const link = new TestLink();
    const session = sessions.open(link);
    session.receive(hello);
    await waitFor('the welcome', () => link.messages[0]?.kind === 'welcome');
    return { link, session };
  }

  it('end when no hello comes', async () => {
    const link = new TestLink();
    sessions.open(link);
    await waitFor('the end', () => link.end === 'HELLO_TIMEOUT');
    assert.equal(link.messages[0]?.kind, 'going-away');
    assert.deepEqual(sessions.stats().ends, { HELLO_TIMEOUT: 1 });
  });

  it('stay when the answer came while the server itself stood still', async (context) => {
    const listener = createServer().listen(0, '127.0.0.1');
    context.after(() => listener.close());
    await once(listener, 'listening');
    const accepted = once(listener, 'connection');
    const client = connect((listener.address() as AddressInfo).port, '127.0.0.1');
    context.after(() => client.destroy());
    const [socket] = (await accepted) as [Socket];
    const { link, session } = await open();
    const answered = new Promise<void>((resolve) => {
      socket.on('data', () => {
        session.receiveControl();
        resolve();
      });
    });
    client.on('data', () => {
      client.write('pong');
      // Longer than a pong may take.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
    });
    link.ping = () => {
      link.ping = () => {};
      socket.write('ping');
    };
    await answered;
    assert.equal(link.end, undefined);
  });

  it('are pinged when silent, and end when no pong comes', async () => {
    const { link, session } = await open();
    for (let round = 1; round <= 3; round++) {
      await waitFor('a ping', () => link.pings === round);
      session.receiveControl();
    }
    await waitFor('the end', () => link.end === 'PING_TIMEOUT');
    assert.equal(connections.stats().held, 0);
  });

  /** A session of a client that answers ping frames. */
  async function openAnswering(canPing = true) {
    const link = new TestLink();
    link.canPing = canPing;
    const session = sessions.open(link);
    session.receive({ ...hello, answersPings: true });
    await waitFor('the welcome', () => link.messages[0]?.kind === 'welcome');
    const frames = () => link.messages.filter(({ kind }) => kind === 'ping').length;
    return { link, session, frames };
  }

  const answer = { requestId: 0, kind: 'heartbeat', activity: null } as const;

  for (const canPing of [true, false]) {
    it(`ask by frames who answers them, ${canPing ? 'whatever' : 'where nothing else'} the transport can do`, async () => {
      const { link, session, frames } = await openAnswering(canPing);
      assert.equal(link.messages[0]?.kind === 'welcome' && link.messages[0].pingIntervalMs, 100);
      for (let round = 1; round <= 3; round++) {
        await waitFor('a ping frame', () => frames() >= round);
        session.receive(answer);
      }
      await waitFor('the end', () => link.end === 'PING_TIMEOUT');
      assert.equal(link.pings, 0);
      assert.equal(connections.stats().held, 0);
    });
  }

  it('take no pong, which a proxy or a browser sends for a frozen client, for an answer', async () => {
    const { link, session, frames } = await openAnswering();
    const pongs = setInterval(() => session.receiveControl(), 10);
    try {
      await waitFor('a ping frame', () => frames() === 1);
      await waitFor('the end', () => link.end === 'PING_TIMEOUT');
    } finally {
      clearInterval(pongs);
    }
  });

  it('go on without an answer to ping frames where the hello promised none', async () => {
    const link = new TestLink();
    link.canPing = false;
    const session = sessions.open(link);
    session.receive(hello);
    await waitFor('ping frames', () => link.messages.filter(({ kind }) => kind === 'ping').length >= 4);
    assert.equal(link.messages[0]?.kind === 'welcome' && link.messages[0].pingIntervalMs, 0);
    assert.equal(session.isEnded, false);
  });

  it('send ping frames also to who talks all the time, so that neither direction is ever quiet', async () => {
    const { session, frames } = await openAnswering();
    const talk = setInterval(() => session.receive(answer), 10);
    try {
      await waitFor('three ping frames', () => frames() >= 3);
    } finally {
      clearInterval(talk);
    }
  });

  it('wait for an answer that could not be read while the client was not read from', async () => {
    const { link, session, frames } = await openAnswering();
    await waitFor('a ping frame', () => frames() === 1);
    link.isFull = true;
    session.receive({ requestId: 2, kind: 'query', userIds: [] });
    await waitFor('to be full', () => link.isPaused);
    await new Promise((resolve) => setTimeout(resolve, 150));
    link.isFull = false;
    session.drained();
    assert.equal(session.isEnded, false);
    session.receive(answer);
    await waitFor('another ping frame', () => frames() >= 2);
    await waitFor('the end', () => link.end === 'PING_TIMEOUT');
  });

  it('are refused beyond the most, and while stopping', async () => {
    const first = await open();
    for (let count = 1; count < maxSessions; count++) {
      sessions.open(new TestLink()).receive({ ...hello, userId: '' });
    }
    assert.match(sessions.refusal()?.message ?? '', /as many sessions/);
    first.session.end('GOODBYE');
    first.session.closed();
    assert.equal(sessions.refusal(), null);
    await sessions.drain(0);
    assert.match(sessions.refusal()?.message ?? '', /stopping/);
  });

  it('of a full link keep one state for each user, and send it when there is room', async () => {
    const { link, session } = await open();
    const users = Array.from({ length: 2000 }, (_, index) => `user ${index}`);
    link.isFull = true;
    session.receive({ requestId: 2, kind: 'watch', userIds: users, knownVersions: [] });
    await waitFor('the first batch', () => link.states.length > 0);
    const sent = link.states.length;
    assert.ok(sent <= 512, `${sent} were sent to a full link`);
    for (const activity of ['ACTIVE', 'IDLE', 'AWAY'] as const) {
      for (const user of users) await store.setOnline(user, activity);
    }
    assert.equal(link.states.length, sent);
    assert.equal(link.isPaused, true);
    link.isFull = false;
    session.drained();
    await waitFor('the acknowledgement', () => link.messages.some((it) => it.kind === 'ack'));
    assert.equal(link.isPaused, false);
    const latest = new Map(link.states.map((state) => [state.userId, state]));
    assert.equal(latest.size, users.length);
    assert.ok([...latest.values()].every(({ activity }) => activity === 'AWAY'));
    assert.ok(link.states.length <= sent + users.length + 512, `${link.states.length} states were sent`);
  });

  it('that all watch the same user are told in turns, so that the server goes on answering', async () => {
    const links = Array.from({ length: maxSessions }, () => new TestLink());
    await Promise.all(
      links.map(async (link, index) => {
        link.canPing = false;
        const session = sessions.open(link);
        session.receive({ ...hello, userId: '' });
        await waitFor('the welcome', () => link.messages[0]?.kind === 'welcome');
        session.receive({ requestId: 2, kind: 'watch', userIds: ['star'], knownVersions: [] });
        await waitFor(`the acknowledgement of ${index}`, () =>
          link.messages.some(({ kind }) => kind === 'ack'),
        );
      }),
    );
    const told = () => links.filter(({ states }) => states.at(-1)?.status === 'ONLINE').length;
    await store.setOnline('star', null);
    const turns: number[] = [];
    while (turns.at(-1) !== links.length && turns.length < 100) {
      assert.equal(
        hub.stats().fanOut.count,
        0,
        `the fan-out was over when so many were told: ${turns.at(-1)}`,
      );
      await new Promise((resolve) => setImmediate(resolve));
      turns.push(told());
    }
    await waitFor('the end of the fan-out', () => hub.stats().fanOut.count === 1);
    assert.equal(turns.at(-1), links.length);
    assert.ok(turns.length >= 3, `told so many after each turn: ${turns}`);
  });

  it('have a close code each', () => {
    // A withdrawn token is no token: clients do the same about both.
    const { WITHDRAWN, ...others } = sessionEnds;
    const codes = Object.values(others).map(({ closeCode }) => closeCode);
    assert.equal(new Set(codes).size, codes.length);
    assert.equal(WITHDRAWN.closeCode, sessionEnds.UNAUTHORIZED.closeCode);
  });
});
