import { setTimeout as sleep } from 'node:timers/promises';
import type { StatusUpdateEvent } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { partitionOf } from '../../src/core/partition.ts';
import type { UserState } from '../../src/core/presence.ts';
import { parseRedisTarget } from '../../src/core/redis-target.ts';
import { silentLog } from '../../src/observe/log.ts';
import { Keys } from '../../src/store/redis/keys.ts';
import { decodeLogEntry } from '../../src/store/redis/log-entry.ts';
import { RedisEngine } from '../../src/store/redis/redis-engine.ts';
import type { Problems } from './problems.ts';

const pollMs = 200;
const pieceEntries = 1000;

export interface LogTailOptions {
  readonly url: string;
  readonly partitions: number;
  readonly problems: Problems;
}

/** Reads every partition's log as it grows, and checks that it is one unbroken history without repetitions. */
export class LogTail {
  readonly #options: LogTailOptions;
  readonly #keys: Keys;
  readonly #engine: RedisEngine;
  readonly #last: number[];
  readonly #versions: Set<number>[];
  readonly #states = new Map<string, UserState>();
  #mayLose = false;
  #isStopped = false;
  #running: Promise<void> | undefined;
  /** Readings follow one another. */
  #reading: Promise<void> | undefined;
  #transitions = 0;
  /** Broken chains that an allowed loss explains. */
  #losses = 0;

  constructor(options: LogTailOptions) {
    this.#options = options;
    const { partitions } = options;
    const target = parseRedisTarget(options.url);
    this.#keys = new Keys({
      prefix: '',
      tagged: target.mode === 'cluster',
      partitions,
      partitionOf: (userId) => partitionOf(userId, partitions),
    });
    this.#engine = new RedisEngine({
      target,
      partitions,
      keys: this.#keys,
      timeoutMs: 2000,
      log: silentLog,
    });
    this.#last = new Array<number>(partitions).fill(0);
    this.#versions = Array.from({ length: partitions }, () => new Set());
  }

  counts(): { transitions: number; losses: number } {
    return { transitions: this.#transitions, losses: this.#losses };
  }

  async start(): Promise<void> {
    await this.#engine.start();
    this.#running = this.#follow();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#running;
    this.#engine.stop();
  }

  /** From here on Redis may lose what it acknowledged: a failover, or its data. */
  allowLoss(): void {
    this.#mayLose = true;
  }

  /** The user's last state in the log; undefined = none, or nobody knows whether it was lost. */
  lastState(userId: string): UserState | undefined {
    return this.#mayLose ? undefined : this.#states.get(userId);
  }

  /** Checks that what a watcher was told is in the log. */
  check(event: StatusUpdateEvent): void {
    const partition = partitionOf(event.userId, this.#options.partitions);
    if (this.#mayLose || this.#versions[partition]?.has(Number(event.version))) return;
    this.#options.problems.add(`${event.userId} v${event.version} was told, and is not in the log`);
  }

  /** Reads everything written before the call; false: Redis is away just now. */
  async catchUp(): Promise<boolean> {
    try {
      await this.#poll();
      return true;
    } catch {
      return false;
    }
  }

  async #follow(): Promise<void> {
    while (!this.#isStopped) {
      await sleep(pollMs);
      // Redis is away at times; the next round reads on.
      await this.#poll().catch(() => {});
    }
  }

  #poll(): Promise<void> {
    const reading = (this.#reading ?? Promise.resolve())
      .catch(() => {})
      .then(async () => {
        await Promise.all(this.#last.map((_, partition) => this.#read(partition)));
      });
    this.#reading = reading;
    return reading;
  }

  async #read(partition: number): Promise<void> {
    for (;;) {
      const last = this.#last[partition] as number;
      const entries = await this.#engine.command<[string, string[]][]>(partition, [
        'XRANGE',
        this.#keys.log(partition),
        `(${last}-0`,
        '+',
        'COUNT',
        String(pieceEntries),
      ]);
      for (const raw of entries) this.#take(partition, raw);
      if (entries.length < pieceEntries) return;
    }
  }

  #take(partition: number, raw: [string, string[]]): void {
    const { problems } = this.#options;
    const entry = decodeLogEntry(raw);
    const isBroken = entry.previous !== this.#last[partition];
    if (isBroken && this.#mayLose) this.#losses++;
    else if (isBroken) {
      problems.add(
        `partition ${partition}: ${entry.last} follows ${entry.previous}, not ${this.#last[partition]}`,
      );
    }
    this.#last[partition] = entry.last;
    for (const state of entry.transitions) {
      this.#transitions++;
      this.#versions[partition]?.add(state.version);
      const before = this.#states.get(state.userId);
      const isRepeated = before?.status === state.status && before.activity === state.activity;
      if (isRepeated && !this.#mayLose) problems.add(`${state.userId} v${state.version} is logged twice`);
      this.#states.set(state.userId, state);
    }
  }
}
