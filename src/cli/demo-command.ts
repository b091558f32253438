import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, createClient } from '@connectrpc/connect';
import { Activity, PresenceService, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { type CommandContext, CommandError } from './client-commands.ts';
import { grpcTransport } from './grpc-client.ts';

export interface DemoOptions {
  /** Pretend users. */
  readonly users: number;
  /** When to stop; undefined: when interrupted. */
  readonly forMs: number | undefined;
}

type PresenceClient = Client<typeof PresenceService>;

/** How often it is looked whose turn it is. */
const turnMs = 100;
const reportMs = 10_000;
/** What share of the users watches a few others while they are there. */
const watchingShare = 0.4;
const friends = 8;

const firstNames =
  'ada grace alan edsger barbara donald margaret linus dennis ken radia tim vint frances hedy katherine joan evelyn mary annie'.split(
    ' ',
  );
const lastNames =
  'lark finch wren heron swift robin crane plover dove martin kestrel osprey teal avocet dunlin jay merlin rook siskin tern'.split(
    ' ',
  );

/** Most pretend users: each has a name of their own. */
export const maxDemoUsers = firstNames.length * lastNames.length;

/** Drives pretend users, who come, stay, go idle, leave politely, vanish, and come back, until interrupted. */
export async function demoCommand(context: CommandContext, options: DemoOptions): Promise<void> {
  const client = createClient(PresenceService, grpcTransport(context.address, context.token, 5000));
  const names = demoNames(options.users);
  const people = names.map((name) => new Person(client, name, names));
  await firstAnswer(client, context);
  context.print(`${people.length} pretend users come and go; stop with Ctrl+C`);
  const endMs = options.forMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + options.forMs;
  let reportAtMs = performance.now() + reportMs;
  while (!context.signal.aborted && performance.now() < endMs) {
    const nowMs = performance.now();
    for (const person of people) person.live(nowMs);
    if (nowMs >= reportAtMs) {
      reportAtMs = nowMs + reportMs;
      context.print(report(people));
    }
    await sleep(turnMs, undefined, { signal: context.signal }).catch(() => {});
  }
  context.print('everybody goes home');
  await Promise.all(people.map((person) => person.goHome()));
}

/** As many different names as wanted, well mixed. */
export function demoNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const first = firstNames[index % firstNames.length];
    // A step along the diagonal, so that neighbours share neither name.
    const last = lastNames[(index + Math.floor(index / firstNames.length)) % lastNames.length];
    return `${first}.${last}`;
  });
}

async function firstAnswer(client: PresenceClient, { address }: CommandContext): Promise<void> {
  try {
    await client.getUserStatus({ userId: 'ada' });
  } catch (error) {
    throw new CommandError(`no server answers at ${address}; start one with: pilotlight serve`, {
      cause: error,
    });
  }
}

function report(people: readonly Person[]): string {
  const there = people.filter((person) => person.isThere).length;
  const failures = people.reduce((sum, person) => sum + person.takeFailures(), 0);
  const trouble = failures === 0 ? '' : `, ${failures} calls failed`;
  return `${there} of ${people.length} are there${trouble}`;
}

/** One pretend user. At most one call of theirs is under way. */
class Person {
  readonly #client: PresenceClient;
  readonly #name: string;
  readonly #names: readonly string[];
  isThere = false;
  #isBusy = false;
  #failures = 0;
  #nextHeartbeatMs = 0;
  /** When they next do something of their own will. */
  #nextActMs = performance.now() + between(0, 20_000);
  #leavesMs = 0;
  #watching: AbortController | undefined;

  constructor(client: PresenceClient, name: string, names: readonly string[]) {
    this.#client = client;
    this.#name = name;
    this.#names = names;
  }

  takeFailures(): number {
    const failures = this.#failures;
    this.#failures = 0;
    return failures;
  }

  live(nowMs: number): void {
    if (this.#isBusy) return;
    if (!this.isThere) {
      if (nowMs >= this.#nextActMs) this.#do(() => this.#come(nowMs));
    } else if (nowMs >= this.#leavesMs) this.#do(() => this.#leave(nowMs));
    else if (nowMs >= this.#nextActMs) this.#do(() => this.#change(nowMs));
    else if (nowMs >= this.#nextHeartbeatMs) this.#do(() => this.#beat(nowMs));
  }

  async goHome(): Promise<void> {
    this.#watching?.abort();
    if (!this.isThere) return;
    // The server may be gone already; its leases run out by themselves.
    await this.#client.setUserStatus({ userId: this.#name, status: UserStatus.OFFLINE }).catch(() => {});
  }

  #do(act: () => Promise<void>): void {
    this.#isBusy = true;
    act()
      .catch(() => {
        this.#failures++;
        this.#nextActMs = performance.now() + between(1000, 3000);
        this.#nextHeartbeatMs = this.#nextActMs;
      })
      .finally(() => {
        this.#isBusy = false;
      });
  }

  async #come(nowMs: number): Promise<void> {
    await this.#client.setUserStatus({ userId: this.#name, status: UserStatus.ONLINE });
    this.isThere = true;
    this.#nextHeartbeatMs = nowMs + 1000;
    this.#nextActMs = nowMs + between(15_000, 90_000);
    this.#leavesMs = nowMs + between(30_000, 240_000);
    if (Math.random() < watchingShare) this.#watchFriends();
  }

  async #beat(nowMs: number): Promise<void> {
    const { nextHeartbeatInMs } = await this.#client.sendHeartbeat({ userId: this.#name });
    // A little early, and not all at once.
    this.#nextHeartbeatMs = nowMs + Number(nextHeartbeatInMs) * between(0.8, 0.95);
  }

  async #change(nowMs: number): Promise<void> {
    const activity = pick([
      Activity.ACTIVE,
      Activity.ACTIVE,
      Activity.IDLE,
      Activity.AWAY,
      Activity.DO_NOT_DISTURB,
    ]);
    await this.#client.setUserStatus({ userId: this.#name, status: UserStatus.ONLINE, activity });
    this.#nextActMs = nowMs + between(20_000, 120_000);
  }

  /** Politely, by closing the last connection, or by vanishing, so that the lease runs out. */
  async #leave(nowMs: number): Promise<void> {
    const isWatching = this.#watching !== undefined;
    this.#watching?.abort();
    this.#watching = undefined;
    this.isThere = false;
    this.#nextActMs = nowMs + between(20_000, 150_000);
    if (!isWatching && Math.random() < 0.6) {
      await this.#client.setUserStatus({ userId: this.#name, status: UserStatus.OFFLINE });
    }
  }

  /** An open subscription counts as a connection: closing it is a way to leave. */
  #watchFriends(): void {
    const aborter = new AbortController();
    this.#watching = aborter;
    const watchUserIds = Array.from({ length: friends }, () => pick(this.#names));
    const stream = this.#client.subscribeStatusUpdates(
      { userId: this.#name, watchUserIds },
      { signal: aborter.signal, timeoutMs: 0 },
    );
    drain(stream)
      .catch(() => {
        if (!aborter.signal.aborted) this.#failures++;
      })
      .finally(() => {
        if (this.#watching === aborter) this.#watching = undefined;
      });
  }
}

async function drain(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _event of stream);
}

function between(low: number, high: number): number {
  return low + Math.random() * (high - low);
}

function pick<Item>(items: readonly Item[]): Item {
  return items[Math.floor(Math.random() * items.length)] as Item;
}
