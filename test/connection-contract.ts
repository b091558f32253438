import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { ConnectionKind } from '../src/core/connections.ts';
import type { UserState } from '../src/core/presence.ts';
import type { ConnectionOpening, ConnectionRenewal, PresenceStore } from '../src/core/store.ts';
import { contractPolicy, followAll, type StoreHarness } from './store-harness.ts';
import { waitFor } from './support/wait.ts';

let nextUser = 0;
const anyUser = (): string => `connected user ${nextUser++} é`;
const { ttlMs, disconnectGraceMs, maxConnectionsPerUser } = contractPolicy;

function sessionOf(
  userId: string,
  connectionId: string,
  more: Partial<ConnectionOpening> = {},
): ConnectionOpening {
  const connection = {
    connectionId,
    kind: 'session',
    device: `device é of ${connectionId}`,
    activity: 'ACTIVE',
  } as const;
  return { userId, connection, replaces: null, isResumed: false, ...more };
}

function connectionOf(kind: ConnectionKind, userId: string, connectionId: string): ConnectionOpening {
  const opening = sessionOf(userId, connectionId);
  if (kind === 'session') return opening;
  return { ...opening, connection: { connectionId, kind, device: '', activity: null } };
}

const renewalOf = ({ userId, connection }: ConnectionOpening, sinceMs: number): ConnectionRenewal => ({
  userId,
  connection: { ...connection, sinceMs },
});

/** What core/store.ts says of connections and custom statuses, checked on one engine. */
export function testConnectionContract(name: string, start: () => Promise<StoreHarness>): void {
  describe(`connection contract: ${name}`, () => {
    let harness: StoreHarness;
    let store: PresenceStore;
    let other: PresenceStore;
    const told = new Map<string, UserState[]>();
    const evicted: string[] = [];
    const toldOf = (userId: string): UserState[] => told.get(userId) ?? [];
    const textsOf = (userId: string) => toldOf(userId).map(({ customStatus }) => customStatus?.text ?? null);

    before(async () => {
      harness = await start();
      store = harness.store;
      other = harness.other ?? store;
      store.onFeed({
        transitions: (states) => {
          for (const state of states) told.set(state.userId, [...toldOf(state.userId), state]);
        },
        privacyChanged: () => {},
        lost: (partition) => assert.fail(`the feed lost partition ${partition}`),
      });
      store.onEvicted((connectionId) => evicted.push(connectionId));
      await followAll(store);
    });
    after(() => harness.stop());

    const readOne = async (userId: string): Promise<UserState> => {
      const [state] = await store.read([userId]);
      return state as UserState;
    };

    it('lights a user by a session, lists it, and keeps it by renewals', async () => {
      const user = anyUser();
      const opening = sessionOf(user, `${user}/a`);
      const opened = await store.connect(opening);
      assert.equal(opened.replaced, false);
      assert.equal(opened.sinceMs, opened.nowMs);
      assert.deepEqual([opened.state.status, opened.state.cause], ['ONLINE', 'CONNECT']);
      assert.deepEqual(opened.state, await readOne(user));
      assert.deepEqual(await other.readConnections(user), [
        { ...opening.connection, sinceMs: opened.sinceMs, lastSeenMs: opened.nowMs },
      ]);
      for (let round = 0; round < 3; round++) {
        await harness.pass(ttlMs / 2);
        assert.deepEqual(await store.renewConnections([renewalOf(opening, opened.sinceMs)]), []);
      }
      const [seen] = await store.readConnections(user);
      assert.equal(seen?.sinceMs, opened.sinceMs);
      assert.ok((seen?.lastSeenMs ?? 0) >= opened.nowMs + ttlMs);
      assert.equal((await readOne(user)).version, opened.state.version);
      await waitFor('the one transition', () => toldOf(user).length === 1);
    });

    it('takes a connection that nobody renews for lost with its node', async () => {
      const user = anyUser();
      await store.connect(sessionOf(user, `${user}/a`));
      await harness.pass(ttlMs + 100);
      await waitFor('the loss', () => toldOf(user).length === 2);
      assert.equal(toldOf(user)[1]?.cause, 'NODE_LOST');
      assert.deepEqual(await store.readConnections(user), []);
    });

    async function checkBound(kind: ConnectionKind): Promise<void> {
      const user = anyUser();
      // Of the other kind as many as there may be: neither takes room from the other.
      const others = Array.from({ length: maxConnectionsPerUser }, (_, index) =>
        connectionOf(kind === 'session' ? 'stream' : 'session', user, `${user}/other ${index}`),
      );
      for (const opening of others) await store.connect(opening);
      const openings = Array.from({ length: maxConnectionsPerUser + 1 }, (_, index) =>
        connectionOf(kind, user, `${user}/${index}`),
      );
      const sinceMs: number[] = [];
      for (const [index, opening] of openings.entries()) {
        const node = index === openings.length - 1 ? other : store;
        sinceMs.push((await node.connect(opening)).sinceMs);
        await harness.pass(2);
      }
      const oldest = openings[0] as ConnectionOpening;
      await waitFor('the oldest to be told', () => evicted.includes(oldest.connection.connectionId));
      const ids = async () =>
        (await store.readConnections(user))
          .map(({ connectionId }) => connectionId)
          .filter((id) => !id.includes('other'));
      const kept = openings.slice(1).map(({ connection }) => connection.connectionId);
      assert.deepEqual(await ids(), kept);
      const renewals = openings.map((opening, index) => renewalOf(opening, sinceMs[index] as number));
      assert.deepEqual(await store.renewConnections(renewals), [oldest.connection.connectionId]);
      assert.deepEqual(await ids(), kept);
      // With room again it could come back, as one that the engine had lost does.
      await store.disconnect(user, kept[0] as string);
      assert.deepEqual(await store.renewConnections(renewals.slice(0, 1)), []);
      assert.deepEqual(await ids(), [oldest.connection.connectionId, ...kept.slice(1)]);
      const all = await store.readConnections(user);
      assert.equal(all.length, 2 * maxConnectionsPerUser, 'none of the other kind lost its place');
    }

    it('ends the oldest session beyond the bound, notifies its node, and does not let it back', () =>
      checkBound('session'));

    it('ends the oldest stream beyond the bound, notifies its node, and does not let it back', () =>
      checkBound('stream'));

    it('gives a resumed session the place and the age of the one before', async () => {
      const user = anyUser();
      const { sinceMs } = await store.connect(sessionOf(user, `${user}/a`));
      await harness.pass(50);
      const resumed = { replaces: `${user}/a`, isResumed: true };
      const opened = await other.connect(sessionOf(user, `${user}/b`, resumed));
      assert.equal(opened.replaced, true);
      assert.equal(opened.sinceMs, sinceMs);
      await store.disconnect(user, `${user}/a`);
      await harness.pass(disconnectGraceMs + 100);
      assert.equal((await readOne(user)).status, 'ONLINE');
      await store.setOffline(user);
      const again = await store.connect(
        sessionOf(user, `${user}/c`, { replaces: `${user}/b`, isResumed: true }),
      );
      assert.equal(again.state.status, 'OFFLINE');
      assert.deepEqual(await store.renewConnections([renewalOf(sessionOf(user, `${user}/c`), sinceMs)]), []);
      assert.equal((await readOne(user)).status, 'OFFLINE');
      assert.equal((await store.connect(sessionOf(user, `${user}/d`))).state.status, 'ONLINE');
    });

    it('merges what devices say', async () => {
      const user = anyUser();
      await store.connect(sessionOf(user, `${user}/a`));
      await other.connect(sessionOf(user, `${user}/b`));
      assert.equal((await store.setConnectionActivity(user, `${user}/a`, 'AWAY')).activity, 'ACTIVE');
      assert.equal((await store.setConnectionActivity(user, `${user}/b`, 'IDLE')).activity, 'IDLE');
      assert.equal(
        (await other.setConnectionActivity(user, `${user}/a`, 'DO_NOT_DISTURB')).activity,
        'DO_NOT_DISTURB',
      );
      assert.equal((await other.setConnectionActivity(user, 'no such', 'ACTIVE')).activity, 'DO_NOT_DISTURB');
      await store.disconnect(user, `${user}/a`);
      assert.equal((await readOne(user)).activity, 'IDLE');
      assert.equal((await store.setConnectionActivity(anyUser(), 'no such', 'ACTIVE')).version, 0);
    });

    it('shows custom statuses, also of OFFLINE users, and lets those before return', async () => {
      const user = anyUser();
      const say = (text: string, lifeMs = 0) => store.setCustomStatus(user, { text, emoji: '🚀', lifeMs });
      const first = await say('at work');
      assert.deepEqual(first.customStatus, { text: 'at work', emoji: '🚀', expiresAtMs: 0 });
      assert.deepEqual([first.status, first.cause], ['OFFLINE', 'SET']);
      assert.deepEqual(await readOne(user), first);
      await say('at work');
      const meeting = await say('in a meeting', 700);
      assert.ok((meeting.customStatus?.expiresAtMs ?? 0) >= meeting.changedAtMs + 700);
      await store.setOnline(user, null);
      await say('coffee', 250);
      await harness.pass(350);
      await waitFor('the meeting to return', () => textsOf(user).at(-1) === 'in a meeting');
      await harness.pass(500);
      await waitFor('work to return', () => textsOf(user).at(-1) === 'at work');
      assert.deepEqual(textsOf(user), [
        'at work',
        'in a meeting',
        'in a meeting',
        'coffee',
        'in a meeting',
        'at work',
      ]);
      assert.equal(toldOf(user).at(-1)?.cause, 'EXPIRED');
      assert.deepEqual(await readOne(user), {
        ...toldOf(user).at(-1),
        lastSeenMs: (await readOne(user)).lastSeenMs,
      });
      assert.equal(
        (await store.setCustomStatus(user, { text: '', emoji: '', lifeMs: 0 })).customStatus,
        null,
      );
      assert.equal((await store.setOffline(user)).customStatus, null);
    });

    it('lets no more than three return', async () => {
      const user = anyUser();
      await store.setCustomStatus(user, { text: 'for good', emoji: '', lifeMs: 0 });
      for (const lifeMs of [5000, 4000, 3000, 250]) {
        await store.setCustomStatus(user, { text: `for ${lifeMs}`, emoji: '', lifeMs });
      }
      await harness.pass(350);
      await waitFor('the third to return', () => textsOf(user).at(-1) === 'for 3000');
    });
  });
}
