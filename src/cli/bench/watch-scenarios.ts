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

/**
 * `connections` watchers, all of the same few users, whose status flips at `rate` per second. An event's time runs from
 * the moment that its flip was to be sent: the call, the engine and the way to the watcher are in it.
 */
export function fanout(context: LoadContext): Scenario {
  const { load, job, recorder } = context;
  const events = recorder.series('event');
  const updates = recorder.series('update');
  const stepMs = 1000 / load.rate;
  const watch = Array.from({ length: load.watched }, (_, user) => context.userId(user));
  const [from, to] = shareOf(load.connections, job);
  let sessions: LoadSession[] = [];
  let startMs = Number.POSITIVE_INFINITY;
  let lost = 0;

  /** When the latest flip of that user to that status was to be sent. Flips go round all users, first ON, then OFF. */
  const flipMs = (user: number, status: number, nowMs: number): number => {
    const first = user + (status === userOffline ? load.watched : 0);
    const round = Math.floor(((nowMs - startMs) / stepMs - first) / (2 * load.watched));
    return startMs + (first + 2 * load.watched * round) * stepMs;
  };
  const onEvent = (): void => {
    const nowMs = monoMs();
    if (!seen.snapshot && nowMs >= startMs) events.ok(flipMs(seen.user, seen.status, nowMs), nowMs);
  };

  return {
    prepare: async () => {
      if (job.process === 0) {
        await context.openConnections(1);
        await context.forEach(0, load.watched, (user) => [
          paths.set,
          setRequest(context.userId(user), userOffline),
        ]);
      }
      sessions = await openAll(context, from, to, (index) =>
        context.openSession({
          index,
          userId: load.kind === 'stream' ? '' : `${load.prefix}-watcher-${index}`,
          watch,
          onEvent,
          onLost: () => {
            lost++;
          },
        }),
      );
    },
    run: async (begin) => {
      startMs = begin;
      const { fromMs, toMs } = context.measure(begin);
      if (job.process === 0) {
        let flip = 0;
        await context.pacer.run(load.rate, begin, toMs, (intendedMs) => {
          const user = flip % load.watched;
          const status = Math.floor(flip / load.watched) % 2 === 0 ? userOnline : userOffline;
          flip++;
          context.call(paths.set, setRequest(context.userId(user), status), intendedMs, updates);
        });
      }
      await sleep(Math.max(0, toMs - monoMs()));
      const flips = Math.ceil((toMs - begin) / stepMs) - Math.ceil((fromMs - begin) / stepMs);
      const expected = flips * (to - from);
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
