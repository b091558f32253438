import { setTimeout as sleep } from 'node:timers/promises';
import { monoMs } from './clock.ts';
import { shareOf } from './job.ts';
import { paths, seen, setRequest, userOffline, userOnline } from './messages.ts';
import type { LoadContext, Scenario } from './scenario.ts';
import type { LoadSession } from './session.ts';

/** Sessions that are opened at the same time before the load. */
const opensInParallel = 64;
/** Users of one watcher of `expiry`: the server's default for MAX_WATCHED_USERS. */
const usersPerWatcher = 10_000;
/** After the last event was due. */
const lastEventsMs = 3000;
const expiryPatienceMs = 10_000;

/** Opens many sessions, some at a time. @throws Error when one is refused */
export async function openAll(
  context: LoadContext,
  from: number,
  to: number,
  open: (index: number) => Promise<LoadSession>,
): Promise<LoadSession[]> {
  const sessions: LoadSession[] = [];
  let next = from;
  const worker = async (): Promise<void> => {
    while (next < to) {
      sessions.push(await open(next++));
      context.note = `opening ${sessions.length} of ${to - from}`;
    }
  };
  await Promise.all(Array.from({ length: Math.min(opensInParallel, to - from) }, worker));
  context.note = '';
  return sessions;
}

/** When each flip is to be sent: all watched users in turn, first ONLINE, then OFFLINE. */
class FlipSchedule {
  readonly #watched: number;
  readonly #stepMs: number;
  startMs = Number.POSITIVE_INFINITY;

  constructor(watched: number, stepMs: number) {
    this.#watched = watched;
    this.#stepMs = stepMs;
  }

  /** User and status of a flip. */
  at(flip: number): { user: number; status: number } {
    const status = Math.floor(flip / this.#watched) % 2 === 0 ? userOnline : userOffline;
    return { user: flip % this.#watched, status };
  }

  /** When the latest flip of that user to that status was to be sent. */
  lastMs(user: number, status: number, nowMs: number): number {
    const first = user + (status === userOffline ? this.#watched : 0);
    const period = 2 * this.#watched;
    const round = Math.floor(((nowMs - this.startMs) / this.#stepMs - first) / period);
    return this.startMs + (first + period * round) * this.#stepMs;
  }

  /** Flips that are to be sent from `fromMs` on, before `toMs`. */
  count(fromMs: number, toMs: number): number {
    const before = (ms: number): number => Math.ceil((ms - this.startMs) / this.#stepMs);
    return before(toMs) - before(fromMs);
  }
}

/** What `fanout` needs of a server, whatever it speaks. */
export interface FanoutServer {
  /** Before the load, in the process that flips. */
  prepare(users: number): Promise<void>;
  open(
    index: number,
    watch: readonly string[],
    onLost: () => void,
    onEvent: FlipListener,
  ): Promise<LoadSession>;
  flip(user: number, status: number, intendedMs: number): void;
}

export type FlipListener = (user: number, status: number) => void;

/**
 * `connections` watchers, all of the same few users, whose status flips at `rate` per second. An event's time runs from
 * the moment that its flip was to be sent: the call, the engine and the way to the watcher are in it.
 */
export function fanoutOf(context: LoadContext, server: FanoutServer): Scenario {
  const { load, job, recorder } = context;
  const events = recorder.series('event');
  const flips = new FlipSchedule(load.watched, 1000 / load.rate);
  const watch = Array.from({ length: load.watched }, (_, user) => context.userId(user));
  const [from, to] = shareOf(load.connections, job);
  let sessions: LoadSession[] = [];
  let lost = 0;
  const onLost = (): void => {
    lost++;
  };
  const onEvent = (user: number, status: number): void => {
    const nowMs = monoMs();
    if (nowMs >= flips.startMs) events.ok(flips.lastMs(user, status, nowMs), nowMs);
  };

  return {
    prepare: async () => {
      if (job.process === 0) await server.prepare(load.watched);
      sessions = await openAll(context, from, to, (index) => server.open(index, watch, onLost, onEvent));
    },
    run: async (startMs) => {
      flips.startMs = startMs;
      const { fromMs, toMs } = context.measure(startMs);
      if (job.process === 0) {
        let flip = 0;
        await context.pacer.run(load.rate, startMs, toMs, (intendedMs) => {
          const { user, status } = flips.at(flip++);
          server.flip(user, status, intendedMs);
        });
      }
      await sleep(Math.max(0, toMs - monoMs()));
      const expected = flips.count(fromMs, toMs) * (to - from);
      const endMs = monoMs() + lastEventsMs;
      while (events.count < expected && monoMs() < endMs) await sleep(10);
      recorder.fact('missed-events', Math.max(0, expected - events.count), 'events');
      recorder.fact('lost-sessions', lost, 'sessions');
      recorder.fact('watchers', to - from, 'connections');
    },
    close: () => {
      for (const session of sessions) session.drop();
      context.close();
    },
  };
}

export function fanout(context: LoadContext): Scenario {
  const { load, recorder } = context;
  const updates = recorder.series('update');
  const setOf = (user: number, status: number): Buffer => setRequest(context.userId(user), status);
  return fanoutOf(context, {
    prepare: async (users) => {
      await context.openConnections(1);
      await context.forEach(0, users, (user) => [paths.set, setOf(user, userOffline)]);
    },
    open: (index, watch, onLost, onEvent) =>
      context.openSession({
        index,
        userId: load.kind === 'stream' ? '' : `${load.prefix}-watcher-${index}`,
        watch,
        onEvent: () => {
          if (!seen.snapshot) onEvent(seen.user, seen.status);
        },
        onLost,
      }),
    flip: (user, status, intendedMs) => context.call(paths.set, setOf(user, status), intendedMs, updates),
  });
}

/**
 * Lights users, then leaves them alone, and watches for OFFLINE. Lateness counts from the deadline by the clock of the
 * load: when the call was sent + TTL; so the way to the server is in it.
 */
export function expiry(context: LoadContext): Scenario {
  const { load, job, recorder } = context;
  const late = recorder.series('offline');
  const updates = recorder.series('update');
  const deadlines = new Map<number, number>();
  const watchers: LoadSession[] = [];
  let early = 0;
  const firstWatcher = Math.ceil(load.users / usersPerWatcher / job.processes + 1) * job.process;

  const onEvent = (): void => {
    const deadlineMs = deadlines.get(seen.user);
    if (seen.snapshot || seen.status !== userOffline || deadlineMs === undefined) return;
    deadlines.delete(seen.user);
    const nowMs = monoMs();
    if (nowMs < deadlineMs) early++;
    late.ok(deadlineMs, nowMs);
  };

  return {
    prepare: async () => {
      await context.openConnections();
      for (let user = context.firstUser; user < context.endUser; user += usersPerWatcher) {
        const count = Math.min(usersPerWatcher, context.endUser - user);
        const watch = Array.from({ length: count }, (_, offset) => context.userId(user + offset));
        const index = firstWatcher + watchers.length;
        const userId = load.kind === 'stream' ? '' : `${load.prefix}-watcher-${index}`;
        watchers.push(await context.openSession({ index, userId, watch, onEvent, onLost: () => {} }));
      }
    },
    run: async (startMs) => {
      recorder.setWindow(startMs, Number.POSITIVE_INFINITY);
      let user = context.firstUser;
      const lightMs = load.warmupMs + load.durationMs;
      const rate = (context.userCount * 1000) / lightMs;
      await context.pacer.run(rate, startMs, startMs + lightMs, (intendedMs) => {
        if (user >= context.endUser) return;
        const number = user++;
        deadlines.set(number, monoMs() + load.ttlMs);
        context.call(paths.set, setRequest(context.userId(number), userOnline), intendedMs, updates);
      });
      const endMs = monoMs() + load.ttlMs + expiryPatienceMs;
      while (deadlines.size > 0 && monoMs() < endMs) {
        context.note = `${deadlines.size} still lit`;
        await sleep(20);
      }
      recorder.fact('early', early, 'users');
      recorder.fact('never-told', deadlines.size, 'users');
    },
    close: () => {
      for (const watcher of watchers) watcher.drop();
      context.close();
    },
  };
}
