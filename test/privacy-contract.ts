import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { PresenceError } from '../src/core/errors.ts';
import type { UserState } from '../src/core/presence.ts';
import { blockedUsers, type PrivacyChange } from '../src/core/privacy.ts';
import { seenBy, stranger } from '../src/core/sight.ts';
import type { PresenceStore } from '../src/core/store.ts';
import { contractPolicy, followAll, type StoreHarness } from './store-harness.ts';
import { waitFor } from './support/wait.ts';

let nextUser = 0;
const anyUser = (): string => `private user ${nextUser++} é`;
const { ttlMs, disconnectGraceMs } = contractPolicy;

function change(wanted: Partial<PrivacyChange>): PrivacyChange {
  const nothing = { invisible: null, lastSeen: null, addBlocked: [], removeBlocked: [] };
  return { ...nothing, maxBlockedUsers: 100, ...wanted };
}

/** What core/store.ts says of privacy, on one engine. */
export function testPrivacyContract(name: string, start: () => Promise<StoreHarness>): void {
  describe(`store contract of privacy: ${name}`, () => {
    let harness: StoreHarness;
    let store: PresenceStore;
    /** What was told of each user, in order. */
    const told = new Map<string, string[]>();
    const tell = (userId: string, what: string) => told.set(userId, [...(told.get(userId) ?? []), what]);

    before(async () => {
      harness = await start();
      store = harness.store;
      store.onFeed({
        transitions: (states) => {
          for (const { userId, status } of states) tell(userId, status);
        },
        privacyChanged: (userId) => tell(userId, 'privacy'),
        lost: (partition) => assert.fail(`the feed lost partition ${partition}`),
      });
      await followAll(store);
    });
    after(() => harness.stop());

    const readOne = async (userId: string, from = store): Promise<UserState> => {
      const [state] = await from.read([userId]);
      return state as UserState;
    };

    it('tells of a change in order with the transitions, and brings it with reads on every node', async () => {
      const user = anyUser();
      const lit = await store.setOnline(user, null);
      assert.equal((await readOne(user)).privacy, undefined);
      const hidden = await store.setPrivacy(user, change({ invisible: true, lastSeen: 'nobody' }));
      const { privacy } = hidden;
      assert.ok(privacy && privacy.version > lit.version);
      assert.equal(hidden.version, lit.version, 'it is no transition');
      assert.deepEqual(await readOne(user), hidden);
      assert.deepEqual(await readOne(user, harness.other), hidden);
      const out = await store.setOffline(user);
      assert.ok(out.version > privacy.version);
      await waitFor('all to be told', () => told.get(user)?.length === 3);
      assert.deepEqual(told.get(user), ['ONLINE', 'privacy', 'OFFLINE']);
    });

    it('comes with bulk reads too, of those who have it', async () => {
      const users = Array.from({ length: 40 }, anyUser);
      await Promise.all(users.map((user) => store.setOnline(user, null)));
      const hidden = [users[0], users[7], users[39]] as string[];
      await Promise.all(hidden.map((user) => store.setPrivacy(user, change({ invisible: true }))));
      for (const node of [store, harness.other ?? store]) {
        const states = await node.read(users);
        assert.deepEqual(
          states.filter(({ privacy }) => privacy?.invisible).map(({ userId }) => userId),
          hidden,
        );
      }
    });

    it('keeps what was seen when a hide began, and afterwards what happened secret', async () => {
      const user = anyUser();
      const lit = await store.setOnline(user, 'AWAY');
      await store.setCustomStatus(user, { text: 'before', emoji: '', lifeMs: 0 });
      const { privacy } = await store.setPrivacy(user, change({ addBlocked: ['bob'] }));
      const face = privacy?.blocked.get('bob')?.face;
      assert.ok(face && face.sinceMs >= lit.sinceMs);
      assert.equal(face.version, privacy?.version);
      assert.deepEqual(face.customStatuses, [{ text: 'before', emoji: '', expiresAtMs: 0 }]);
      await store.setCustomStatus(user, { text: 'secret', emoji: '', lifeMs: 0 });
      await store.setOffline(user);
      const after = await store.setPrivacy(user, change({ removeBlocked: ['bob'] }));
      const rules = { nowMs: after.changedAtMs, lastSeenTtlMs: 60_000, isReciprocal: false };
      const seen = seenBy({ userId: 'bob', seesAll: false }, await readOne(user), rules);
      assert.equal(seen.lastSeenMs, face.lastSeenMs);
      assert.equal(seen.sinceMs, face.sinceMs);
      assert.equal(seen.customStatus?.text, 'secret', 'what the user says now is no secret any more');
      assert.ok(seenBy(stranger, after, rules).sinceMs >= seen.sinceMs);
    });

    it('hides users who were never heard of', async () => {
      const user = anyUser();
      await store.setPrivacy(user, change({ invisible: true }));
      assert.equal((await readOne(user)).privacy?.invisible?.face.version, 0);
      const many = await store.read([user, ...Array.from({ length: 40 }, anyUser)]);
      assert.ok(many[0]?.privacy?.invisible);
      const lit = await store.setOnline(user, null);
      const rules = { nowMs: lit.sinceMs, lastSeenTtlMs: 60_000, isReciprocal: false };
      assert.equal(seenBy(stranger, await readOne(user), rules).version, 0);
    });

    it('renews the lease where the user appears, and ends the disconnect grace', async () => {
      const user = anyUser();
      const connection = { connectionId: `${user} c`, kind: 'session', device: '', activity: null } as const;
      await store.connect({ userId: user, connection, replaces: null, isResumed: false });
      await store.setPrivacy(user, change({ invisible: true }));
      await harness.pass(ttlMs * 0.7);
      await store.disconnect(user, connection.connectionId);
      await store.setPrivacy(user, change({ invisible: false }));
      await harness.pass(Math.max(disconnectGraceMs * 2, ttlMs * 0.6));
      assert.equal((await readOne(user)).status, 'ONLINE');
    });

    it('changes nothing where nothing changes, and keeps nothing that says nothing', async () => {
      const user = anyUser();
      await store.setPrivacy(user, change({}));
      await store.setPrivacy(
        user,
        change({ invisible: false, lastSeen: 'everyone', removeBlocked: ['bob'] }),
      );
      assert.equal((await readOne(user)).privacy, undefined);
      await store.setPrivacy(user, change({ addBlocked: ['bob'] }));
      const { privacy } = await store.setPrivacy(user, change({ addBlocked: ['bob'] }));
      assert.equal((await readOne(user)).privacy?.version, privacy?.version);
      await store.setPrivacy(user, change({ removeBlocked: ['bob'], lastSeen: 'nobody' }));
      await store.setOnline(user, null);
      await store.setPrivacy(user, change({ lastSeen: 'everyone' }));
      await store.setOffline(user);
      await store.setPrivacy(user, change({ addBlocked: ['cleo'] }));
      const { privacy: last } = await store.setPrivacy(user, change({ removeBlocked: ['cleo'] }));
      assert.deepEqual([...(last?.blocked.keys() ?? [])], ['cleo'], 'bob needs no entry any more');
      await waitFor(
        'changes to be told',
        () => told.get(user)?.filter((it) => it === 'privacy').length === 5,
      );
    });

    it('refuses a block list that is too long, and changes nothing by it', async () => {
      const user = anyUser();
      await store.setPrivacy(user, change({ addBlocked: ['a', 'b'], maxBlockedUsers: 2 }));
      const wanted = change({ addBlocked: ['c'], removeBlocked: ['a'], maxBlockedUsers: 2 });
      await assert.rejects(
        store.setPrivacy(user, wanted),
        (error) => error instanceof PresenceError && error.code === 'INVALID_ARGUMENT',
      );
      assert.deepEqual([...((await readOne(user)).privacy?.blocked.keys() ?? [])], ['a', 'b']);
    });

    it('loses none of many changes at once, among changes of status', async () => {
      const user = anyUser();
      const nodes = [store, harness.other ?? store];
      const names = Array.from({ length: 24 }, (_, index) => `watcher ${index}`);
      const changes = names.map(async (watcher, index) => {
        const node = nodes[index % 2] as PresenceStore;
        const toggle = index % 3 === 0 ? node.setOffline(user) : node.setOnline(user, null);
        await toggle;
        for (;;) {
          try {
            return await node.setPrivacy(user, change({ addBlocked: [watcher] }));
          } catch (error) {
            if (!(error instanceof PresenceError && error.code === 'REDIS_ERROR')) throw error;
          }
        }
      });
      await Promise.all(changes);
      const { privacy } = await readOne(user);
      assert.deepEqual(privacy && blockedUsers(privacy).toSorted(), names.toSorted());
    });
  });
}
