import { setTimeout as sleep } from 'node:timers/promises';
import { Activity, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { Nodes } from './nodes.ts';
import { Random } from './random.ts';

/**
 * - `steady` keeps heartbeating and must never be OFFLINE.
 * - `restless` is set ONLINE, AWAY and OFFLINE at random.
 * - `lapsing` heartbeats for a while, falls silent until it expires, and comes back.
 */
export type Habit = 'steady' | 'restless' | 'lapsing';

/** When an answered renewal was sent and answered, Unix ms: the lease began somewhere between. */
interface Renewal {
  readonly sentMs: number;
  readonly answeredMs: number;
}

/** Renewals kept of each user, enough for a lease's length. */
const keptRenewals = 16;
const pauseCheckMs = 100;
/** A pause that counts as standing still, and how long its consequences may take to show. */
const stillMs = 2000;
const givenUpMs = 30_000;

export class SimulatedUser {
  readonly id: string;
  readonly habit: Habit;
  readonly home: number;
  /** Heartbeats, and those that were begun too late to prove anything. */
  begun = 0;
  begunLate = 0;
  /** When a heartbeat was last begun too late; 0 = never. */
  #starvedMs = 0;
  /** When the whole program last stood still, and for how long. */
  #pausedMs = 0;
  #pauseMs = 0;
  /** When the heartbeat that is not answered yet was sent; 0 = there is none. */
  #waitingMs = 0;
  #renewals: Renewal[] = [];
  #attempts: string[] = [];

  constructor(id: string, habit: Habit, home: number) {
    this.id = id;
    this.habit = habit;
    this.home = home;
  }

  /** The last heartbeats in words, to explain what went wrong. */
  get story(): string {
    const waiting = this.#waitingMs === 0 ? 'none sent' : `one sent ${Date.now() - this.#waitingMs} ms ago`;
    return `${this.#attempts.join(', ')}, now ${waiting}; this program last stood still for ${this.#pauseMs} ms, ${Date.now() - this.#pausedMs} ms ago`;
  }

  tries(sentMs: number): void {
    this.#waitingMs = sentMs;
  }

  tried(sentMs: number, outcome: string): void {
    this.#waitingMs = 0;
    this.#attempts.push(`${sentMs % 1_000_000} ${outcome} after ${Date.now() - sentMs} ms`);
    if (this.#attempts.length > 6) this.#attempts.shift();
  }

  /**
   * Whether a lease may have ended lately because this program was starved of the processor: a heartbeat that is sent
   * late proves nothing about the servers, nor does one whose answer is read late, since the next one follows it. One that
   * is sent in time and fails, or is not answered, does.
   */
  isStarved(ttlMs: number): boolean {
    return Date.now() - Math.max(this.#starvedMs, this.#pausedMs) < 2 * ttlMs;
  }

  /** A heartbeat begins `lateMs` after its time. */
  begins(lateMs: number, ttlMs: number): void {
    this.begun++;
    if (lateMs <= 0.2 * ttlMs) return;
    this.begunLate++;
    this.#starvedMs = Date.now();
  }

  /** The whole program stood still for so long. A heartbeat and its repetition take four turns of it and more. */
  paused(pauseMs: number, ttlMs: number): void {
    if (pauseMs < 0.1 * ttlMs) return;
    this.#pausedMs = Date.now();
    this.#pauseMs = pauseMs;
  }

  renewed(sentMs: number): void {
    this.#renewals.push({ sentMs, answeredMs: Date.now() });
    if (this.#renewals.length > keptRenewals) this.#renewals.shift();
  }

  /** A renewal that proves that the user was ONLINE at `atMs`; undefined = there is none. */
  proofOfLife(atMs: number, ttlMs: number): Renewal | undefined {
    return this.#renewals.find(({ sentMs, answeredMs }) => answeredMs <= atMs && atMs <= sentMs + ttlMs);
  }
}

export interface UsersOptions {
  readonly nodes: Nodes;
  readonly count: number;
  readonly seed: number;
  readonly ttlMs: number;
  readonly heartbeatMs: number;
}

/** Simulated users with their loops: half steady, the others restless or lapsing. */
export class Users {
  readonly all: readonly SimulatedUser[];
  readonly #options: UsersOptions;
  #isQuiet = false;
  #isStopped = false;
  #stoodStillMs = 0;
  #loops: Promise<void>[] = [];

  constructor(options: UsersOptions) {
    this.#options = options;
    const habits: readonly Habit[] = ['steady', 'restless', 'steady', 'lapsing'];
    this.all = Array.from(
      { length: options.count },
      (_, i) => new SimulatedUser(`user-${i}`, habits[i % habits.length] as Habit, i % 3),
    );
  }

  get(id: string): SimulatedUser | undefined {
    return this.all[Number(id.slice('user-'.length))];
  }

  start(): void {
    const { seed } = this.#options;
    this.#loops = this.all.map((user, i) => this.#live(user, new Random(seed * 1_000_003 + i)));
    this.#loops.push(this.#watchPauses());
  }

  /** Share of heartbeats that were begun too late to prove anything. */
  starved(): number {
    const sum = (field: 'begun' | 'begunLate') => this.all.reduce((total, user) => total + user[field], 0);
    return sum('begunLate') / Math.max(1, sum('begun'));
  }

  /** Whether this program lately stood still for so long that servers may have given up its connections. */
  get stoodStill(): boolean {
    return this.#stoodStillMs !== 0 && Date.now() - this.#stoodStillMs < givenUpMs;
  }

  /** Restless and lapsing users do no more; steady ones go on. */
  quieten(): void {
    this.#isQuiet = true;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#loops);
  }

  async #live(user: SimulatedUser, random: Random): Promise<void> {
    const { heartbeatMs, ttlMs } = this.#options;
    await sleep(random.next() * heartbeatMs);
    let dueMs = Date.now();
    while (!this.#isStopped && !(this.#isQuiet && user.habit !== 'steady')) {
      const startMs = Date.now();
      user.begins(startMs - dueMs, ttlMs);
      let pauseMs = heartbeatMs;
      if (user.habit === 'restless') await this.#change(user, random);
      else await this.#heartbeat(user);
      if (user.habit === 'restless') pauseMs *= 0.5 + 2 * random.next();
      if (user.habit === 'lapsing' && random.next() < 0.2) pauseMs = ttlMs * (1.2 + random.next());
      // A call that took long, for whatever the servers did, is followed at once by the next.
      dueMs = Math.max(startMs + pauseMs, Date.now());
      await this.#sleep(dueMs - Date.now(), user);
    }
  }

  async #watchPauses(): Promise<void> {
    while (!this.#isStopped) {
      const dueMs = Date.now() + pauseCheckMs;
      await sleep(pauseCheckMs);
      const pauseMs = Date.now() - dueMs;
      if (pauseMs >= stillMs) this.#stoodStillMs = Date.now();
      for (const user of this.all) user.paused(pauseMs, this.#options.ttlMs);
    }
  }

  /** Sleeps, but not beyond the end. */
  async #sleep(ms: number, user: SimulatedUser): Promise<void> {
    const endMs = Date.now() + ms;
    while (Date.now() < endMs && !this.#isStopped && !(this.#isQuiet && user.habit !== 'steady')) {
      await sleep(Math.max(1, Math.min(500, endMs - Date.now())));
    }
  }

  async #heartbeat(user: SimulatedUser): Promise<void> {
    const sentMs = Date.now();
    user.tries(sentMs);
    const reply = await this.#options.nodes.call(user.home, (client, options) =>
      client.sendHeartbeat({ userId: user.id }, options),
    );
    user.tried(sentMs, reply ? `success=${reply.success}` : 'failed');
    if (reply?.success) user.renewed(sentMs);
  }

  async #change(user: SimulatedUser, random: Random): Promise<void> {
    const request = random.pick([
      { userId: user.id, status: UserStatus.ONLINE, activity: Activity.ACTIVE },
      { userId: user.id, status: UserStatus.ONLINE, activity: Activity.AWAY },
      { userId: user.id, status: UserStatus.OFFLINE },
    ]);
    const home = random.below(3);
    await this.#options.nodes.call(home, (client, options) => client.setUserStatus(request, options));
  }
}
