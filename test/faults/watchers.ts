import { setTimeout as sleep } from 'node:timers/promises';
import { Cause, type StatusUpdateEvent, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { Nodes } from './nodes.ts';
import type { Problems } from './problems.ts';
import { Random } from './random.ts';
import type { Users } from './users.ts';

export interface WatchersOptions {
  readonly nodes: Nodes;
  readonly users: Users;
  readonly count: number;
  readonly watchedEach: number;
  readonly seed: number;
  readonly ttlMs: number;
  readonly problems: Problems;
}

export interface Seen {
  readonly status: UserStatus;
  readonly activity: number;
  readonly version: bigint;
}

/** Watchers that check each event as it comes, and come back to another node when their stream ends. */
export class Watchers {
  readonly #options: WatchersOptions;
  readonly #watchers: Watcher[];

  constructor(options: WatchersOptions) {
    this.#options = options;
    this.#watchers = Array.from({ length: options.count }, (_, i) => new Watcher(options, i));
  }

  /** Events that came, and streams that ended by themselves. */
  counts(): { events: number; breaks: number } {
    let events = 0;
    let breaks = 0;
    for (const watcher of this.#watchers) {
      events += watcher.events;
      breaks += watcher.breaks;
    }
    return { events, breaks };
  }

  /** What ended each watcher's last stream. */
  lastBreaks(): string {
    return [...new Set(this.#watchers.map(({ lastBreak }) => lastBreak))].join(', ');
  }

  start(): void {
    for (const watcher of this.#watchers) watcher.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#watchers.map((watcher) => watcher.stop()));
  }

  /** From here on Redis may have lost data: versions of a user may fall once. */
  allowLoss(): void {
    for (const watcher of this.#watchers) watcher.allowLoss();
  }

  /** Every change that a watcher was told of, by user and version; taken once. */
  takeChanges(): StatusUpdateEvent[] {
    return this.#watchers.flatMap((watcher) => watcher.changes.splice(0));
  }

  /** What watchers believe that is not so. */
  disagreements(truth: ReadonlyMap<string, { status: number; activity: number }>): string[] {
    return this.#watchers.flatMap((watcher) => watcher.disagreements(truth));
  }

  get problems(): Problems {
    return this.#options.problems;
  }
}

class Watcher {
  readonly changes: StatusUpdateEvent[] = [];
  events = 0;
  /** Streams that ended, and not because this program stood still. */
  breaks = 0;
  lastBreak = '';
  readonly #options: WatchersOptions;
  readonly #index: number;
  readonly #watched: readonly string[];
  readonly #aborter = new AbortController();
  /** Of the present stream. */
  #seen = new Map<string, Seen>();
  readonly #mayFall = new Set<string>();
  #running: Promise<void> | undefined;

  constructor(options: WatchersOptions, index: number) {
    this.#options = options;
    this.#index = index;
    const random = new Random(options.seed * 7919 + index);
    const watched = new Set<string>();
    while (watched.size < options.watchedEach) watched.add(random.pick(options.users.all).id);
    this.#watched = [...watched];
  }

  start(): void {
    this.#running = this.#watch();
  }

  async stop(): Promise<void> {
    this.#aborter.abort();
    await this.#running;
  }

  allowLoss(): void {
    for (const user of this.#watched) this.#mayFall.add(user);
  }

  disagreements(truth: ReadonlyMap<string, { status: number; activity: number }>): string[] {
    return this.#watched.flatMap((user) => {
      const seen = this.#seen.get(user);
      const real = truth.get(user);
      if (seen && real && seen.status === real.status && seen.activity === real.activity) return [];
      return [
        `watcher ${this.#index} sees ${user} as ${seen && say(seen)}, it is ${real?.status}/${real?.activity}`,
      ];
    });
  }

  async #watch(): Promise<void> {
    const { signal } = this.#aborter;
    for (let node = this.#index; !signal.aborted; node++) {
      try {
        this.#seen = new Map();
        const request = { userId: `watcher-${this.#index}`, watchUserIds: [...this.#watched] };
        const stream = this.#options.nodes.client(node).subscribeStatusUpdates(request, { signal });
        for await (const event of stream) this.#receive(event);
        this.lastBreak = 'ended by the server';
      } catch (error) {
        // Whatever ended it, the watcher comes back; the fault suite counts it.
        this.lastBreak = String(error);
      }
      if (signal.aborted) return;
      // Long enough for a pause of this program to be noticed.
      await sleep(200 + (this.#index % 10) * 20);
      if (!this.#options.users.stoodStill) this.breaks++;
    }
  }

  #receive(event: StatusUpdateEvent): void {
    const { problems, ttlMs } = this.#options;
    this.events++;
    const before = this.#seen.get(event.userId);
    const where = `watcher ${this.#index}, ${event.userId} ${say(event)} at ${event.timestamp}`;
    if (!before && !event.snapshot) problems.add(`${where}: the first event is no snapshot`);
    if (before && event.snapshot) problems.add(`${where}: a second snapshot`);
    if (before && event.version <= before.version && !this.#mayFall.delete(event.userId)) {
      problems.add(`${where}: came after ${say(before)}`);
    }
    if (before && before.status === event.status && before.activity === event.activity) {
      problems.add(`${where}: came twice, after ${say(before)}`);
    }
    this.#seen.set(event.userId, event);
    this.#checkOffline(event, where, ttlMs);
    if (!event.snapshot) this.changes.push(event);
  }

  #checkOffline(event: StatusUpdateEvent, where: string, ttlMs: number): void {
    const user = this.#options.users.get(event.userId);
    if (event.status !== UserStatus.OFFLINE || event.version === 0n || !user) return;
    if (user.habit === 'steady' && !user.isStarved(ttlMs)) {
      this.#options.problems.add(
        `${where}: OFFLINE by ${Cause[event.cause]}, and it kept heartbeating: ${user.story}`,
      );
    }
    if (event.cause !== Cause.EXPIRED && event.cause !== Cause.NODE_LOST) return;
    const proof = user.proofOfLife(Number(event.timestamp), ttlMs);
    if (!proof) return;
    this.#options.problems.add(
      `${where}: judged too early, renewed between ${proof.sentMs} and ${proof.answeredMs}`,
    );
  }
}

function say({ status, activity, version }: Seen): string {
  return `${UserStatus[status]}/${activity} v${version}`;
}
