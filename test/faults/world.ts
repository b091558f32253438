import { setTimeout as sleep } from 'node:timers/promises';
import { type StatusUpdateEvent, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { waitFor } from '../support/wait.ts';
import { LogTail } from './log-tail.ts';
import { type CallCounts, Nodes } from './nodes.ts';
import { Problems } from './problems.ts';
import { ServerProcess } from './server-process.ts';
import { Users } from './users.ts';
import { Watchers } from './watchers.ts';

export interface WorldOptions {
  /** REDIS_URL of each node: the same Redis, maybe on different ways. */
  readonly redisUrls: readonly [string, string, string];
  /** REDIS_URL of the checker. */
  readonly url: string;
  readonly seed: number;
  readonly users: number;
  readonly watchers: number;
  /** Length of leases; default 4 s. */
  readonly ttlMs?: number;
}

export interface WorldReport {
  readonly calls: CallCounts;
  readonly events: number;
  readonly breaks: number;
  readonly transitions: number;
  /** Places where the log was broken by an allowed loss. */
  readonly losses: number;
  /** Share of heartbeats that prove nothing, because the test was starved of the processor. */
  readonly starved: number;
}

const defaultTtlMs = 4000;
const partitions = 64;
const watchedEach = 20;
/** Restless and lapsing users may have one TTL more after an outage, and watchers one after a loss. */
const settleTimeoutTtls = 6;

/** So that one lost heartbeat does no harm. */
const heartbeatMsOf = (ttlMs: number): number => 0.4 * ttlMs;

/** Three servers, their users and watchers, and a checker that reads along. */
export class World {
  readonly servers: readonly ServerProcess[];
  readonly problems = new Problems();
  readonly #nodes: Nodes;
  readonly #users: Users;
  readonly #watchers: Watchers;
  readonly #log: LogTail;
  /** Told while Redis was away, so not checked yet. */
  readonly #told: StatusUpdateEvent[] = [];
  readonly #ttlMs: number;

  constructor(options: WorldOptions, servers: readonly ServerProcess[]) {
    const { seed, ttlMs = defaultTtlMs } = options;
    const { problems } = this;
    this.servers = servers;
    this.#ttlMs = ttlMs;
    const heartbeatMs = heartbeatMsOf(ttlMs);
    this.#nodes = new Nodes(servers);
    this.#users = new Users({ nodes: this.#nodes, count: options.users, seed, ttlMs, heartbeatMs });
    this.#watchers = new Watchers({
      nodes: new Nodes(servers),
      users: this.#users,
      count: options.watchers,
      watchedEach,
      seed,
      ttlMs,
      problems,
    });
    this.#log = new LogTail({ url: options.url, partitions, problems });
  }

  static async start(options: WorldOptions): Promise<World> {
    const { ttlMs = defaultTtlMs } = options;
    const heartbeatMs = heartbeatMsOf(ttlMs);
    const servers = await Promise.all(
      options.redisUrls.map((url, i) =>
        ServerProcess.start(`node ${i}`, {
          REDIS_URL: url,
          USER_STATUS_TTL: `${ttlMs}ms`,
          HEARTBEAT_INTERVAL: `${heartbeatMs}ms`,
          PARTITIONS: String(partitions),
          REDIS_TIMEOUT: '900ms',
          DRAIN_TIMEOUT: '3s',
          LOG_LEVEL: process.env.LOG_LEVEL ?? 'warn',
        }),
      ),
    );
    const world = new World(options, servers);
    await world.#log.start();
    world.#users.start();
    // Everybody is alive before anybody watches.
    await sleep(heartbeatMs * 1.5);
    world.#watchers.start();
    await sleep(1000);
    return world;
  }

  get breaks(): number {
    return this.#watchers.counts().breaks;
  }

  /** What ended streams of watchers last. */
  get lastBreaks(): string {
    return this.#watchers.lastBreaks();
  }

  calls(): CallCounts {
    return this.#nodes.counts();
  }

  /** What the nodes logged last. */
  logs(): string {
    return this.servers.map(({ name, log }) => `${name}:\n${log.slice(-8).join('\n')}`).join('\n');
  }

  /** From here on Redis may lose what it acknowledged. */
  allowLoss(): void {
    this.#log.allowLoss();
    this.#watchers.allowLoss();
  }

  /** Lets everything come to rest, and proves what can be proved only then. */
  async check(): Promise<WorldReport> {
    // Who is not steady falls silent, and must be OFFLINE in the end.
    this.#users.quieten();
    let found: string[] = [];
    try {
      await waitFor(
        'everybody to agree',
        async () => {
          await sleep(300);
          found = await this.#disagreements();
          return found.length === 0;
        },
        settleTimeoutTtls * this.#ttlMs,
      );
    } catch {
      for (const problem of found) this.problems.add(problem);
    }
    await this.checkTold();
    return this.#report();
  }

  /** Checks that what watchers were told up to now is in the log, so that a long run need not remember it. */
  async checkTold(): Promise<void> {
    const told = this.#watchers.takeChanges();
    // Whoever reads the log now has everything that was told before.
    if (!(await this.#log.catchUp())) {
      this.#told.push(...told);
      return;
    }
    for (const event of this.#told.splice(0)) this.#log.check(event);
    for (const event of told) this.#log.check(event);
  }

  async stop(): Promise<void> {
    await this.#users.stop();
    await this.#watchers.stop();
    await this.#log.stop();
    await Promise.all(this.servers.map((server) => server.stop()));
  }

  /** The truth is what the last entry of the log says, each node's answers, and each watcher's last event. */
  async #disagreements(): Promise<string[]> {
    const ids = this.#users.all.map(({ id }) => id);
    const answers = await Promise.all(
      this.servers.map((_, i) => this.#nodes.client(i).getMultipleUserStatus({ userIds: ids })),
    );
    await this.#log.catchUp();
    const truth = new Map(answers[0]?.data.map((data) => [data.userId, data]));
    const found = this.#watchers.disagreements(truth);
    for (const [node, { data }] of answers.entries()) {
      for (const { userId, status, activity } of data) {
        const real = truth.get(userId);
        if (real?.status !== status || real.activity !== activity) {
          found.push(`node ${node} says ${userId} is ${status}, node 0 says ${real?.status}`);
        }
      }
    }
    for (const [userId, { status }] of truth) {
      const logged = this.#log.lastState(userId);
      if (logged && logged.status !== UserStatus[status]) {
        found.push(`${userId} is ${status}, the log ends with ${logged.status}`);
      }
    }
    for (const { id, habit } of this.#users.all) {
      const isOnline = truth.get(id)?.status === UserStatus.ONLINE;
      if (isOnline !== (habit === 'steady'))
        found.push(`${id} is ${habit}, and ${isOnline ? '' : 'not '}ONLINE`);
    }
    return found;
  }

  #report(): WorldReport {
    return {
      calls: this.#nodes.counts(),
      ...this.#watchers.counts(),
      ...this.#log.counts(),
      starved: this.#users.starved(),
    };
  }
}
