import { setTimeout as sleep } from 'node:timers/promises';
import { DeadlineWheel } from '../core/deadline-wheel.ts';
import { PresenceError } from '../core/errors.ts';
import type { Log } from '../observe/log.ts';
import type { Connections, HeldConnection } from './connections.ts';
import { HelloPool, type SessionOrigin } from './hello-pool.ts';
import { openAccess, type SessionAccess, type ViewedPresence } from './presence-api.ts';
import { Session, type SessionHost, type SessionTimings } from './session.ts';
import type { SessionEnd } from './session-ends.ts';
import type { SessionLink } from './session-messages.ts';
import { watchersToldInTurn } from './subscription.ts';

export interface SessionsOptions extends Omit<SessionTimings, 'helloTimeoutMs'> {
  readonly helloTimeoutMs?: number;
  /** Most sessions of this node that said hello. */
  readonly maxSessions: number;
  /** Most that did not yet. */
  readonly maxSessionsWithoutHello: number;
  readonly presence: ViewedPresence;
  readonly connections: Connections;
  readonly log: Log;
}

export interface SessionsStats {
  readonly sessions: number;
  /** Of these, those that have not said hello. */
  readonly withoutHello: number;
  /** Sessions that the server ended, by reason. */
  readonly ends: Readonly<Partial<Record<SessionEnd, number>>>;
}

const defaultHelloTimeoutMs = 10_000;
/** When a client that found no room should come back, ms. */
const noRoomRetryMs = 5000;
const nowhere: SessionOrigin = { address: '', connection: '' };
const wheelSlots = 1024;
/** How often a drain closes those whose time has come. */
const drainStepMs = 50;
/** How long before a session's time to leave its lease is renewed. */
const renewLeadMs = 250;

/** All sessions of this node: one clockwork for their timeouts, one flush per turn for their events. */
export class Sessions implements SessionHost {
  readonly options: SessionTimings;
  readonly presence: ViewedPresence;
  readonly connections: Connections;
  readonly #log: Log;
  readonly #maxSessions: number;
  readonly #sessions = new Map<string, Session>();
  readonly #keys = new Map<Session, string>();
  readonly #withoutHello: HelloPool<Session>;
  /** Sessions that said hello. */
  #greeted = 0;
  readonly #wheel: DeadlineWheel;
  readonly #ends: Partial<Record<SessionEnd, number>> = {};
  readonly #stepMs: number;
  #nextKey = 0;
  #unflushed: Session[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isDraining = false;

  constructor(options: SessionsOptions) {
    this.options = { ...options, helloTimeoutMs: options.helloTimeoutMs ?? defaultHelloTimeoutMs };
    this.presence = options.presence;
    this.connections = options.connections;
    this.#log = options.log;
    this.#maxSessions = options.maxSessions;
    this.#withoutHello = new HelloPool(options.maxSessionsWithoutHello);
    const shortestMs = Math.min(options.pingIntervalMs, options.pongTimeoutMs);
    this.#stepMs = Math.max(5, Math.min(100, shortestMs / 10));
    this.#wheel = new DeadlineWheel(this.nowMs(), this.#stepMs, wheelSlots);
  }

  start(): void {
    // After a pause of this process, what clients sent meanwhile is read before anyone counts as silent.
    const check = () => {
      const nowMs = this.nowMs();
      setImmediate(() => this.#check(nowMs));
    };
    this.#timer = setInterval(check, this.#stepMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Why no session can be opened now, and when to try again; null: one can. */
  refusal(): PresenceError | null {
    if (!this.#isDraining && this.#greeted < this.#maxSessions) return null;
    const why = this.#isDraining ? 'the server is stopping' : 'the server has as many sessions as it may';
    return new PresenceError('RATE_LIMITED', why, { retryAfterMs: noRoomRetryMs });
  }

  /**
   * A session for a link that was just made. The transport passes on what happens to the link.
   *
   * @param access of the caller; default: one who may do everything
   * @param origin where the link comes from
   */
  open(
    link: SessionLink,
    access: SessionAccess = openAccess(this.presence),
    origin: SessionOrigin = nowhere,
  ): Session {
    const session = new Session(this, link, access);
    const key = String(this.#nextKey++);
    this.#sessions.set(key, session);
    this.#keys.set(session, key);
    this.#plan(session, this.nowMs() + this.options.helloTimeoutMs);
    this.#withoutHello.add(session, origin)?.end('CROWDED_OUT', noRoomRetryMs);
    return session;
  }

  /** Sizes of everything that could leak, for tests and metrics. */
  stats(): SessionsStats {
    const withoutHello = this.#withoutHello.size;
    return { sessions: this.#sessions.size, withoutHello, ends: { ...this.#ends } };
  }

  /**
   * Hands all sessions over: each is told to come back, elsewhere, at a time of its own, and closed a little after that.
   * Leases are left to run, renewed right before, so that who comes back within the TTL was never away. Resolves when no
   * session is left, at the latest after `timeoutMs`.
   */
  async drain(timeoutMs: number): Promise<void> {
    this.#isDraining = true;
    this.connections.handOver();
    const beganMs = this.nowMs();
    const leaving = [...this.#sessions.values()].map((session) => {
      const reconnectInMs = Math.floor((Math.random() * timeoutMs) / 2);
      session.announceDrain(reconnectInMs);
      return { session, leavesMs: beganMs + reconnectInMs };
    });
    leaving.sort((a, b) => a.leavesMs - b.leavesMs);
    let renewed = 0;
    let closed = 0;
    /** Those between `from` and the first that leaves after `untilMs`. */
    const next = (from: number, untilMs: number): Session[] => {
      let to = from;
      while (to < leaving.length && (leaving[to] as (typeof leaving)[0]).leavesMs <= untilMs) to++;
      return leaving.slice(from, to).map(({ session }) => session);
    };
    while (this.#sessions.size > 0 && this.nowMs() < beganMs + timeoutMs) {
      const about = next(renewed, this.nowMs() + renewLeadMs);
      renewed += about.length;
      await this.#renew(about);
      // Clients that follow the announcement are gone by then.
      const late = next(closed, this.nowMs() - timeoutMs / 4);
      closed += late.length;
      await this.#handOver(late);
      await sleep(drainStepMs);
    }
    await this.#handOver([...this.#sessions.values()]);
  }

  // ---- SessionHost ------------------------------------------------------------------------------------

  nowMs(): number {
    return performance.now();
  }

  flushLater(session: Session): void {
    if (this.#unflushed.push(session) === 1) setImmediate(() => this.#flushSlice());
  }

  greet(session: Session): void {
    if (!this.#withoutHello.delete(session)) return;
    const refusal = this.refusal();
    if (refusal) throw refusal;
    session.isGreeted = true;
    this.#greeted++;
  }

  planAnew(session: Session): void {
    this.#plan(session, session.check(this.nowMs()));
  }

  forget(session: Session): void {
    const key = this.#keys.get(session);
    if (key === undefined) return;
    this.#withoutHello.delete(session);
    if (session.isGreeted) this.#greeted--;
    this.#keys.delete(session);
    this.#sessions.delete(key);
  }

  countEnd(end: SessionEnd): void {
    this.#ends[end] = (this.#ends[end] ?? 0) + 1;
  }

  later(error: unknown): void {
    this.#log.debug({ err: error }, 'activity not changed yet');
  }

  bug(error: unknown): void {
    this.#log.error({ err: error }, 'internal error');
  }

  // ---- clockwork --------------------------------------------------------------------------------------

  /** However many sessions a change goes to, calls and timers get their turn between the slices. */
  #flushSlice(): void {
    const slice = this.#unflushed.slice(0, watchersToldInTurn);
    this.#unflushed = this.#unflushed.slice(watchersToldInTurn);
    if (this.#unflushed.length > 0) setImmediate(() => this.#flushSlice());
    for (const session of slice) session.flush();
  }

  /** Every session has one visit planned; an earlier one makes the later one void. */
  #plan(session: Session, atMs: number): void {
    const key = this.#keys.get(session);
    if (key === undefined || atMs >= session.plannedMs) return;
    session.plannedMs = this.#wheel.schedule(key, atMs);
  }

  #check(nowMs: number): void {
    this.#wheel.advance(nowMs, (key) => {
      const session = this.#sessions.get(key);
      if (!session || session.plannedMs > nowMs) return;
      session.plannedMs = Number.POSITIVE_INFINITY;
      if (!session.isEnded) this.#plan(session, session.check(nowMs));
    });
  }

  async #handOver(sessions: readonly Session[]): Promise<void> {
    const open = sessions.filter(({ isEnded }) => !isEnded);
    await this.#renew(open);
    for (const session of open) session.end('DRAINING');
  }

  async #renew(sessions: readonly Session[]): Promise<void> {
    const held = sessions
      .map(({ connection }) => connection)
      .filter((it): it is HeldConnection => it !== undefined);
    await this.connections.renew(held);
  }
}
