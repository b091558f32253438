import { setTimeout as sleep } from 'node:timers/promises';
import { monoMs } from './clock.ts';
import { shareOf } from './job.ts';
import { seen, userOffline } from './messages.ts';
import type { LoadContext, Scenario } from './scenario.ts';
import type { LoadSession } from './session.ts';
import { openAll } from './watch-scenarios.ts';

/** Sessions of one process that are coming back at the same time: a listening socket queues no more than 511. */
const returnsInParallel = 200;
const returnPatienceMs = 60_000;
const usersPerWatcher = 10_000;
const closingMs = 2000;

/** Numbers of the sessions that this process has, and the first number that no session has. */
const sessionShare = (context: LoadContext): [number, number] =>
  shareOf(context.load.connections, context.job);

/** The user of a session watches itself: every kind of session then has something to be told. */
function openOwn(context: LoadContext, index: number, onLost: () => void): Promise<LoadSession> {
  const userId = context.userId(index);
  return context.openSession({ index, userId, watch: [userId], onEvent: () => {}, onLost });
}

/** Opens `connections` sessions at `rate` per second and holds them for the measured time. */
export function sessions(context: LoadContext): Scenario {
  const { load, recorder } = context;
  const opening = recorder.series('open');
  const [from, to] = sessionShare(context);
  const open: LoadSession[] = [];
  let lost = 0;

  return {
    prepare: async () => {},
    run: async (startMs) => {
      recorder.setWindow(startMs, Number.POSITIVE_INFINITY);
      let index = from;
      const attempts: Promise<void>[] = [];
      const rate = context.rate > 0 ? context.rate : 1000 / context.job.processes;
      const openMs = ((to - from) * 1000) / rate;
      await context.pacer.run(rate, startMs, startMs + openMs, (intendedMs) => {
        if (index >= to) return;
        const opened = openOwn(context, index++, () => {
          lost++;
        }).then(
          (session) => {
            open.push(session);
            opening.ok(intendedMs, monoMs());
            context.note = `${open.length} open`;
          },
          () => opening.failed(intendedMs),
        );
        attempts.push(opened);
      });
      await Promise.all(attempts);
      await sleep(load.durationMs);
      recorder.fact('open', open.length - lost, 'sessions');
      recorder.fact('lost', lost, 'sessions');
    },
    close: () => {
      for (const session of open) session.drop();
      context.close();
    },
  };
}

/** Sessions that come at `rate` per second and leave after `lifeMs`. */
export function churn(context: LoadContext): Scenario {
  const { load, recorder, job } = context;
  const opening = recorder.series('open');
  const open = new Set<LoadSession>();
  let lost = 0;

  return {
    prepare: async () => {},
    run: async (startMs) => {
      const { toMs } = context.measure(startMs);
      let index = job.process;
      const rate = context.rate > 0 ? context.rate : 100 / job.processes;
      await context.pacer.run(rate, startMs, toMs, (intendedMs) => {
        const user = index % Math.max(1, load.users);
        index += job.processes;
        let session: LoadSession | undefined;
        openOwn(context, user, () => {
          lost++;
          if (session) open.delete(session);
        }).then(
          (it) => {
            session = it;
            open.add(it);
            opening.ok(intendedMs, monoMs());
            setTimeout(() => {
              if (open.delete(it)) it.close();
            }, load.lifeMs);
          },
          () => opening.failed(intendedMs),
        );
      });
      await sleep(Math.min(load.lifeMs + 500, closingMs));
      recorder.fact('lost', lost, 'sessions');
    },
    close: () => {
      for (const session of open) session.drop();
      context.close();
    },
  };
}

/** All sessions are cut at once, and all come back at once. Nobody may be seen OFFLINE. */
export function storm(context: LoadContext): Scenario {
  const { load, recorder } = context;
  const back = recorder.series('back');
  const [from, to] = sessionShare(context);
  let open: LoadSession[] = [];
  const watchers: LoadSession[] = [];
  let isStorm = false;
  let falseOffline = 0;
  let lost = 0;
  const onLost = (): void => {
    lost++;
  };

  return {
    prepare: async () => {
      open = await openAll(context, from, to, (index) => openOwn(context, index, onLost));
      for (let user = from; user < to; user += usersPerWatcher) {
        const count = Math.min(usersPerWatcher, to - user);
        const watch = Array.from({ length: count }, (_, offset) => context.userId(user + offset));
        watchers.push(
          await context.openSession({
            index: load.connections + Math.floor(user / usersPerWatcher),
            userId: load.kind === 'stream' ? '' : `${load.prefix}-watcher-${user}`,
            watch,
            onEvent: () => {
              if (isStorm && !seen.snapshot && seen.status === userOffline) falseOffline++;
            },
            onLost,
          }),
        );
      }
    },
    run: async (startMs) => {
      await sleep(Math.max(0, startMs - monoMs()));
      recorder.setWindow(startMs, Number.POSITIVE_INFINITY);
      isStorm = true;
      for (const session of open) session.drop();
      open = [];
      let next = from;
      let lastMs = startMs;
      const comeBack = async (): Promise<void> => {
        while (next < to) {
          const index = next++;
          for (let tries = 1; ; tries++) {
            try {
              open.push(await openOwn(context, index, onLost));
              lastMs = monoMs();
              back.ok(startMs, lastMs);
              break;
            } catch {
              if (lastMs - startMs > returnPatienceMs || tries === 100) {
                back.failed(startMs);
                break;
              }
              await sleep(20 * tries);
            }
          }
          context.note = `${open.length} back`;
        }
      };
      await Promise.all(Array.from({ length: returnsInParallel }, comeBack));
      recorder.fact('all-back', lastMs - startMs, 'ms', 'max');
      // Whoever was taken for gone is told OFFLINE after the grace: so the measured time must be longer than that.
      await sleep(load.durationMs);
      recorder.fact('false-offline', falseOffline, 'events');
      recorder.fact('back', open.length, 'sessions');
      recorder.fact('lost', lost, 'sessions');
    },
    close: () => {
      for (const session of [...open, ...watchers]) session.drop();
      context.close();
    },
  };
}
