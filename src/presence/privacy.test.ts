/**
 * Two worlds with one history, but for one thing: in the one a user hides where in the other the user goes OFFLINE, and does
 * nothing until the other appears again. Whoever the user hides from must not be able to tell the worlds apart, by any number,
 * difference or order. RUNS sets how many histories, SEED which.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import fc from 'fast-check';
import {
  anyHistory,
  type Chapter,
  change,
  noSteps,
  type Step,
  visibility,
  ways,
} from '../../test/support/privacy-histories.ts';
import { type CustomStatus, dropExpired, noStatuses, pushCustomStatus } from '../core/custom-status.ts';
import type { UserState } from '../core/presence.ts';
import type { LastSeenVisibility, PrivacyChange } from '../core/privacy.ts';
import { stranger, type Viewer } from '../core/sight.ts';
import { silentLog } from '../observe/log.ts';
import { MemoryStore } from '../store/memory-store.ts';
import { Connections } from './connections.ts';
import { PresenceService } from './presence-service.ts';
import { WatchHub } from './watch-hub.ts';

const ttlMs = 1000;
const stepMs = 10;
/** Things are done in the middle of a step, custom statuses end and sweeps come at its end: so no version counts another. */
const halfMs = stepMs / 2;
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

  /** What the user has open. */
  phone: { readonly connectionId: string; readonly sinceMs: number } | null = null;
  /** When this world alone did several things at once: then its versions count them. */
  readonly crowdedMs = new Set<number>();
  /** Names for ids of connections, in the order in which a viewer met them. */
  readonly #met = new Map<Viewer, Map<string, number>>();
  #phones = 0;
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
    if (step.kind === 'online') await store.setOnline('ursula', step.activity);
    if (step.kind === 'offline') await store.setOffline('ursula');
    if (step.kind === 'connect') await this.connect();
    if (step.kind === 'disconnect') await this.disconnect();
    if (step.kind === 'last seen') await store.setPrivacy(step.of, change({ lastSeen: step.to }));
    if (step.kind === 'custom') await this.say(step.text, step.life && step.life * stepMs - halfMs);
    // What an OFFLINE user's heartbeat does goes by what happened in secret.
    if (step.kind === 'heartbeat' && (await this.truth()).status === 'ONLINE')
      await store.heartbeat('ursula');
  }

  async connect(): Promise<void> {
    const rest = { kind: 'session', device: '', activity: 'AWAY' } as const;
    if (this.phone) {
      await this.store.renewConnections([{ userId: 'ursula', connection: { ...this.phone, ...rest } }]);
      return;
    }
    const connection = { connectionId: `phone ${this.#phones++}`, ...rest };
    const opening = { userId: 'ursula', connection, replaces: null, isResumed: false };
    const { sinceMs } = await this.store.connect(opening);
    this.phone = { connectionId: connection.connectionId, sinceMs };
  }

  async disconnect(): Promise<void> {
    if (this.phone !== null) await this.store.disconnect('ursula', this.phone.connectionId);
    this.phone = null;
  }

  /** What a viewer makes of a state: all of it, but for how many things this world alone did in one millisecond. */
  #noted(state: UserState): unknown {
    const { version } = state;
    const atMs = Math.floor(version / 1000);
    return { ...state, version: this.crowdedMs.has(atMs) ? atMs * 1000 : version };
  }

  /** Ids say whether a connection was seen before, and nothing else. */
  #metBefore(viewer: Viewer, connectionId: string): number {
    const met = this.#met.get(viewer) ?? new Map<string, number>();
    this.#met.set(viewer, met);
    const name = met.get(connectionId) ?? met.size;
    met.set(connectionId, name);
    return name;
  }

  /** All that a viewer can find out by asking, and by watching anew. */
  async ask(viewer: Viewer): Promise<unknown> {
    const presence = this.#presence.as(viewer);
    const snapshots: unknown[] = [];
    const send = ({ state }: { state: UserState }) => snapshots.push(this.#noted(state)) > 0;
    const subscription = this.hub.subscribe({ send }, viewer);
    await subscription.watch(['ursula']);
    await settled();
    subscription.close();
    const [read] = await this.store.read(['ursula', 'vic']);
    const own = (await this.store.read(['vic']))[0]?.privacy?.lastSeen;
    const isReciprocal = viewer.userId !== null && own !== 'nobody';
    return {
      one: this.#noted(await presence.getStatus('ursula')),
      many: (await presence.getStatuses(['ursula', 'nobody'])).map((state) => this.#noted(state)),
      unwatched: this.#noted(this.hub.sights.of(viewer, read as UserState, isReciprocal)),
      connections: (await presence.getConnections('ursula')).map((it) => ({
        ...it,
        connectionId: this.#metBefore(viewer, it.connectionId),
      })),
      snapshot: snapshots.at(-1),
    };
  }

  /** Steps of one moment count as one. */
  story(viewer: Viewer): unknown[] {
    const all = this.told.get(viewer) ?? [];
    return all
      .filter(([atMs], index) => all[index + 1]?.[0] !== atMs)
      .map(([atMs, state]) => [atMs - startMs, this.#noted(state)]);
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
    this.#begin();
    await hiding.store.setPrivacy('ursula', change(start));
    if ((await leaving.truth()).status === 'ONLINE') await leaving.store.setOffline('ursula');
    await leaving.disconnect();
    await this.pass(1);
    for (const [index, step] of [...hidden, ...noSteps].entries()) {
      // What everybody else saw when the user became invisible is vic's to see when no longer blocked.
      this.#begin();
      const isShared = index === 0 && how === 'invisible while blocked' && step.kind === 'custom';
      if (!isShared) await hiding.do(step);
      // What a user lets others know is no secret.
      if (step.kind === 'last seen') await leaving.do(step);
      await this.pass(step.kind === 'wait' ? step.steps : 1);
      if (index > 1) continue;
      this.#begin();
      await hiding.store.setPrivacy('ursula', change(index === 0 ? second : third));
      await this.pass(1);
    }
    await this.appear(end);
    for (const step of after) await this.both(step);
  }

  async appear(end: Partial<PrivacyChange>): Promise<void> {
    const { hiding, leaving } = this;
    this.#begin();
    const topOf = ({ customs }: World) => JSON.stringify(customs.at(-1));
    const isSecret = JSON.stringify(hiding.customs) !== JSON.stringify(leaving.customs);
    // Others beneath the same one in force cannot be had in the other world without a word.
    if (isSecret && topOf(hiding) === topOf(leaving)) await hiding.say('c', 0);
    if ((await hiding.truth()).status === 'OFFLINE') await hiding.disconnect();
    await hiding.store.setPrivacy('ursula', change(end));
    const truth = await hiding.truth();
    if (truth.status === 'ONLINE') await leaving.store.setOnline('ursula', truth.activity);
    // What stays open is another connection to those who see it come. A node renews all that it holds.
    if (hiding.phone !== null) for (const world of [hiding, leaving]) await world.connect();
    if (isSecret) {
      leaving.crowdedMs.add(Date.now());
      hiding.crowdedMs.add(Date.now());
      await leaving.say('', 0);
      for (const { text, expiresAtMs } of hiding.customs) {
        await leaving.say(text, expiresAtMs === 0 ? 0 : expiresAtMs - Date.now());
      }
    }
    await this.pass(1);
  }

  async both(step: Step): Promise<void> {
    this.#begin();
    await this.hiding.do(step);
    await this.leaving.do(step);
    await this.pass(step.kind === 'wait' ? step.steps : 1);
  }

  async pass(steps: number): Promise<void> {
    await this.compare();
    for (let i = 0; i < steps; i++) {
      this.#context.mock.timers.tick(stepMs - ((Date.now() - startMs) % stepMs));
      for (const { store } of [this.hiding, this.leaving]) store.sweep();
    }
    await this.compare();
  }

  #begin(): void {
    this.#context.mock.timers.tick(halfMs);
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
    await fc.assert(property, { seed, numRuns: Number(process.env.RUNS ?? 120) });
  });
});
