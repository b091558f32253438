import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { UserState } from '../core/presence.ts';
import { openPrivacy } from '../core/privacy.ts';
import { stranger } from '../core/sight.ts';
import type { FeedListener, PresenceStore } from '../core/store.ts';
import { silentLog } from '../observe/log.ts';
import { StateReader } from './state-reader.ts';
import type { WatchEvent } from './subscription.ts';
import { WatchHub } from './watch-hub.ts';

const ttlMs = 300;

function stateOf(userId: string, status: 'ONLINE' | 'OFFLINE', version: number): UserState {
  return {
    userId,
    status,
    activity: status === 'ONLINE' ? 'ACTIVE' : null,
    cause: version === 0 ? null : 'SET',
    customStatus: null,
    sinceMs: version,
    changedAtMs: version,
    lastSeenMs: version,
    version,
  };
}

/** A store that holds what the test says, and counts what is asked. */
class ScriptedStore {
  readonly states = new Map<string, UserState>();
  readonly asked: string[] = [];
  isHealthy = true;
  listener: FeedListener | undefined;

  onFeed(listener: FeedListener): void {
    this.listener = listener;
  }

  async follow(): Promise<void> {}

  unfollow(): void {}

  isCurrent(): boolean {
    return this.isHealthy;
  }

  async read(userIds: readonly string[]): Promise<UserState[]> {
    this.asked.push(...userIds);
    return userIds.map((userId) => this.states.get(userId) ?? stateOf(userId, 'OFFLINE', 0));
  }
}

async function watch(...userIds: string[]) {
  const store = new ScriptedStore();
  for (const userId of userIds) store.states.set(userId, stateOf(userId, 'ONLINE', 10));
  const hub = new WatchHub({
    store: store as unknown as PresenceStore,
    partitions: 1,
    maxWatchedUsers: 10,
    ttlMs,
    lastSeenTtlMs: 60_000,
    log: silentLog,
  });
  const events: WatchEvent[] = [];
  const subscription = hub.subscribe({
    send: (event) => {
      events.push(event);
      return true;
    },
  });
  await subscription.watch(userIds);
  store.asked.length = 0;
  const told = () => events.map(({ state }) => `${state.userId} ${state.status} ${state.version}`);
  return { store, hub, reader: new StateReader(store as unknown as PresenceStore, hub, stranger), told };
}

const until = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('state reader', () => {
  it('reads a user who is asked for many times once, and answers each time', async () => {
    const { store, reader } = await watch('ada');
    store.states.set('bob', { ...stateOf('bob', 'ONLINE', 5), privacy: openPrivacy });
    const before = store.asked.length;
    const states = await reader.read(['bob', 'ada', 'bob', 'carol', 'bob']);
    assert.deepEqual(store.asked.slice(before), ['bob', 'carol']);
    assert.deepEqual(
      states.map(({ userId }) => userId),
      ['bob', 'ada', 'bob', 'carol', 'bob'],
    );
  });

  it('answers watched users from memory, and asks the store for the others, in order', async () => {
    const { store, reader } = await watch('ada', 'bea');
    store.states.set('cleo', stateOf('cleo', 'ONLINE', 7));
    const states = await reader.read(['ada', 'cleo', 'bea']);
    assert.deepEqual(
      states.map(({ userId }) => userId),
      ['ada', 'cleo', 'bea'],
    );
    assert.deepEqual(store.asked, ['cleo']);
  });

  it("asks again for an ONLINE user's last seen after a second, and shares the answer for the next", async () => {
    const { store, reader } = await watch('ada');
    await until(1100);
    store.states.set('ada', { ...stateOf('ada', 'ONLINE', 10), lastSeenMs: 99 });
    assert.equal((await reader.read(['ada']))[0]?.lastSeenMs, 99);
    assert.equal((await reader.read(['ada']))[0]?.lastSeenMs, 99);
    assert.deepEqual(store.asked, ['ada']);
  });

  it('asks the store while the feed is not to be trusted', async () => {
    const { store, reader } = await watch('ada');
    store.isHealthy = false;
    await reader.read(['ada']);
    assert.deepEqual(store.asked, ['ada']);
  });

  it('never answers older than what a caller of this node wrote', async () => {
    const { store, hub, reader } = await watch('ada');
    const written = stateOf('ada', 'OFFLINE', 11);
    store.states.set('ada', written);
    hub.written('ada', 11);
    assert.deepEqual(await reader.read(['ada']), [written]);
    assert.deepEqual(store.asked, ['ada']);
  });
});

describe('watch hub, after a loss', () => {
  it('keeps ONLINE users for one TTL when the engine lost its data, and lets go who does not come back', async () => {
    const { store, reader, told } = await watch('stays', 'goes');
    store.states.clear();
    store.listener?.lost(0);
    await until(ttlMs / 3);
    store.listener?.transitions([stateOf('stays', 'ONLINE', 20)]);
    assert.deepEqual(told(), ['stays ONLINE 10', 'goes ONLINE 10'], 'coming back is no news');
    assert.equal((await reader.read(['goes']))[0]?.status, 'ONLINE');
    store.states.set('stays', stateOf('stays', 'ONLINE', 20));
    await until(ttlMs);
    assert.deepEqual(told().slice(2), ['goes OFFLINE 0']);
  });

  it('believes at once an OFFLINE that is newer than what it knows', async () => {
    const { store, told } = await watch('ada');
    store.states.set('ada', stateOf('ada', 'OFFLINE', 12));
    store.listener?.lost(0);
    await until(20);
    assert.deepEqual(told(), ['ada ONLINE 10', 'ada OFFLINE 12']);
  });

  it('does not take a read for fresh that was sent before the loss', async () => {
    const { store, told } = await watch('ada');
    const early = Promise.withResolvers<UserState[]>();
    const read = store.read.bind(store);
    store.read = () => early.promise;
    store.listener?.lost(0);
    store.listener?.lost(0);
    store.states.set('ada', stateOf('ada', 'OFFLINE', 13));
    store.read = read;
    early.resolve([stateOf('ada', 'ONLINE', 11)]);
    await until(20);
    assert.equal(told().at(-1), 'ada OFFLINE 13');
  });
});

describe('watch hub, with privacy', () => {
  const nowMs = Date.now();
  const times = { sinceMs: nowMs, changedAtMs: nowMs, lastSeenMs: nowMs };
  const face = { cause: 'SET', ...times, version: 11, customStatuses: [], lateMs: 0 } as const;
  const privacy = { ...openPrivacy, version: 11, invisible: { face, lifted: null } };
  const hidden = (version: number): UserState => ({ ...stateOf('ada', 'ONLINE', version), privacy });

  /** The next read is answered when the test says so. */
  function holdRead(store: ScriptedStore): (...states: UserState[]) => void {
    const held = Promise.withResolvers<UserState[]>();
    const read = store.read.bind(store);
    store.read = () => {
      store.read = read;
      return held.promise;
    };
    return (...states) => held.resolve(states);
  }

  it('tells nothing of a user whose privacy changed until it was read', async () => {
    const { store, hub, told } = await watch('ada');
    const answer = holdRead(store);
    store.listener?.privacyChanged('ada');
    assert.equal(hub.stateOf('ada'), undefined, 'queries ask the store meanwhile');
    store.listener?.transitions([{ ...stateOf('ada', 'ONLINE', 12), activity: 'AWAY' }]);
    await until(20);
    answer(hidden(10));
    await until(20);
    assert.deepEqual(told(), ['ada ONLINE 10', 'ada OFFLINE 11']);
  });

  it('answers as fast of a hidden user as of one who is OFFLINE', async () => {
    const { store, reader } = await watch('ada');
    store.states.set('ada', hidden(10));
    store.listener?.privacyChanged('ada');
    // Last seen of an ONLINE user is old then, and asked for.
    await until(1100);
    store.asked.length = 0;
    assert.equal((await reader.read(['ada']))[0]?.status, 'OFFLINE');
    assert.deepEqual(store.asked, []);
  });

  it('reads again where privacy changed while it was read', async () => {
    const { store, told } = await watch('ada');
    const answer = holdRead(store);
    store.listener?.privacyChanged('ada');
    store.states.set('ada', hidden(10));
    store.listener?.privacyChanged('ada');
    answer({ ...stateOf('ada', 'ONLINE', 10), activity: 'AWAY' });
    await until(20);
    assert.deepEqual(told(), ['ada ONLINE 10', 'ada OFFLINE 11']);
  });

  it('tells no transition before the first read, which may bring privacy', async () => {
    const { store, hub } = await watch('bea');
    const answer = holdRead(store);
    const events: string[] = [];
    const send = ({ state }: WatchEvent) => events.push(`${state.status} ${state.version}`) > 0;
    const watching = hub.subscribe({ send }).watch(['ada']);
    store.listener?.transitions([stateOf('ada', 'ONLINE', 12)]);
    await until(20);
    answer(hidden(10));
    await watching;
    assert.deepEqual(events, ['OFFLINE 11']);
  });

  it('tells no transition after a loss, in which privacy may have changed, before a read', async () => {
    const { store, told } = await watch('ada');
    store.states.set('ada', hidden(10));
    const reload = holdRead(store);
    store.listener?.lost(0);
    store.listener?.transitions([{ ...stateOf('ada', 'ONLINE', 12), activity: 'AWAY' }]);
    await until(20);
    reload(stateOf('ada', 'ONLINE', 10));
    await until(20);
    assert.deepEqual(told(), ['ada ONLINE 10', 'ada OFFLINE 11']);
  });
});
