import type { LeasePolicy } from '../../core/presence.ts';
import type { Log } from '../../observe/log.ts';
import { Histogram } from '../../observe/measure.ts';
import type { Keys } from './keys.ts';
import { pieces } from './pieces.ts';
import type { RedisEngine } from './redis-engine.ts';
import { scripts } from './scripts.ts';

export interface SweeperOptions extends LeasePolicy {
  readonly engine: RedisEngine;
  readonly keys: Keys;
  readonly nodeId: string;
  readonly partitions: number;
  readonly lastSeenTtlMs: number;
  readonly log: Log;
  /** Whether this node judges leases; one that does not still watches the partitions' epochs. */
  readonly sweeps: boolean;
  /** A session of this node lost its place to a newer one. */
  readonly onEvicted: (connectionId: string) => void;
  /** Called with partitions whose data went: Redis was emptied, or is another. */
  readonly onDataGone: (partitions: readonly number[]) => void;
}

/** How often due users are looked for. The lateness of an OFFLINE is about half of it, and the way to the watcher. */
export const sweepIntervalMs = 50;
/** How often ownership is renewed, and how long it lasts: a dead node's partitions are taken over within 1 s. */
const claimIntervalMs = 200;
const ownershipMs = 700;
/**
 * A node's partitions are looked at in so many parts, none smaller than this: a look is about 0.3 ms of Redis, 1.5 ms where as
 * many users are due as it takes, and between two Redis serves those who wait.
 */
const mostParts = 6;
const fewestPartitions = 12;
const usersLookedAt = 500;
/** Users judged by calls that are sent together: about 5 ms of Redis. */
const usersJudgedAtOnce = 200;

/** A pause in sweeping that means an outage: heartbeats may have been lost in it. Longer than taking over lasts. */
function outageMs(ttlMs: number): number {
  return Math.min(2000, Math.max(1000, ttlMs / 8));
}

/** What check.lua found in a partition; the position is that of its key, from 1. */
type FoundUsers = [position: number, ...users: string[]];

type Judge = (partition: number, users: readonly string[]) => Promise<void>;

export interface SweeperStats {
  readonly ownedPartitions: number;
  /** Users put out. */
  readonly expired: number;
  /** Leases that got one more TTL because of an outage. */
  readonly extended: number;
  /** Latest judgement after its time, ms. */
  readonly maxLatenessMs: number;
  /** One look at what is due, and judging it, seconds. */
  readonly sweepSeconds: Histogram;
}

/**
 * Judges leases. Each partition has one sweeper among the live nodes: they are counted off over the partitions in
 * order of their ids, so the share is even and every node comes to the same answer.
 */
export class Sweeper {
  readonly #options: SweeperOptions;
  readonly #allPartitions: readonly number[];
  /** When each owned partition was claimed last. */
  readonly #owned = new Map<number, number>();
  readonly #epochs = new Map<number, string>();
  /** Partitions that could not be swept when this was tried last. */
  readonly #failing = new Set<number>();
  /** What is under way, by the first partition of its group. */
  readonly #claiming = new Map<number, Promise<void>>();
  readonly #sweeping = new Map<number, Promise<void>>();
  #nodes: readonly string[] = [];
  #announcing: Promise<void> | undefined;
  #claimTimer: NodeJS.Timeout | undefined;
  #sweepTimer: NodeJS.Timeout | undefined;
  #stopped = false;
  #expired = 0;
  #extended = 0;
  #maxLatenessMs = 0;
  readonly #sweepSeconds = new Histogram();

  constructor(options: SweeperOptions) {
    this.#options = options;
    this.#allPartitions = Array.from({ length: options.partitions }, (_, partition) => partition);
  }

  start(): void {
    this.#claimTimer = setInterval(() => this.#claimNow(), claimIntervalMs);
    this.#claimNow();
    if (this.#options.sweeps) this.#sweepTimer = setInterval(() => this.#sweepNow(), sweepIntervalMs);
  }

  /** Stops, and leaves its partitions free for the others to take at once. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#claimTimer);
    clearInterval(this.#sweepTimer);
    await Promise.all([this.#announcing, ...this.#claiming.values(), ...this.#sweeping.values()]);
    const { engine, log } = this.#options;
    this.#owned.clear();
    if (!engine.available) return;
    try {
      await this.#announce(0);
      await Promise.all(engine.groups(this.#allPartitions).map((group) => this.#claim(group, () => false)));
    } catch (error) {
      log.debug({ err: error }, 'partitions not handed over; they fall free by themselves');
    }
  }

  /** Whether this node is the partition's sweeper, as far as it knows. */
  owns(partition: number): boolean {
    return this.#owned.has(partition);
  }

  stats(): SweeperStats {
    return {
      ownedPartitions: this.#ownedNow().filter((partition) => !this.#failing.has(partition)).length,
      expired: this.#expired,
      extended: this.#extended,
      maxLatenessMs: this.#maxLatenessMs,
      sweepSeconds: this.#sweepSeconds,
    };
  }

  #claimNow(): void {
    const { engine, log, sweeps, nodeId } = this.#options;
    if (this.#stopped) return;
    if (sweeps && !this.#announcing && engine.isAvailable(0)) {
      this.#announcing = this.#announce(ownershipMs)
        .catch((error: unknown) => log.debug({ err: error }, 'node not announced'))
        .finally(() => {
          this.#announcing = undefined;
        });
    }
    const place = this.#nodes.indexOf(nodeId);
    const isWanted = (partition: number) => place !== -1 && partition % this.#nodes.length === place;
    // Servers fail one by one, so that no group waits for another's.
    for (const group of engine.groups(this.#allPartitions)) {
      once(this.#claiming, group, () =>
        this.#claim(group, isWanted).catch((error: unknown) =>
          log.debug({ err: error }, 'partitions not claimed'),
        ),
      );
    }
  }

  async #announce(lifeMs: number): Promise<void> {
    const { engine, keys, nodeId } = this.#options;
    const isFirst = this.#nodes.length === 0;
    const [nodes, evicted] = await engine.run<[string[], string[]]>(
      0,
      scripts.nodes,
      [keys.nodes(), keys.evicted(nodeId)],
      [nodeId, String(lifeMs)],
    );
    this.#nodes = nodes;
    for (const connectionId of evicted) this.#options.onEvicted(connectionId);
    if (isFirst && lifeMs > 0) this.#claimNow();
  }

  async #claim(group: readonly number[], isWanted: (partition: number) => boolean): Promise<void> {
    const { engine, keys, nodeId, ttlMs, log } = this.#options;
    const startMs = performance.now();
    const [owned, outages, epochs] = await engine.run<[number[], number[], string[]]>(
      group[0] as number,
      scripts.claim,
      group.map((partition) => keys.sweeper(partition)),
      [
        nodeId,
        String(ownershipMs),
        String(outageMs(ttlMs)),
        String(ttlMs),
        ...group.map((partition) => (isWanted(partition) ? '1' : '0')),
      ],
    );
    if (outages.length > 0) {
      log.warn({ partitions: outages.length, ttlMs }, 'nobody swept for a while: leases get one more TTL');
    }
    for (const partition of group) this.#owned.delete(partition);
    for (const position of owned) this.#owned.set(group[position - 1] as number, startMs);
    this.#watchEpochs(group, epochs);
  }

  #watchEpochs(group: readonly number[], epochs: readonly string[]): void {
    const gone = group.filter((partition, index) => {
      const known = this.#epochs.get(partition);
      this.#epochs.set(partition, epochs[index] as string);
      return known !== undefined && known !== epochs[index];
    });
    if (gone.length > 0) this.#options.onDataGone(gone);
  }

  #sweepNow(): void {
    const { engine } = this.#options;
    for (const group of engine.groups(this.#ownedNow())) {
      once(this.#sweeping, group, () => this.#sweep(group));
    }
  }

  /** A node that was cut off or paused no longer owns anything; found-then-verified makes it harmless, not useful. */
  #ownedNow(): number[] {
    const sinceMs = performance.now() - ownershipMs;
    return [...this.#owned].flatMap(([partition, claimedMs]) => (claimedMs > sinceMs ? [partition] : []));
  }

  /** Rounds over all parts, until one finds that there is no more: no part waits for another that has much. */
  async #sweep(group: readonly number[]): Promise<void> {
    const startMs = performance.now();
    const parts = pieces(group, Math.max(fewestPartitions, Math.ceil(group.length / mostParts)));
    let isMoreDue = true;
    while (isMoreDue) {
      isMoreDue = false;
      for (const part of parts) {
        if (this.#stopped) return;
        if (await this.#look(part)) isMoreDue = true;
      }
    }
    this.#sweepSeconds.observeSince(startMs);
  }

  /** Whether there is more to look at than a call takes. What fails is tried again by the next sweep, and spares the rest. */
  async #look(part: readonly number[]): Promise<boolean> {
    const { log } = this.#options;
    const failing: number[] = [];
    const failed = (error: unknown, partitions: readonly number[]) => {
      failing.push(...partitions);
      log.debug({ err: error }, 'sweep failed');
    };
    try {
      const isMoreDue = await this.#lookAndJudge(part, failed);
      return isMoreDue && failing.length === 0;
    } catch (error) {
      failed(error, part);
      return false;
    } finally {
      for (const partition of part) this.#failing.delete(partition);
      for (const partition of failing) this.#failing.add(partition);
    }
  }

  async #lookAndJudge(
    part: readonly number[],
    failed: (error: unknown, partitions: readonly number[]) => void,
  ): Promise<boolean> {
    const { engine, keys } = this.#options;
    const first = part[0] as number;
    const [isMoreDue, due, customs] = await engine.run<[0 | 1, FoundUsers[], FoundUsers[]]>(
      first,
      scripts.check,
      [...part.map((it) => keys.deadlines(it)), ...part.map((it) => keys.returns(it))],
      [String(usersLookedAt), keys.startOf(first)],
    );
    const judgeAll = async (found: readonly FoundUsers[], judge: Judge) => {
      for (const calls of batches(found, part)) {
        const judging = calls.map(([partition, users]) =>
          judge(partition, users).catch((error: unknown) => failed(error, [partition])),
        );
        await Promise.all(judging);
      }
    };
    await judgeAll(due, (partition, users) => this.#judge(partition, users));
    await judgeAll(customs, (partition, users) => this.#judgeCustoms(partition, users));
    return isMoreDue === 1;
  }

  /** Custom statuses that are over. */
  async #judgeCustoms(partition: number, users: readonly string[]): Promise<void> {
    const { engine, keys, ttlMs, lastSeenTtlMs } = this.#options;
    await engine.run(
      partition,
      scripts.customSweep,
      [
        keys.deadlines(partition),
        keys.log(partition),
        keys.seq(partition),
        keys.returns(partition),
        ...users.flatMap((user) => [keys.status(user), keys.meta(user)]),
      ],
      [keys.channel(partition), String(ttlMs), String(lastSeenTtlMs), ...users],
    );
  }

  async #judge(partition: number, users: readonly string[]): Promise<void> {
    const { engine, keys, ttlMs, disconnectGraceMs, lastSeenTtlMs } = this.#options;
    const [expired, extended, latenessMs] = await engine.run<[number, number, number]>(
      partition,
      scripts.sweep,
      [
        keys.deadlines(partition),
        keys.log(partition),
        keys.seq(partition),
        keys.sweeper(partition),
        ...users.flatMap((user) => [keys.status(user), keys.meta(user), keys.connections(user)]),
      ],
      [String(ttlMs), String(disconnectGraceMs), String(lastSeenTtlMs), keys.channel(partition), ...users],
    );
    this.#expired += expired;
    this.#extended += extended;
    this.#maxLatenessMs = Math.max(this.#maxLatenessMs, latenessMs);
  }
}

/** Calls that are sent together, since each takes a round trip; not more users than Redis should do before it serves others. */
function batches(found: readonly FoundUsers[], part: readonly number[]): (readonly [number, string[]])[][] {
  const together: (readonly [number, string[]])[][] = [];
  let room = 0;
  for (const [position, ...users] of found) {
    for (const some of pieces(users, usersJudgedAtOnce)) {
      if (some.length > room) {
        together.push([]);
        room = usersJudgedAtOnce;
      }
      together.at(-1)?.push([part[position - 1] as number, some]);
      room -= some.length;
    }
  }
  return together;
}

/** Begins work on a group unless some is under way. */
function once(
  running: Map<number, Promise<void>>,
  group: readonly number[],
  begin: () => Promise<void>,
): void {
  const key = group[0] as number;
  if (running.has(key)) return;
  running.set(
    key,
    begin().finally(() => running.delete(key)),
  );
}
