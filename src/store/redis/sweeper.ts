import type { Log } from '../../observe/log.ts';
import { keys } from './keys.ts';
import type { RedisConnection } from './redis-connection.ts';
import { scripts } from './scripts.ts';

export interface SweeperOptions {
  readonly connection: RedisConnection;
  readonly nodeId: string;
  readonly partitions: number;
  readonly ttlMs: number;
  readonly disconnectGraceMs: number;
  readonly lastSeenTtlMs: number;
  readonly log: Log;
}

/** How often due users are looked for. The lateness of an OFFLINE is about half of it, and the way to the watcher. */
const sweepIntervalMs = 50;
/** How often ownership is renewed, and how long it lasts: a dead node's partitions are taken over within 1 s. */
const claimIntervalMs = 200;
const ownershipMs = 700;
/** A pause in sweeping that means an outage: heartbeats may have been lost in it. */
const outageMs = 2000;
/** Users judged by one script call: about 1 ms of Redis, so that nobody else waits. */
const batchUsers = 500;

export interface SweeperStats {
  readonly ownedPartitions: number;
  readonly expired: number;
  readonly extended: number;
  readonly maxLatenessMs: number;
}

/**
 * Judges leases. Each partition has one sweeper among the live nodes: they are counted off over the partitions in
 * order of their ids, so the share is even and every node comes to the same answer.
 */
export class Sweeper {
  readonly #options: SweeperOptions;
  readonly #allPartitions: readonly number[];
  #owned: readonly number[] = [];
  #claimTimer: NodeJS.Timeout | undefined;
  #sweepTimer: NodeJS.Timeout | undefined;
  #claiming: Promise<void> | undefined;
  #sweeping: Promise<void> | undefined;
  #claimedMs = 0;
  #expired = 0;
  #extended = 0;
  #maxLatenessMs = 0;

  constructor(options: SweeperOptions) {
    this.#options = options;
    this.#allPartitions = Array.from({ length: options.partitions }, (_, partition) => partition);
  }

  start(): void {
    this.#claimTimer = setInterval(() => this.#claimNow(), claimIntervalMs);
    this.#sweepTimer = setInterval(() => this.#sweepNow(), sweepIntervalMs);
    this.#claimNow();
  }

  /** Stops, and leaves its partitions free for the others to take at once. */
  async stop(): Promise<void> {
    clearInterval(this.#claimTimer);
    clearInterval(this.#sweepTimer);
    await Promise.all([this.#claiming, this.#sweeping]);
    this.#owned = [];
    if (!this.#options.connection.available) return;
    try {
      await this.#announce(0);
      await this.#claim(() => false);
    } catch (error) {
      this.#options.log.debug({ err: error }, 'partitions not handed over; they fall free by themselves');
    }
  }

  stats(): SweeperStats {
    return {
      ownedPartitions: this.#owned.length,
      expired: this.#expired,
      extended: this.#extended,
      maxLatenessMs: this.#maxLatenessMs,
    };
  }

  #claimNow(): void {
    if (this.#claiming || !this.#options.connection.available) return;
    this.#claiming = this.#claimShare()
      .catch((error: unknown) => this.#options.log.debug({ err: error }, 'partitions not claimed'))
      .finally(() => {
        this.#claiming = undefined;
      });
  }

  async #claimShare(): Promise<void> {
    const nodes = await this.#announce(ownershipMs);
    const place = nodes.indexOf(this.#options.nodeId);
    this.#owned = await this.#claim((partition) => partition % nodes.length === place);
    this.#claimedMs = performance.now();
  }

  #announce(lifeMs: number): Promise<string[]> {
    const { connection, nodeId } = this.#options;
    return connection.run<string[]>(scripts.nodes, [keys.nodes()], [nodeId, String(lifeMs)]);
  }

  async #claim(isWanted: (partition: number) => boolean): Promise<number[]> {
    const { connection, nodeId, ttlMs, log } = this.#options;
    const [owned, outages] = await connection.run<[number[], number[]]>(
      scripts.claim,
      this.#allPartitions.map((partition) => keys.sweeper(partition)),
      [
        nodeId,
        String(ownershipMs),
        String(outageMs),
        String(ttlMs),
        ...this.#allPartitions.map((partition) => (isWanted(partition) ? '1' : '0')),
      ],
    );
    if (outages.length > 0) {
      log.warn({ partitions: outages.length, ttlMs }, 'nobody swept for a while: leases get one more TTL');
    }
    return owned.map((position) => position - 1);
  }

  #sweepNow(): void {
    if (this.#sweeping || this.#owned.length === 0 || !this.#options.connection.available) return;
    // A node that was cut off or paused no longer owns anything; found-then-verified makes it harmless, not useful.
    if (performance.now() - this.#claimedMs > ownershipMs) return;
    this.#sweeping = this.#sweep()
      .catch((error: unknown) => this.#options.log.debug({ err: error }, 'sweep failed'))
      .finally(() => {
        this.#sweeping = undefined;
      });
  }

  /** Rounds until nothing is due; partitions of a round are judged one after another, so that Redis serves others. */
  async #sweep(): Promise<void> {
    const owned = this.#owned;
    for (;;) {
      const found = await this.#options.connection.run<[position: number, ...users: string[]][]>(
        scripts.due,
        owned.map((partition) => keys.deadlines(partition)),
        [String(batchUsers)],
      );
      let isMoreDue = false;
      for (const [position, ...users] of found) {
        await this.#judge(owned[position - 1] as number, users);
        isMoreDue ||= users.length === batchUsers;
      }
      if (!isMoreDue) return;
    }
  }

  async #judge(partition: number, users: readonly string[]): Promise<void> {
    const { connection, ttlMs, disconnectGraceMs, lastSeenTtlMs } = this.#options;
    const [expired, extended, latenessMs] = await connection.run<[number, number, number]>(
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
