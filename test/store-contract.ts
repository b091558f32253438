import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { partitionOf } from '../src/core/partition.ts';
import {
  type Activity,
  apply,
  nextVersion,
  type PresenceEvent,
  type PresenceRecord,
  type UserState,
  unknownRecord,
} from '../src/core/presence.ts';
import type { ConnectionOpening, ConnectionRenewal, PresenceStore } from '../src/core/store.ts';
import { testConnectionContract } from './connection-contract.ts';
import { testPrivacyContract } from './privacy-contract.ts';
import { contractPartitions, contractPolicy, followAll, type StoreHarness } from './store-harness.ts';
import { waitFor } from './support/wait.ts';

export { contractPartitions, contractPolicy, type StoreHarness } from './store-harness.ts';

let nextUser = 0;
const anyUser = (): string => `contract user ${nextUser++} é`;
const { ttlMs, disconnectGraceMs } = contractPolicy;

/** Everything in core/store.ts, checked on one engine. */
export function testStoreContract(name: string, start: () => Promise<StoreHarness>): void {
  testConnectionContract(name, start);
  testPrivacyContract(name, start);
  describe(`store contract: ${name}`, () => {
    let harness: StoreHarness;
    let store: PresenceStore;
    const told = new Map<string, UserState[]>();
    const toldOf = (userId: string): UserState[] => told.get(userId) ?? [];

    before(async () => {
      harness = await start();
      store = harness.store;
      // A second node's changes are to be seen here too, so this node's listener suffices.
      store.onFeed({
        transitions: (states) => {
          for (const state of states) told.set(state.userId, [...toldOf(state.userId), state]);
        },
        privacyChanged: () => {},
        lost: (partition) => assert.fail(`the feed lost partition ${partition}`),
      });
      await followAll(store);
    });
    after(() => harness.stop());

    const readOne = async (userId: string): Promise<UserState> => {
      const [state] = await store.read([userId]);
      return state as UserState;
    };

    it('knows nothing of an unknown user', async () => {
      const user = anyUser();
      assert.deepEqual(await readOne(user), {
        userId: user,
        status: 'OFFLINE',
        activity: null,
        cause: null,
        sinceMs: 0,
        changedAtMs: 0,
        lastSeenMs: 0,
        version: 0,
        customStatus: null,
      });
    });

    it('deletes a user, tells of it, and lets no straggler set them online', async () => {
      const user = anyUser();
      const opening = openingOf(user, `${user}/1`, 'ACTIVE');
      const { sinceMs } = await store.connect(opening);
      await store.setCustomStatus(user, { text: 'busy', emoji: '', lifeMs: 0 });
      const privacy = { invisible: true, lastSeen: null, addBlocked: ['eve'], removeBlocked: [] };
      await store.setPrivacy(user, { ...privacy, maxBlockedUsers: 9 });
      const before = await readOne(user);
      const deleted = await store.deleteUser(user);
      assert.ok(deleted.version > before.version);
      const unknown = { ...deleted, version: 0 };
      assert.deepEqual(await readOne(user), unknown);
      assert.deepEqual(await store.readConnections(user), []);
      await waitFor('it to be told', () => toldOf(user).at(-1)?.version === deleted.version);
      assert.deepEqual(toldOf(user).at(-1), deleted);
      assert.equal(await store.heartbeat(user), false);
      await store.renewConnections([{ userId: user, connection: { ...opening.connection, sinceMs } }]);
      assert.deepEqual(await readOne(user), unknown);
      assert.equal((await store.setOnline(user, null)).customStatus, null);
      assert.equal((await readOne(user)).privacy, undefined);
      assert.deepEqual(await store.deleteUser(anyUser()).then(({ version }) => version), 0);
    });

    it('lights a user, and reads and tells the same state', async () => {
      const user = anyUser();
      const lit = await store.setOnline(user, null);
      assert.equal(lit.status, 'ONLINE');
      assert.equal(lit.activity, 'ACTIVE');
      assert.equal(lit.cause, 'SET');
      assert.ok(lit.version > 0);
      assert.equal(lit.sinceMs, lit.lastSeenMs);
      assert.deepEqual(await readOne(user), lit);
      await waitFor('the transition', () => toldOf(user).length === 1);
      assert.deepEqual(toldOf(user), [lit]);
    });

    it('renews without a transition, and moves last seen', async () => {
      const user = anyUser();
      const lit = await store.setOnline(user, 'AWAY');
      await harness.pass(50);
      assert.equal(await store.heartbeat(user), true);
      const renewed = await readOne(user);
      assert.ok(renewed.lastSeenMs >= lit.lastSeenMs + 50);
      assert.deepEqual({ ...renewed, lastSeenMs: 0 }, { ...lit, lastSeenMs: 0 });
      const again = await store.setOnline(user, null);
      assert.equal(again.version, lit.version);
      assert.equal(again.activity, 'AWAY');
      assert.equal(toldOf(user).length, 1);
    });

    it('puts a user out, keeps it out against stragglers, and remembers when', async () => {
      const user = anyUser();
      const lit = await store.setOnline(user, null);
      const out = await store.setOffline(user);
      assert.equal(out.status, 'OFFLINE');
      assert.equal(out.activity, null);
      assert.equal(out.cause, 'SET');
      assert.ok(out.version > lit.version);
      assert.equal(await store.heartbeat(user), false);
      assert.equal(await store.heartbeat(user), false);
      assert.deepEqual(await readOne(user), out);
      await harness.pass(ttlMs + 50);
      assert.equal(await store.heartbeat(user), true);
      assert.equal((await readOne(user)).cause, 'HEARTBEAT');
    });

    it('signs out a user never seen, and refuses stragglers', async () => {
      const user = anyUser();
      assert.equal((await store.setOffline(user)).version, 0);
      assert.equal(await store.heartbeat(user), false);
      assert.equal(toldOf(user).length, 0);
    });

    it('expires a lease after its deadline, once, with last seen at the last renewal', async () => {
      const user = anyUser();
      await store.setOnline(user, null);
      await harness.pass(ttlMs / 2);
      await store.heartbeat(user);
      const { lastSeenMs } = await readOne(user);
      await harness.pass(ttlMs - 200);
      assert.equal((await readOne(user)).status, 'ONLINE');
      await harness.pass(400);
      await waitFor('the expiry to be told', () => toldOf(user).length === 2);
      const gone = await readOne(user);
      assert.equal(gone.status, 'OFFLINE');
      assert.equal(gone.cause, 'EXPIRED');
      assert.equal(gone.lastSeenMs, lastSeenMs);
      assert.ok(gone.changedAtMs > lastSeenMs + ttlMs, 'not before the deadline');
      assert.deepEqual(toldOf(user)[1], gone);
      await harness.pass(ttlMs);
      assert.equal(toldOf(user).length, 2);
    });

    it('expires many at once', async () => {
      const users = Array.from({ length: 1200 }, anyUser);
      await Promise.all(users.map((user) => store.setOnline(user, null)));
      await harness.pass(ttlMs + 100);
      await waitFor('all to be told', () => users.every((user) => toldOf(user).length === 2));
      const states = await store.read(users);
      assert.ok(states.every(({ status, cause }) => status === 'OFFLINE' && cause === 'EXPIRED'));
      assert.deepEqual(
        states.map(({ userId }) => userId),
        users,
      );
    });

    it('starts the grace when the last connection closes, and ends it when one opens', async () => {
      const user = anyUser();
      await store.setOnline(user, null);
      await store.connect(openingOf(user, 'a'));
      await store.connect(openingOf(user, 'b'));
      await store.disconnect(user, 'a');
      await harness.pass(disconnectGraceMs + 150);
      assert.equal((await readOne(user)).status, 'ONLINE');
      await store.heartbeat(user);
      await store.disconnect(user, 'b');
      await store.connect(openingOf(user, 'c'));
      await harness.pass(disconnectGraceMs + 150);
      assert.equal((await readOne(user)).status, 'ONLINE');
      await store.heartbeat(user);
      await store.disconnect(user, 'c');
      await store.disconnect(user, 'c');
      const closed = await readOne(user);
      await harness.pass(disconnectGraceMs + 150);
      await waitFor('the disconnect', () => toldOf(user).length === 2);
      const gone = await readOne(user);
      assert.equal(gone.cause, 'DISCONNECT');
      assert.ok(gone.lastSeenMs >= closed.lastSeenMs);
    });

    it('totally orders concurrent changes of one user', async () => {
      const user = anyUser();
      const nodes = [store, harness.other ?? store];
      const changes = Array.from({ length: 400 }, (_, i) => {
        const node = nodes[i % 2] as PresenceStore;
        if (i % 3 === 0) return node.setOffline(user);
        return node.setOnline(user, i % 3 === 1 ? 'ACTIVE' : 'IDLE');
      });
      await Promise.all(changes);
      const truth = await readOne(user);
      await waitFor('the last change', () => toldOf(user).at(-1)?.version === truth.version);
      const versions = toldOf(user).map(({ version }) => version);
      assert.deepEqual(
        versions,
        [...new Set(versions)].sort((a, b) => a - b),
      );
      for (const [index, state] of toldOf(user).entries()) {
        const previous = toldOf(user)[index - 1];
        assert.ok(
          previous?.status !== state.status || previous.activity !== state.activity,
          'a change changes',
        );
      }
    });

    it('stops telling of partitions that are followed no more', async () => {
      const user = anyUser();
      const partition = partitionOf(user, contractPartitions);
      store.unfollow(partition);
      await store.setOnline(user, null);
      await store.follow(partition);
      await store.setOffline(user);
      await waitFor('the change after following again', () => toldOf(user).length > 0);
      assert.deepEqual(
        toldOf(user).map(({ status }) => status),
        ['OFFLINE'],
      );
    });

    it("agrees with the core's model under random histories", async (context) => {
      const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
      context.diagnostic(`SEED=${seed}`);
      const histories = fc.sample(anyHistory, { seed, numRuns: 80 });
      let lateMs = Number.POSITIVE_INFINITY;
      for (let attempt = 1; lateMs > maxLateMs; attempt++) {
        // Half as many the next time: a busy machine may manage these.
        const tried = histories.slice(0, Math.ceil(histories.length / 2 ** (attempt - 1)));
        // What the engine did while the machine stood still says nothing of its rules.
        assert.ok(attempt <= 7, `the machine was ${lateMs} ms late: too slow to judge`);
        lateMs = await compare(tried.map((steps) => new ModelRun(store, anyUser(), steps)));
      }
    });

    /** Fails on a difference, unless the machine was late: then answers by how much. */
    async function compare(runs: readonly ModelRun[]): Promise<number> {
      const probeMs = performance.now();
      await harness.pass(20);
      const probedMs = performance.now() - probeMs;
      const isRealTime = probedMs >= 15;
      // What the harness adds to every wait.
      const addedMs = isRealTime ? probedMs - 20 : 0;
      const beganMs = performance.now();
      let lateMs = 0;
      try {
        // All pass their time together: what one waits for, the others wait for too.
        for (let pauses = 1; runs.some((run) => !run.done); pauses++) {
          await Promise.all(runs.map((run) => run.untilPause()));
          const workedMs = isRealTime ? performance.now() - beganMs - (pauses - 1) * pauseMs : 0;
          lateMs = Math.max(lateMs, workedMs);
          await harness.pass(Math.max(1, pauseMs - workedMs - addedMs));
          for (const run of runs) run.pause();
          await Promise.all(runs.map((run) => run.check()));
        }
        await waitFor('every transition to be told', () =>
          runs.every((run) => toldOf(run.user).length >= run.transitions.length),
        );
        for (const run of runs) assert.deepEqual(toldOf(run.user).map(visible), run.transitions, run.story);
        return 0;
      } catch (error) {
        if (lateMs <= maxLateMs) throw error;
        return lateMs;
      }
    }
  });
}

/** A connection that counts but does not vouch, or a session. */
function openingOf(
  userId: string,
  connectionId: string,
  activity: Activity | null = null,
): ConnectionOpening {
  const kind = activity === null ? 'stream' : 'session';
  return {
    userId,
    connection: { connectionId, kind, device: '', activity },
    replaces: null,
    isResumed: false,
  };
}

const steps = [
  'pause',
  'set-online',
  'set-away',
  'set-offline',
  'heartbeat',
  'open-stream',
  'open-session',
  'open-idle-session',
  'be-busy',
  'close-newest',
  'close-oldest',
] as const;
type Step = (typeof steps)[number];
/** Over the grace, which in every pause ends well before a lease does: 150 against 2000 mod 800 ms. */
const pauseMs = 800;
/** Pauses take real time: five, with the one at the end, tell enough. */
const maxPauses = 4;
/** What an event may come late by and still be judged alike: the grace ends 250 ms before a lease in the same pause. */
const maxLateMs = 220;
const anyStep = fc.constantFrom<Step>('pause', 'pause', 'pause', ...steps);
const anyHistory = fc.array(anyStep, { minLength: 1, maxLength: 14 }).map((history) => {
  let pauses = 0;
  return history.filter((step) => step !== 'pause' || pauses++ < maxPauses);
});

const visible = (state: Pick<UserState, 'status' | 'activity' | 'cause'>) =>
  `${state.status} ${state.activity} ${state.cause}`;

/** One user's history on an engine, beside the same in the model, whose time passes only in pauses. */
class ModelRun {
  readonly user: string;
  readonly transitions: string[] = [];
  readonly #store: PresenceStore;
  readonly #steps: Step[];
  readonly #done: Step[] = [];
  #record: PresenceRecord = unknownRecord;
  #nowMs = 1_000_000;
  /** Open ones, oldest first. */
  #open: ConnectionRenewal[] = [];
  /** When each opened, by the model's clock. */
  readonly #modelSinceMs = new Map<string, number>();
  #opened = 0;

  constructor(store: PresenceStore, user: string, steps: readonly Step[]) {
    this.#store = store;
    this.user = user;
    this.#steps = [...steps, 'pause'];
  }

  get done(): boolean {
    return this.#steps.length === 0;
  }

  get story(): string {
    return `${this.user}: ${this.#done.join(', ')}`;
  }

  async untilPause(): Promise<void> {
    while (this.#steps.length > 0 && this.#steps[0] !== 'pause')
      await this.#step(this.#steps.shift() as Step);
    this.#steps.shift();
  }

  pause(): void {
    this.#done.push('pause');
    this.#nowMs += pauseMs;
    this.#apply({ kind: 'sweep' });
  }

  async check(): Promise<void> {
    const lost = await this.#store.renewConnections(this.#open);
    const refused = this.#open.filter(({ connection }) => {
      const sinceMs = this.#modelSinceMs.get(connection.connectionId) as number;
      return !this.#apply({ kind: 'connection-renewed', connection: { ...connection, sinceMs } });
    });
    assert.deepEqual(
      lost,
      refused.map(({ connection }) => connection.connectionId),
      this.story,
    );
    this.#open = this.#open.filter((it) => !refused.includes(it));
    const [state] = await this.#store.read([this.user]);
    assert.equal(visible(state as UserState), visible(this.#record), this.story);
  }

  async #step(step: Step): Promise<void> {
    this.#done.push(step);
    const { user } = this;
    if (step === 'set-online') {
      await this.#store.setOnline(user, null);
      this.#apply({ kind: 'set-online', activity: null });
    } else if (step === 'set-away') {
      await this.#store.setOnline(user, 'AWAY');
      this.#apply({ kind: 'set-online', activity: 'AWAY' });
    } else if (step === 'set-offline') {
      await this.#store.setOffline(user);
      this.#apply({ kind: 'set-offline' });
    } else if (step === 'heartbeat') {
      const accepted = await this.#store.heartbeat(user);
      assert.equal(accepted, this.#apply({ kind: 'heartbeat' }), this.story);
    } else if (step === 'open-stream') {
      await this.#connect(null);
    } else if (step === 'open-session') {
      await this.#connect('ACTIVE');
    } else if (step === 'open-idle-session') {
      await this.#connect('IDLE');
    } else if (step === 'be-busy') {
      const connectionId = this.#open.at(-1)?.connection.connectionId;
      if (connectionId === undefined) return;
      await this.#store.setConnectionActivity(user, connectionId, 'DO_NOT_DISTURB');
      this.#apply({ kind: 'connection-activity', connectionId, activity: 'DO_NOT_DISTURB' });
      this.#open = this.#open.map((it) =>
        it.connection.connectionId === connectionId
          ? { ...it, connection: { ...it.connection, activity: 'DO_NOT_DISTURB' } }
          : it,
      );
    } else {
      const closed = step === 'close-newest' ? this.#open.pop() : this.#open.shift();
      if (!closed) return;
      const { connectionId } = closed.connection;
      await this.#store.disconnect(user, connectionId);
      this.#apply({ kind: 'connection-closed', connectionId });
    }
    await this.check();
  }

  async #connect(activity: Activity | null): Promise<void> {
    const opening = openingOf(this.user, `${this.user}/${String(this.#opened++).padStart(3, '0')}`, activity);
    const { sinceMs } = await this.#store.connect(opening);
    this.#apply({ kind: 'connection-opened', ...opening });
    this.#open.push({ userId: this.user, connection: { ...opening.connection, sinceMs } });
    this.#modelSinceMs.set(opening.connection.connectionId, this.#nowMs);
  }

  #apply(event: PresenceEvent): boolean {
    const version = nextVersion(this.#record.version, this.#nowMs);
    const { record, changed, accepted } = apply(this.#record, event, this.#nowMs, contractPolicy, version);
    this.#record = record;
    if (changed) this.transitions.push(visible(record));
    return accepted;
  }
}
