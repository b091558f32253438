/**
 * Two worlds with one history, but for one thing: in the one a user hides where in the other the user goes OFFLINE, and does
 * nothing until the other appears again. Whoever the user hides from must not be able to tell the worlds apart.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import fc from 'fast-check';
import { type CustomStatus, dropExpired, noStatuses, pushCustomStatus } from '../core/custom-status.ts';
import type { Activity, UserState } from '../core/presence.ts';
import type { LastSeenVisibility, PrivacyChange } from '../core/privacy.ts';
import { stranger, type Viewer } from '../core/sight.ts';
import { silentLog } from '../observe/log.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { Connections } from './connections.ts';
import { PresenceService } from './presence-service.ts';
import { WatchHub } from './watch-hub.ts';

const ttlMs = 1000;
const stepMs = 10;
const startMs = 1_700_000_000_000;
const policy = {
  ttlMs,
  disconnectGraceMs: 200,
  maxConnectionsPerUser: 5,
  lastSeenTtlMs: 60_000,
  partitions: 1,
};
const vic: Viewer = { userId: 'vic', seesAll: false };
const viewers: readonly Viewer[] = [vic, stranger];

type Step =
  | { readonly kind: 'online'; readonly activity: Activity }
  | { readonly kind: 'offline' | 'heartbeat' | 'connect' | 'disconnect' }
  | { readonly kind: 'custom'; readonly text: string; readonly life: number }
  | { readonly kind: 'wait'; readonly steps: number };

interface Chapter {
  readonly before: readonly Step[];
  readonly how: keyof typeof ways;
  readonly hidden: readonly Step[];
  readonly after: readonly Step[];
}

const unseen = { invisible: true };
const seen = { invisible: false };
const blocked = { addBlocked: ['vic'] };
const unblocked = { removeBlocked: ['vic'] };
/** Changes of privacy as hiding begins, after the first and the second step of it, and at its end. */
const ways = {
  invisible: [unseen, {}, {}, seen],
  block: [blocked, {}, {}, unblocked],
  both: [{ ...unseen, ...blocked }, {}, {}, { ...seen, ...unblocked }],
  'block while invisible': [unseen, blocked, seen, unblocked],
  'invisible while blocked': [blocked, unseen, unblocked, seen],
} as const satisfies Record<string, readonly Partial<PrivacyChange>[]>;

const activity = fc.constantFrom<Activity>('ACTIVE', 'IDLE', 'AWAY', 'DO_NOT_DISTURB');
const open: readonly fc.Arbitrary<Step>[] = [
  fc.record({ kind: fc.constant('online' as const), activity }),
  fc.record({ kind: fc.constantFrom('offline' as const, 'heartbeat' as const) }),
  fc.record({
    kind: fc.constant('custom' as const),
    text: fc.constantFrom('', 'a', 'b'),
    life: fc.integer({ min: 0, max: 60 }),
  }),
  fc.record({ kind: fc.constant('wait' as const), steps: fc.integer({ min: 1, max: 70 }) }),
];
const openSteps = fc.array(fc.oneof(...open), { maxLength: 5 });
const secretSteps = fc.array(
  fc.oneof(...open, fc.record({ kind: fc.constantFrom('connect' as const, 'disconnect' as const) })),
  { maxLength: 7 },
);
const anyHistory = fc.array(
  fc.record<Chapter>({
    before: openSteps,
    how: fc.constantFrom(...(Object.keys(ways) as (keyof typeof ways)[])),
    hidden: secretSteps,
    after: openSteps,
  }),
  { minLength: 1, maxLength: 3 },
);
const visibility = fc.constantFrom<LastSeenVisibility>('everyone', 'nobody', 'reciprocal');

/** So that there is always a second step. */
const noSteps: readonly Step[] = [
  { kind: 'wait', steps: 1 },
  { kind: 'wait', steps: 1 },
];

function change(wanted: Partial<PrivacyChange>): PrivacyChange {
  const nothing = { invisible: null, lastSeen: null, addBlocked: [], removeBlocked: [] };
  return { ...nothing, maxBlockedUsers: 10, ...wanted };
}

/** Whatever the two worlds do in one millisecond takes versions of that millisecond. */
function inMs(state: UserState): unknown {
  return { ...state, version: Math.floor(state.version / 1000) };
}

class World {
  readonly store = new MemoryStore({ ...policy, clock: { nowMs: Date.now }, sweepIntervalMs: 0 });
  readonly hub = new WatchHub({ ...policy, store: this.store, maxWatchedUsers: 10, log: silentLog });
  readonly #presence = new PresenceService({
    store: this.store,
    hub: this.hub,
    connections: new Connections({ store: this.store, ttlMs, log: silentLog }),
    heartbeatIntervalMs: 100,
    maxBulkUsers: 10,
    maxWatchedUsers: 10,
    maxBlockedUsers: 10,
  });
  /** What each viewer was told, with the time. */
  readonly told = new Map<Viewer, [atMs: number, state: UserState][]>(viewers.map((viewer) => [viewer, []]));

  #customs: readonly CustomStatus[] = noStatuses;

  /** Custom statuses as the engine keeps them, the last in force. */
  get customs(): readonly CustomStatus[] {
    return dropExpired(this.#customs, Date.now());
  }

  async say(text: string, lifeMs: number): Promise<void> {
    const request = { text, emoji: '', lifeMs };
    this.#customs = pushCustomStatus(this.customs, request, Date.now());
    await this.store.setCustomStatus('ursula', request);
  }

  async watch(): Promise<void> {
    for (const viewer of viewers) {
      const send = ({ state }: { state: UserState }) => {
        this.told.get(viewer)?.push([Date.now(), state]);
        return true;
      };
      await this.hub.subscribe({ send }, viewer).watch(['ursula']);
    }
  }

  async truth(): Promise<UserState> {
    const [state] = await this.store.read(['ursula']);
    return state as UserState;
  }

  async do(step: Step): Promise<void> {
    const { store } = this;
    const connection = { connectionId: 'phone', kind: 'session', device: '', activity: 'AWAY' } as const;
    if (step.kind === 'online') await store.setOnline('ursula', step.activity);
    if (step.kind === 'offline') await store.setOffline('ursula');
    if (step.kind === 'connect') {
      await store.connect({ userId: 'ursula', connection, replaces: null, isResumed: false });
    }
    if (step.kind === 'disconnect') await store.disconnect('ursula', 'phone');
    if (step.kind === 'custom') await this.say(step.text, step.life * stepMs);
    // What an OFFLINE user's heartbeat does goes by what happened in secret.
    if (step.kind === 'heartbeat' && (await this.truth()).status === 'ONLINE')
      await store.heartbeat('ursula');
  }

  /** All that a viewer can find out by asking, and by watching anew. */
  async ask(viewer: Viewer): Promise<unknown> {
    const presence = this.#presence.as(viewer);
    const snapshots: unknown[] = [];
    const send = ({ state }: { state: UserState }) => snapshots.push(inMs(state)) > 0;
    const subscription = this.hub.subscribe({ send }, viewer);
    await subscription.watch(['ursula']);
    await settled();
    subscription.close();
    const [read] = await this.store.read(['ursula', 'vic']);
    const own = (await this.store.read(['vic']))[0]?.privacy?.lastSeen;
    const isReciprocal = viewer.userId !== null && own !== 'nobody';
    return {
      one: inMs(await presence.getStatus('ursula')),
      many: (await presence.getStatuses(['ursula', 'nobody'])).map(inMs),
      unwatched: inMs(this.hub.sights.of(viewer, read as UserState, isReciprocal)),
      connections: await presence.getConnections('ursula'),
      snapshot: snapshots.at(-1),
    };
  }

  /** Steps of one moment count as one. */
  story(viewer: Viewer): unknown[] {
    const all = this.told.get(viewer) ?? [];
    return all
      .filter(([atMs], index) => all[index + 1]?.[0] !== atMs)
      .map(([atMs, state]) => [atMs - startMs, inMs(state)]);
  }
}

/** Whatever waits for nothing but its turn has had it. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

class Worlds {
  readonly hiding = new World();
  readonly leaving = new World();
  readonly #context: TestContext;
  #fooled: readonly Viewer[] = viewers;

  constructor(context: TestContext) {
    this.#context = context;
  }

  async begin(own: LastSeenVisibility, others: LastSeenVisibility): Promise<void> {
    for (const world of [this.hiding, this.leaving]) {
      await world.store.setPrivacy('ursula', change({ lastSeen: own }));
      await world.store.setPrivacy('vic', change({ lastSeen: others }));
      await world.watch();
    }
  }

  async live({ before, how, hidden, after }: Chapter): Promise<void> {
    for (const step of before) await this.both(step);
    const { hiding, leaving } = this;
    if (how !== 'invisible' && how !== 'both') this.#fooled = [vic];
    const [start, second, third, end] = ways[how];
    await hiding.store.setPrivacy('ursula', change(start));
    if ((await leaving.truth()).status === 'ONLINE') await leaving.store.setOffline('ursula');
    await this.pass(1);
    for (const [index, step] of [...hidden, ...noSteps].entries()) {
      // What everybody else saw when the user became invisible is vic's to see when no longer blocked.
      const isShared = index === 0 && how === 'invisible while blocked' && step.kind === 'custom';
      if (!isShared) await hiding.do(step);
      await this.pass(step.kind === 'wait' ? step.steps : 1);
      if (index < 2) await hiding.store.setPrivacy('ursula', change(index === 0 ? second : third));
    }
    await hiding.do({ kind: 'disconnect' });
    await this.appear(end);
    for (const step of after) await this.both(step);
  }

  async appear(end: Partial<PrivacyChange>): Promise<void> {
    const { hiding, leaving } = this;
    const topOf = ({ customs }: World) => JSON.stringify(customs.at(-1));
    const isSecret = JSON.stringify(hiding.customs) !== JSON.stringify(leaving.customs);
    // Others beneath the same one in force cannot be had in the other world without a word.
    if (isSecret && topOf(hiding) === topOf(leaving)) await hiding.say('c', 0);
    await hiding.store.setPrivacy('ursula', change(end));
    const truth = await hiding.truth();
    if (truth.status === 'ONLINE') await leaving.store.setOnline('ursula', truth.activity);
    if (isSecret) {
      await leaving.say('', 0);
      for (const { text, expiresAtMs } of hiding.customs) {
        await leaving.say(text, expiresAtMs === 0 ? 0 : expiresAtMs - Date.now());
      }
    }
    await this.pass(1);
  }

  async both(step: Step): Promise<void> {
    await this.hiding.do(step);
    await this.leaving.do(step);
    await this.pass(step.kind === 'wait' ? step.steps : 1);
  }

  async pass(steps: number): Promise<void> {
    await this.compare();
    for (let i = 0; i < steps; i++) {
      this.#context.mock.timers.tick(stepMs);
      for (const { store } of [this.hiding, this.leaving]) store.sweep();
    }
    await this.compare();
  }

  async compare(): Promise<void> {
    await settled();
    for (const viewer of this.#fooled) {
      const name = viewer.userId ?? 'a stranger';
      assert.deepEqual(this.hiding.story(viewer), this.leaving.story(viewer), `what ${name} was told`);
      assert.deepEqual(await this.hiding.ask(viewer), await this.leaving.ask(viewer), `what ${name} asked`);
      for (const { told } of [this.hiding, this.leaving]) {
        const versions = (told.get(viewer) ?? []).map(([, { version }]) => version).filter((it) => it > 0);
        assert.deepEqual(
          versions,
          versions.toSorted((a, b) => a - b),
          'versions do not go back',
        );
      }
    }
  }
}

describe('privacy', () => {
  it('lets nobody tell a hidden user from one who is OFFLINE, nor what happened meanwhile', async (context) => {
    const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
    context.diagnostic(`SEED=${seed}`);
    const property = fc.asyncProperty(anyHistory, visibility, visibility, async (chapters, own, others) => {
      context.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: startMs });
      try {
        const worlds = new Worlds(context);
        await worlds.begin(own, others);
        for (const chapter of chapters) await worlds.live(chapter);
      } finally {
        context.mock.timers.reset();
      }
    });
    await fc.assert(property, { seed, numRuns: 120 });
  });
});
