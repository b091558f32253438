/**
 * Two worlds on one Redis that loses its data now and then, restarted empty or flushed. In the one users hide where in the
 * other they go OFFLINE, and do nothing until the others appear again: viewers must not be able to tell the worlds apart.
 * Nor does anybody who signed out come ONLINE by a session that is still open. Many histories are lived at once.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { contractPartitions, contractPolicy } from '../../test/store-harness.ts';
import { redisCommand } from '../../test/support/redis-command.ts';
import { RedisServer } from '../../test/support/redis-server.ts';
import { startStore } from '../../test/support/redis-store.ts';
import { waitFor } from '../../test/support/wait.ts';
import type { Activity, UserState } from '../core/presence.ts';
import { stranger, type Viewer } from '../core/sight.ts';
import { silentLog } from '../observe/log.ts';
import type { RedisStore } from '../store/redis/redis-store.ts';
import { Connections, type HeldConnection } from './connections.ts';
import { PresenceService } from './presence-service.ts';
import { WatchHub } from './watch-hub.ts';

const policy = { ...contractPolicy, ttlMs: 60_000, disconnectGraceMs: 0, lastSeenTtlMs: 600_000 };
const vic: Viewer = { userId: 'vic', seesAll: false };
const viewers: readonly Viewer[] = [vic, stranger];
const histories = 16;
const losses = 3;

type Step =
  | { readonly kind: 'online'; readonly activity: Activity }
  | { readonly kind: 'offline' | 'heartbeat' | 'open' | 'close' | 'custom' | 'invisible' | 'block' | 'show' };

const activity = fc.constantFrom<Activity>('ACTIVE', 'IDLE', 'AWAY', 'DO_NOT_DISTURB');
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('online' as const), activity }),
  fc.record({
    kind: fc.constantFrom(...(['offline', 'heartbeat', 'open', 'open', 'close', 'custom'] as const)),
  }),
  fc.record({ kind: fc.constantFrom(...(['invisible', 'invisible', 'block', 'show'] as const)) }),
);
/** What a user does until the first loss, between losses, and after the last. */
const history = fc.array(fc.array(step, { maxLength: 6 }), {
  minLength: losses + 1,
  maxLength: losses + 1,
});

/** What viewers can tell states apart by: of times, whether there are any. */
function lookOf(state: UserState): string {
  const { status, activity, customStatus, sinceMs, lastSeenMs, version } = state;
  const times = [sinceMs, lastSeenMs, version].map((it) => it > 0);
  return JSON.stringify([status, activity, customStatus?.text ?? '', ...times]);
}

class Node {
  readonly store: RedisStore;
  readonly hub: WatchHub;
  readonly connections: Connections;
  readonly presence: PresenceService;

  constructor(store: RedisStore) {
    const shared = { ...policy, store, log: silentLog, partitions: contractPartitions };
    this.store = store;
    this.hub = new WatchHub({ ...shared, maxWatchedUsers: 10 });
    this.connections = new Connections(shared);
    const limits = { maxBulkUsers: 10, maxWatchedUsers: 10, maxBlockedUsers: 10 };
    const { hub, connections } = this;
    this.presence = new PresenceService({ ...shared, ...limits, hub, connections, heartbeatIntervalMs: 100 });
    connections.start();
  }

  async stop(): Promise<void> {
    this.connections.stop();
    this.hub.stop();
    await this.store.stop();
  }
}

/** Three nodes: users come by the one, are watched on another, and asked for on one that never heard of them. */
class World {
  readonly #nodes: readonly [Node, Node, Node];

  constructor(nodes: readonly [Node, Node, Node]) {
    this.#nodes = nodes;
  }

  static async start(redis: RedisServer, prefix: string): Promise<World> {
    const start = async () => new Node(await startStore(redis, { ...policy, prefix, restoreMs: 500 }));
    return new World([await start(), await start(), await start()]);
  }

  get home(): Node {
    return this.#nodes[0];
  }

  async watch(userId: string, viewer: Viewer, tell: (state: UserState) => void): Promise<void> {
    const send = ({ state }: { state: UserState }) => {
      tell(state);
      return true;
    };
    await this.#nodes[1].hub.subscribe({ send }, viewer).watch([userId]);
  }

  async ask(userId: string, viewer: Viewer): Promise<UserState> {
    return this.#nodes[2].presence.as(viewer).getStatus(userId);
  }

  async truth(userId: string): Promise<UserState> {
    return this.ask(userId, { userId: null, seesAll: true });
  }

  async stop(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.stop()));
  }
}

/** A user in one of the worlds. */
class Life {
  readonly #userId: string;
  readonly #world: World;
  /** What each viewer was told. */
  readonly told = new Map<Viewer, string[]>(viewers.map((viewer) => [viewer, []]));
  #held: HeldConnection | undefined;
  isSignedOut = false;

  constructor(userId: string, world: World) {
    this.#userId = userId;
    this.#world = world;
  }

  async begin(): Promise<void> {
    for (const viewer of viewers) {
      await this.#world.watch(this.#userId, viewer, (state) => this.told.get(viewer)?.push(lookOf(state)));
    }
  }

  get hasSession(): boolean {
    return this.#held !== undefined;
  }

  /** As a client does that knows nothing of what Redis lost. */
  async beat(): Promise<void> {
    await this.#world.home.presence.heartbeat(this.#userId);
  }

  truth(): Promise<UserState> {
    return this.#world.truth(this.#userId);
  }

  ask(viewer: Viewer): Promise<UserState> {
    return this.#world.ask(this.#userId, viewer);
  }

  async do(step: Step): Promise<void> {
    const { presence, connections } = this.#world.home;
    const userId = this.#userId;
    if (step.kind === 'online') {
      await presence.setStatus(userId, 'ONLINE', step.activity);
      this.isSignedOut = false;
    }
    if (step.kind === 'offline') {
      await presence.setStatus(userId, 'OFFLINE', null);
      this.isSignedOut = true;
    }
    if (step.kind === 'heartbeat' && (await this.truth()).status === 'ONLINE')
      await presence.heartbeat(userId);
    if (step.kind === 'open' && !this.#held) {
      this.#held = (await connections.open(userId, 'session', '', 'AWAY', null, () => {})).held;
      this.isSignedOut = false;
    }
    if (step.kind === 'close' && this.#held) {
      await connections.close(this.#held, true);
      this.#held = undefined;
    }
    if (step.kind === 'custom') await this.say('busy');
  }

  async say(text: string): Promise<void> {
    await this.#world.home.presence.setCustomStatus(this.#userId, { text, emoji: '', lifeMs: 0 });
  }

  async hide(how: 'invisible' | 'block', isHidden: boolean): Promise<void> {
    const nothing = { invisible: null, lastSeen: null, addBlocked: [], removeBlocked: [] };
    const list = isHidden ? { addBlocked: ['vic'] } : { removeBlocked: ['vic'] };
    const change = how === 'block' ? list : { invisible: isHidden };
    await this.#world.home.presence.setPrivacy(this.#userId, { ...nothing, ...change });
  }
}

class Pair {
  readonly hiding: Life;
  readonly leaving: Life;
  /** How the user hides now. */
  #how: 'invisible' | 'block' | undefined;
  #fooled: readonly Viewer[] = viewers;
  #beating: readonly Life[] = [];

  constructor(userId: string, hiding: World, leaving: World) {
    this.hiding = new Life(userId, hiding);
    this.leaving = new Life(userId, leaving);
  }

  async live(steps: readonly Step[]): Promise<void> {
    for (const step of steps) await this.#do(step);
  }

  async #do(step: Step): Promise<void> {
    const { hiding, leaving } = this;
    if (step.kind === 'invisible' || step.kind === 'block') {
      if (this.#how) return;
      this.#how = step.kind;
      if (step.kind === 'block') this.#fooled = [vic];
      await hiding.hide(this.#how, true);
      // The order in which viewers see less: not the custom status first.
      await leaving.do({ kind: 'offline' });
      await leaving.do({ kind: 'close' });
    } else if (step.kind === 'show') {
      if (!this.#how) return;
      await hiding.do({ kind: 'close' });
      await hiding.say('back');
      await this.#agree();
      const { status, activity } = await hiding.truth();
      const said: Step =
        status === 'ONLINE' ? { kind: 'online', activity: activity ?? 'ACTIVE' } : { kind: 'offline' };
      // So that both worlds have the same said, too.
      await hiding.do(said);
      await hiding.hide(this.#how, false);
      this.#how = undefined;
      await leaving.do(said);
      await leaving.say('back');
    } else {
      await hiding.do(step);
      if (!this.#how) await leaving.do(step);
    }
    await this.#agree();
  }

  /** Both worlds look the same, once all messages have come. */
  async #agree(): Promise<void> {
    for (const viewer of this.#fooled) {
      const asked = async () => [
        lookOf(await this.hiding.ask(viewer)),
        lookOf(await this.leaving.ask(viewer)),
      ];
      const told = () => [this.hiding, this.leaving].map((life) => life.told.get(viewer)?.at(-1));
      const differ = async () => JSON.stringify([await asked(), told()]);
      let difference = await differ();
      await waitFor(
        () => `${viewer.userId} not to tell the worlds apart: ${difference}`,
        async () => {
          difference = await differ();
          const [[one, two], [three, four]] = JSON.parse(difference) as [string[], string[]];
          return one === two && three === four;
        },
      );
    }
  }

  /** While data is being restored: nobody is seen who hides or signed out. */
  async checkDark(): Promise<void> {
    const states = await Promise.all(viewers.map((viewer) => this.hiding.ask(viewer)));
    const isHiddenFrom = (viewer: Viewer) =>
      this.#how === 'invisible' || (this.#how === 'block' && viewer === vic);
    for (const [index, viewer] of viewers.entries()) {
      const isDark = isHiddenFrom(viewer) || this.hiding.isSignedOut;
      if (isDark) assert.equal(states[index]?.status, 'OFFLINE', `asked by ${viewer.userId}`);
      const last = this.hiding.told.get(viewer)?.at(-1) as string;
      if (isDark) assert.match(last, /OFFLINE/, `told to ${viewer.userId}`);
    }
    if (this.leaving.isSignedOut) assert.equal((await this.leaving.truth()).status, 'OFFLINE');
  }

  async isBack(): Promise<boolean> {
    const lives = [this.hiding, this.leaving].filter((life) => life.hasSession && !life.isSignedOut);
    const states = await Promise.all(lives.map((life) => life.truth()));
    return states.every(({ status }) => status === 'ONLINE');
  }

  /** Those who were ONLINE by heartbeats go on with them. */
  async rememberOnline(): Promise<void> {
    const lives = [this.hiding, this.leaving].filter((life) => !life.hasSession);
    const states = await Promise.all(lives.map((life) => life.truth()));
    this.#beating = lives.filter((_, index) => states[index]?.status === 'ONLINE');
  }

  async recovered(): Promise<void> {
    for (const life of this.#beating) await life.beat();
    await this.#agree();
  }
}

describe('privacy, when Redis loses its data', () => {
  let redis: RedisServer;
  let worlds: readonly [World, World];

  before(async () => {
    redis = await RedisServer.start();
    worlds = [await World.start(redis, 'hiding:'), await World.start(redis, 'leaving:')];
  });
  after(async () => {
    await Promise.all(worlds.map((world) => world.stop()));
    await redis.stop();
  });

  async function lose(number: number): Promise<void> {
    if (number % 2 === 0) {
      await redisCommand(redis.port, 'FLUSHALL');
      return;
    }
    await redis.kill();
    await redis.run();
  }

  it('lets nobody tell who hides from who is OFFLINE, and sets nobody online who signed out', async (context) => {
    const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
    context.diagnostic(`SEED=${seed}`);
    const lived = fc.sample(history, { seed, numRuns: histories });
    const pairs = lived.map((_, index) => new Pair(`user-${index}`, ...worlds));
    await Promise.all(pairs.flatMap(({ hiding, leaving }) => [hiding.begin(), leaving.begin()]));
    for (let era = 0; era <= losses; era++) {
      await Promise.all(pairs.map((pair, index) => pair.live(lived[index]?.[era] ?? [])));
      if (era === losses) return;
      await Promise.all(pairs.map((pair) => pair.rememberOnline()));
      await lose(era);
      await waitFor('sessions to be back', async () => {
        try {
          await Promise.all(pairs.map((pair) => pair.checkDark()));
          for (const { home } of worlds) await home.presence.setStatus('anybody', 'ONLINE', null);
          return (await Promise.all(pairs.map((pair) => pair.isBack()))).every(Boolean);
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error;
          await sleep(20);
          return false;
        }
      });
      await Promise.all(pairs.map((pair) => pair.recovered()));
    }
  });
});
