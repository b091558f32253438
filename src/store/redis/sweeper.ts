import type { LeasePolicy } from '../../core/presence.ts';
import type { Log } from '../../observe/log.ts';
import { Histogram } from '../../observe/measure.ts';
import type { Keys } from './keys.ts';
import { pieces } from './pieces.ts';
import type { RedisEngine } from './redis-engine.ts';
import { scripts } from './scripts.ts';
import { batches, type FoundUsers, usersJudgedAtOnce } from './sweep-batches.ts';

export interface SweeperOptions extends LeasePolicy {
  readonly engine: RedisEngine;
  readonly keys: Keys;
  readonly nodeId: string;
  readonly partitions: number;
  readonly lastSeenTtlMs: number;
  /** How long entries of the log are kept, ms; default one day. */
  readonly eventLogMaxAgeMs?: number;
  readonly log: Log;
  /**
   * How long nodes have to write back what they know into a Redis that lost its data, before anybody is set online in it,
   * ms; default an eighth of the TTL, from 500 to 2000. They find that out 200 ms after they are connected again.
   */
  readonly restoreMs?: number | undefined;
  /** Whether this node judges leases; one that does not still watches the partitions' epochs. */
  readonly sweeps: boolean;
  /** Another node left word for this one. */
  readonly onNote: (note: string) => void;
  /**
   * Called with partitions whose data went: Redis was emptied, or is another. Resolves when all that this node knows of
   * them was written back; rejects: to be called again.
   */
  readonly onDataGone: (partitions: readonly number[]) => Promise<void>;
  /** The engine was away, or its clock was stepped: what vouches for users is to be renewed soon. */
  readonly onOutage: () => void;
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
const dayMs = 86_400_000;

/** How long the engine must have been away for heartbeats to be missed: 2 s, with a TTL under 4 s half of it, at least 1 s. */
function outageMs(ttlMs: number): number {
  return Math.min(2000, Math.max(1000, ttlMs / 2));
}
/** What partitions noticed at about the same time is logged once. */
const gatherMs = 300;

type Judge = (partition: number, users: readonly string[]) => Promise<void>;

export interface SweeperStats {
  readonly ownedPartitions: number;
  /** Users put out. */
  readonly expired: number;
  /** Leases that got one more TTL because of an outage. */
  readonly extended: number;
  /** Whether live nodes have different USER_STATUS_TTL. */
  readonly hasMixedTtls: boolean;
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
  readonly #rebasing = new Map<number, Promise<void>>();
  /** Partitions that noticed an outage, and are not logged yet. */
  readonly #outages = new Set<number>();
  #outageTimer: NodeJS.Timeout | undefined;
  /** The longest lease of all nodes. */
  #longestTtlMs: number;
  /** Lengths of leases among the nodes, if there are several, as logged last. */
  #mixedTtls = '';
  readonly #restoring = new Map<number, Promise<void>>();
  #nodes: readonly string[] = [];
  #announcing: Promise<void> | undefined;
  #claimTimer: NodeJS.Timeout | undefined;
  #sweepTimer: NodeJS.Timeout | undefined;
  #trimTimer: NodeJS.Timeout | undefined;
  #stopped = false;
  #expired = 0;
  #extended = 0;
  #maxLatenessMs = 0;
  readonly #sweepSeconds = new Histogram();

  constructor(options: SweeperOptions) {
    this.#options = options;
    this.#longestTtlMs = options.ttlMs;
    this.#allPartitions = Array.from({ length: options.partitions }, (_, partition) => partition);
  }

  start(): void {
    this.#claimTimer = setInterval(() => this.#claimNow(), claimIntervalMs);
    this.#claimNow();
    if (!this.#options.sweeps) return;
    this.#sweepTimer = setInterval(() => this.#sweepNow(), sweepIntervalMs);
    const trimIntervalMs = Math.min(60_000, (this.#options.eventLogMaxAgeMs ?? dayMs) / 4);
    this.#trimTimer = setInterval(() => this.#trimNow(), trimIntervalMs);
  }

  /** Stops, and leaves its partitions free for the others to take at once. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#claimTimer);
    clearInterval(this.#sweepTimer);
    clearInterval(this.#trimTimer);
    clearTimeout(this.#outageTimer);
    const running = [this.#claiming, this.#sweeping, this.#rebasing].flatMap((it) => [...it.values()]);
    await Promise.all([this.#announcing, ...running]);
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

  /** The epoch of the data that this node knows; empty: none. */
  epochOf(partition: number): string {
    return this.#epochs.get(partition) ?? '';
  }

  stats(): SweeperStats {
    return {
      ownedPartitions: this.#ownedNow().filter((partition) => !this.#failing.has(partition)).length,
      expired: this.#expired,
      extended: this.#extended,
      hasMixedTtls: this.#mixedTtls !== '',
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
    const { engine, keys, nodeId, ttlMs } = this.#options;
    const isFirst = this.#nodes.length === 0;
    const [nodes, notes, leases] = await engine.run<[string[], string[], string[]]>(
      0,
      scripts.nodes,
      [keys.nodes(), keys.evicted(nodeId), keys.leases()],
      [nodeId, String(lifeMs), String(ttlMs)],
    );
    this.#nodes = nodes;
    this.#compareLeases(leases);
    for (const note of notes) this.#options.onNote(note);
    if (isFirst && lifeMs > 0) this.#claimNow();
  }

  /** Nodes should not differ: each takes its own USER_STATUS_TTL off a deadline to learn when the lease was renewed. */
  #compareLeases(leases: readonly string[]): void {
    const ttls = [...new Set(leases.filter((lease) => lease !== '').map(Number))].sort((a, b) => a - b);
    this.#longestTtlMs = Math.max(this.#options.ttlMs, ...ttls);
    const mixed = ttls.length > 1 ? ttls.join(', ') : '';
    if (mixed === this.#mixedTtls) return;
    this.#mixedTtls = mixed;
    if (mixed === '') return;
    this.#options.log.warn(
      { ttlsMs: ttls, ownTtlMs: this.#options.ttlMs },
      'servers have different USER_STATUS_TTL: last seen may be wrong by as much as they differ',
    );
  }

  #noticeOutage(partitions: readonly number[]): void {
    if (partitions.length === 0 || this.#stopped) return;
    for (const partition of partitions) this.#outages.add(partition);
    this.#outageTimer ??= setTimeout(() => {
      const { log, ttlMs, onOutage } = this.#options;
      log.warn(
        { partitions: this.#outages.size, ttlMs },
        'redis was away, stood still or had its clock stepped: leases get one more TTL',
      );
      this.#outageTimer = undefined;
      this.#outages.clear();
      onOutage();
    }, gatherMs);
  }

  /** Redis' clock went back: leases that were given before it end when they would have. */
  async #rebase(partition: number): Promise<void> {
    const { engine, keys, disconnectGraceMs, log } = this.#options;
    const args = [this.#longestTtlMs, disconnectGraceMs].map(String);
    const run = () =>
      engine.run<0 | 1>(
        partition,
        scripts.rebase,
        [keys.deadlines(partition), keys.sweeper(partition)],
        [...args, keys.startOf(partition), String(usersJudgedAtOnce)],
      );
    try {
      while (!this.#stopped && (await run()) === 1);
    } catch (error) {
      log.debug({ err: error }, 'leases not counted anew yet');
    }
  }

  async #claim(group: readonly number[], isWanted: (partition: number) => boolean): Promise<void> {
    const { engine, keys, nodeId, ttlMs, log } = this.#options;
    const startMs = performance.now();
    const [owned, outages, epochs, backs] = await engine.run<[number[], number[], string[], number[]]>(
      group[0] as number,
      scripts.claim,
      group.map((partition) => keys.sweeper(partition)),
      [
        nodeId,
        String(ownershipMs),
        String(outageMs(ttlMs)),
        String(ttlMs),
        String(this.#options.restoreMs ?? Math.min(2000, Math.max(500, ttlMs / 8))),
        ...group.map((partition) => (isWanted(partition) ? '1' : '0')),
        ...group.map((partition) => this.epochOf(partition)),
      ],
    );
    const partitionAt = (position: number) => group[position - 1] as number;
    this.#noticeOutage(outages.map(partitionAt));
    if (backs.length > 0 && this.#rebasing.size === 0) {
      log.warn({ partitions: backs.length }, "redis' clock went back: leases are counted anew");
    }
    for (const partition of backs.map(partitionAt)) {
      once(this.#rebasing, [partition], () => this.#rebase(partition));
    }
    for (const partition of group) this.#owned.delete(partition);
    for (const position of owned) this.#owned.set(partitionAt(position), startMs);
    this.#watchEpochs(group, epochs);
  }

  /** Another epoch counts once what this node knows was written back: until then Redis sets nobody online for it. */
  #watchEpochs(group: readonly number[], epochs: readonly string[]): void {
    const gone = new Map<number, string>();
    for (const [index, partition] of group.entries()) {
      const epoch = epochs[index] as string;
      const known = this.epochOf(partition);
      if (known === '') this.#epochs.set(partition, epoch);
      else if (known !== epoch) gone.set(partition, epoch);
    }
    if (gone.size === 0) return;
    once(this.#restoring, [...gone.keys()], () =>
      this.#options.onDataGone([...gone.keys()]).then(
        () => {
          for (const [partition, epoch] of gone) this.#epochs.set(partition, epoch);
        },
        (error: unknown) => this.#options.log.debug({ err: error }, 'not all written back yet'),
      ),
    );
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

  /** By age, so that a log to which nothing is added is trimmed too. */
  #trimNow(): void {
    const { engine, keys, eventLogMaxAgeMs = dayMs, log } = this.#options;
    for (const group of engine.groups([...this.#owned.keys()])) {
      const logs = group.map((partition) => keys.log(partition));
      engine
        .run(group[0] as number, scripts.trim, logs, [String(eventLogMaxAgeMs)])
        .catch((error: unknown) => log.debug({ err: error }, 'logs not trimmed; trying again soon'));
    }
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
    const [expired, extended, latenessMs, isOutage] = await engine.run<[number, number, number, 0 | 1]>(
      partition,
      scripts.sweep,
      [
        keys.deadlines(partition),
        keys.log(partition),
        keys.seq(partition),
        keys.sweeper(partition),
        ...users.flatMap((user) => [keys.status(user), keys.meta(user), keys.connections(user)]),
      ],
      [
        String(ttlMs),
        String(disconnectGraceMs),
        String(lastSeenTtlMs),
        keys.channel(partition),
        String(outageMs(ttlMs)),
        ...users,
      ],
    );
    if (isOutage) this.#noticeOutage([partition]);
    this.#expired += expired;
    this.#extended += extended;
    this.#maxLatenessMs = Math.max(this.#maxLatenessMs, latenessMs);
  }
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
