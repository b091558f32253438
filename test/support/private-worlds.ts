/**
 * The two worlds of src/presence/privacy.test.ts on a real Redis at a distance, where time cannot be set. One server changes
 * users, another shows them. In the one world a user hides, in the other another user does what may be seen of it; every number that
 * a viewer is shown is compared by what was done when it was taken, by its order among all that the viewer was shown, and
 * versions to the last digit.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { partitionOf } from '../../src/core/partition.ts';
import type { UserState } from '../../src/core/presence.ts';
import type { LastSeenVisibility, PrivacyChange } from '../../src/core/privacy.ts';
import { insider, stranger, type Viewer } from '../../src/core/sight.ts';
import type { ConnectionSeen } from '../../src/core/store.ts';
import { silentLog } from '../../src/observe/log.ts';
import { Connections } from '../../src/presence/connections.ts';
import { PresenceService } from '../../src/presence/presence-service.ts';
import { WatchHub } from '../../src/presence/watch-hub.ts';
import type { RedisStore } from '../../src/store/redis/redis-store.ts';
import { type Chapter, change, noSteps, type Step, ways } from './privacy-histories.ts';
import { RedisServer } from './redis-server.ts';
import { startStore } from './redis-store.ts';
import { TcpProxy } from './tcp-proxy.ts';
import { waitFor } from './wait.ts';

/** Histories that are told at one time, each with partitions of its own: so no version counts what another did. */
export const lanes = 24;
const partitions = 2 * lanes;
/** Nothing ends by itself: the moment when that is found is not that of the other world. */
const hourMs = 3_600_000;
const policy = {
  partitions,
  ttlMs: hourMs,
  disconnectGraceMs: 0,
  maxConnectionsPerUser: 5,
  lastSeenTtlMs: 24 * hourMs,
};

/** What a viewer was told, or found by asking. */
type Shown =
  | { readonly by: string; readonly state: UserState }
  | { readonly by: string; readonly connections: readonly ConnectionSeen[] };

/** A server that changes users and one that shows them, on a Redis that is 2 ms away. */
export class DistantRedis {
  readonly writer: RedisStore;
  readonly hub: WatchHub;
  readonly presence: PresenceService;
  readonly #stop: () => Promise<void>;

  private constructor(writer: RedisStore, reader: RedisStore, stop: () => Promise<void>) {
    this.writer = writer;
    this.#stop = stop;
    this.hub = new WatchHub({ ...policy, store: reader, maxWatchedUsers: 10, log: silentLog });
    this.presence = new PresenceService({
      store: reader,
      hub: this.hub,
      connections: new Connections({ store: reader, ttlMs: hourMs, log: silentLog }),
      heartbeatIntervalMs: hourMs,
      maxBulkUsers: 10,
      maxWatchedUsers: 10,
      maxBlockedUsers: 10,
    });
  }

  static async start(): Promise<DistantRedis> {
    const redis = await RedisServer.start();
    const proxy = await TcpProxy.start(redis.port, 2);
    const far = { url: `redis://127.0.0.1:${proxy.port}`, isRunning: true };
    const writer = await startStore(far, policy);
    const reader = await startStore(far, policy);
    return new DistantRedis(writer, reader, async () => {
      await Promise.all([writer.stop(), reader.stop()]);
      proxy.stop();
      await redis.stop();
    });
  }

  stop(): Promise<void> {
    return this.#stop();
  }
}

/** One user, and all that viewers are shown of the user. */
class World {
  readonly userId: string;
  readonly #vic: string;
  readonly #redis: DistantRedis;
  readonly shown: ReadonlyMap<Viewer, Shown[]>;
  /** When each thing was done, in both worlds the same ones. */
  readonly #done: (readonly [fromMs: number, toMs: number])[] = [];
  readonly #close: (() => void)[] = [];
  phone: { readonly connectionId: string; readonly sinceMs: number } | null = null;
  customs: { readonly text: string; readonly life: number } | null = null;
  #phones = 0;

  constructor(redis: DistantRedis, userId: string, viewers: readonly Viewer[], vic: string) {
    this.#redis = redis;
    this.userId = userId;
    this.#vic = vic;
    this.shown = new Map(viewers.map((viewer) => [viewer, []]));
  }

  async watch(): Promise<void> {
    for (const [viewer, shown] of this.shown) {
      const send = ({ state }: { state: UserState }) => shown.push({ by: 'event', state }) > 0;
      const subscription = this.#redis.hub.subscribe({ send }, viewer);
      this.#close.push(() => subscription.close());
      await subscription.watch([this.userId]);
    }
  }

  close(): void {
    for (const close of this.#close) close();
  }

  /** Does this, nothing else meanwhile, and waits until the other server knows. */
  async act(action: (store: RedisStore) => Promise<unknown>): Promise<void> {
    const fromMs = Date.now();
    await action(this.#redis.writer);
    this.#done.push([fromMs, Date.now()]);
    await this.#settle();
    // The next thing is done in another millisecond.
    await sleep(2);
  }

  async #settle(): Promise<void> {
    if (this.#close.length === 0) return;
    const { writer, hub, presence } = this.#redis;
    const asInsider = presence.as(insider);
    const states = await writer.read([this.userId, this.#vic]);
    let told = '';
    await waitFor(
      () => `the other server to know: ${told}`,
      async () => {
        const known = [];
        told = '';
        for (const { userId, version, privacy } of states) {
          // Its watchers have it known; others are read whenever they are asked for.
          await asInsider.getStatus(userId);
          const state = hub.stateOf(userId);
          told += `${JSON.stringify(state)} ${version} ${JSON.stringify(privacy)}\n`;
          known.push(
            (state === undefined && userId === this.#vic) ||
              (state?.version === version && (state.privacy?.version ?? 0) === (privacy?.version ?? 0)),
          );
        }
        return known.every(Boolean);
      },
    );
  }

  async truth(): Promise<UserState> {
    const [state] = await this.#redis.writer.read([this.userId]);
    return state as UserState;
  }

  setPrivacy(wanted: Partial<PrivacyChange>): Promise<void> {
    const names = (ids: readonly string[] = []) => ids.map(() => this.#vic);
    const { addBlocked, removeBlocked } = wanted;
    return this.act(async (store) => {
      const blocks = { addBlocked: names(addBlocked), removeBlocked: names(removeBlocked) };
      await store.setPrivacy(this.userId, { ...change(wanted), ...blocks });
    });
  }

  async do(step: Step): Promise<void> {
    const { userId } = this;
    if (step.kind === 'custom') return this.say(step);
    const isOnline = step.kind === 'heartbeat' && (await this.truth()).status === 'ONLINE';
    await this.act(async (store) => {
      if (step.kind === 'online') await store.setOnline(userId, step.activity);
      if (step.kind === 'offline') await store.setOffline(userId);
      if (step.kind === 'connect') await this.#connect(store);
      if (step.kind === 'disconnect') await this.#disconnect(store);
      if (step.kind === 'last seen') {
        await store.setPrivacy(step.of === 'vic' ? this.#vic : userId, change({ lastSeen: step.to }));
      }
      if (isOnline) await store.heartbeat(userId);
    });
  }

  /** For an hour, or for good. */
  async say({ text, life }: { readonly text: string; readonly life: number }): Promise<void> {
    const lifeMs = life === 0 ? 0 : hourMs;
    this.customs = text === '' ? null : { text, life: lifeMs };
    await this.act((store) => store.setCustomStatus(this.userId, { text, emoji: '', lifeMs }));
  }

  async #connect(store: RedisStore): Promise<void> {
    const rest = { kind: 'session', device: '', activity: 'AWAY' } as const;
    const { userId } = this;
    if (this.phone) {
      await store.renewConnections([{ userId, connection: { ...this.phone, ...rest } }]);
      return;
    }
    const connection = { connectionId: `${userId} ${this.#phones++}`, ...rest };
    const { sinceMs } = await store.connect({ userId, connection, replaces: null, isResumed: false });
    this.phone = { connectionId: connection.connectionId, sinceMs };
  }

  async #disconnect(store: RedisStore): Promise<void> {
    if (this.phone) await store.disconnect(this.userId, this.phone.connectionId);
    this.phone = null;
  }

  /** All that viewers find out by asking, and by watching anew. */
  async ask(): Promise<void> {
    for (const [viewer, shown] of this.shown) {
      const presence = this.#redis.presence.as(viewer);
      const [state, connections] = await Promise.all([
        presence.getStatus(this.userId),
        presence.getConnections(this.userId),
      ]);
      shown.push({ by: 'query', state }, { by: 'connections', connections });
      const send = (event: { state: UserState }) => shown.push({ by: 'snapshot', state: event.state }) > 0;
      const subscription = this.#redis.hub.subscribe({ send }, viewer);
      await subscription.watch([this.userId]);
      subscription.close();
    }
  }

  /** What a viewer was shown, each number as the thing that was done when it was taken, with its place among all numbers. */
  story(viewer: Viewer): unknown[] {
    const shown = this.shown.get(viewer) as Shown[];
    const timesOf = (it: Shown): number[] => {
      if (!('state' in it)) return [];
      const { status, sinceMs, changedAtMs, lastSeenMs, version } = it.state;
      const times = [sinceMs, changedAtMs, Math.floor(version / 1000)];
      return status === 'ONLINE' ? times : [...times, lastSeenMs];
    };
    const places = [...new Set(shown.flatMap(timesOf))].sort((a, b) => a - b);
    const met: string[] = [];
    const thing = (ms: number) =>
      ms === 0 ? -1 : this.#done.findIndex(([from, to]) => ms >= from && ms <= to);
    const when = (ms: number) => `thing ${thing(ms)}, place ${places.indexOf(ms)}`;
    return shown.map((it) => {
      if ('connections' in it) {
        return it.connections.map(({ connectionId, sinceMs, lastSeenMs, ...rest }) => {
          if (!met.includes(connectionId)) met.push(connectionId);
          // One that stayed open is there since the appearing, another a little later: memory compares the times.
          const times = { isSeenLater: lastSeenMs >= sinceMs };
          return { by: it.by, connection: met.indexOf(connectionId), ...times, ...rest };
        });
      }
      const { userId: _, sinceMs, changedAtMs, lastSeenMs, version, customStatus, ...rest } = it.state;
      const { status } = rest;
      return {
        by: it.by,
        ...rest,
        customStatus: customStatus && { ...customStatus, expiresAtMs: customStatus.expiresAtMs > 0 },
        since: when(sinceMs),
        changedAt: when(changedAtMs),
        lastSeen: status === 'ONLINE' ? aliveSince(it) : when(lastSeenMs),
        version: `${when(Math.floor(version / 1000))} and ${version % 1000}`,
      };
    });
  }
}

/** Tells one history in both worlds. Rejects where a viewer who is fooled can tell them apart. */
export async function tellHistory(
  redis: DistantRedis,
  lane: number,
  name: string,
  chapters: readonly Chapter[],
  [own, others]: readonly [LastSeenVisibility, LastSeenVisibility],
): Promise<void> {
  const vic: Viewer = { userId: nameIn(`vic-${name}`, 2 * lane), seesAll: false };
  const vicId = vic.userId as string;
  const hiding = new World(redis, nameIn(`hider-${name}`, 2 * lane), [vic, stranger], vicId);
  const leaving = new World(redis, nameIn(`leaver-${name}`, 2 * lane + 1), [vic, stranger], vicId);
  const worlds = [hiding, leaving];
  const nothing = async () => {};
  const both = async (step: Step) => {
    for (const world of worlds) await world.do(step);
    await asked();
  };
  const asked = async () => {
    for (const world of worlds) await world.ask();
  };
  const only = async (world: World, work: () => Promise<void>) => {
    await work();
    await (world === hiding ? leaving : hiding).act(nothing);
    await asked();
  };
  await redis.writer.setPrivacy(vicId, change({ lastSeen: others }));
  for (const world of worlds) {
    await world.setPrivacy({ lastSeen: own });
    await world.watch();
  }
  let fooled: readonly Viewer[] = [vic, stranger];
  for (const { before, how, hidden, after } of chapters) {
    for (const step of before) await both(step);
    if (how !== 'invisible' && how !== 'both') fooled = [vic];
    const [start, second, third, end] = ways[how];
    const wasOnline = (await leaving.truth()).status === 'ONLINE';
    await hiding.setPrivacy(start);
    if (wasOnline) await leaving.do({ kind: 'offline' });
    else await leaving.act(nothing);
    await only(leaving, () => leaving.do({ kind: 'disconnect' }));
    for (const [index, step] of [...hidden, ...noSteps].entries()) {
      // Custom statuses are shown from the lift on: that the other user says the same then is told in memory.
      if (step.kind === 'last seen') await both(step);
      else if (step.kind !== 'custom') await only(hiding, () => hiding.do(step));
      if (index < 2) await only(hiding, () => hiding.setPrivacy(index === 0 ? second : third));
    }
    if ((await hiding.truth()).status === 'OFFLINE')
      await only(hiding, () => hiding.do({ kind: 'disconnect' }));
    const truth = await hiding.truth();
    await hiding.setPrivacy(end);
    await leaving.act(async (store) => {
      if (truth.status === 'ONLINE') await store.setOnline(leaving.userId, truth.activity);
    });
    // What stays open is another connection to those who see it come. Its node goes on renewing it.
    if (hiding.phone) for (const world of worlds) await world.do({ kind: 'connect' });
    await asked();
    for (const step of after) await both(step);
    await asked();
  }
  for (const world of worlds) world.close();
  for (const viewer of fooled) {
    const who = viewer.userId ?? 'a stranger';
    assert.deepEqual(hiding.story(viewer), leaving.story(viewer), `what ${who} was shown in ${name}`);
  }
}

/** A user of this partition. */
export function nameIn(start: string, partition: number): string {
  for (let number = 0; ; number++) {
    const name = `${start}-${number}`;
    if (partitionOf(name, partitions) === partition) return name;
  }
}

/** An ONLINE user's last seen moves with every renewal, and is shown up to a second late: but not where the status begins. */
function aliveSince({ by, state }: Extract<Shown, { state: UserState }>): number | boolean {
  const { sinceMs, changedAtMs, lastSeenMs } = state;
  return by === 'event' && sinceMs === changedAtMs ? lastSeenMs - sinceMs : lastSeenMs >= sinceMs;
}
