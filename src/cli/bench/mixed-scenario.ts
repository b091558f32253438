import { setTimeout as sleep } from 'node:timers/promises';
import { monoMs } from './clock.ts';
import { bulkRequest, paths, seen, setRequest, userOffline, userOnline, userRequest } from './messages.ts';
import { Pacer } from './pacer.ts';
import type { LoadContext, Scenario } from './scenario.ts';
import type { LoadSession } from './session.ts';
import { openAll } from './watch-scenarios.ts';

const fewestFriends = 5;
const mostFriends = 500;
/** Exponent of the power law of friends: with 2.5 the mean is 15, and one in a hundred has more than 100. */
const friendsExponent = 2.5;
/** Of the app's users, who is there: from this share at night to that share in the evening. */
const nightShare = 0.6;
const eveningShare = 0.9;
/** The app's day passes in the time of the run. */
const lastEventsMs = 500;

/** A stream of numbers from 0 to 1 that is the same in every run with the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

interface Member {
  session: LoadSession | undefined;
  isBusy: boolean;
  /** The last change of status that this process sent for the user. */
  status: number;
  changedMs: number;
}

/**
 * A social application. Users have friends by a power law; a day with its night and evening passes during the run;
 * whoever opens the app asks for all friends, watches them and heartbeats; whoever closes it signs out. `rate` is the
 * number of users per second who open or close it beside the tide. Friends are among the users of the same process,
 * so that an event's time runs from the moment that the change was to be sent.
 */
export function mixed(context: LoadContext): Scenario {
  const { load, recorder, job, firstUser, userCount } = context;
  const random = seededRandom(job.process + 1);
  const members: Member[] = Array.from({ length: userCount }, () => ({
    session: undefined,
    isBusy: false,
    status: userOffline,
    changedMs: Number.NEGATIVE_INFINITY,
  }));
  const series = {
    open: recorder.series('open'),
    event: recorder.series('event'),
    heartbeat: recorder.series('heartbeat'),
    update: recorder.series('update'),
    bulk: recorder.series('bulk'),
  };
  const heartbeats = new Pacer();
  let online = 0;
  let lost = 0;

  const friendsOf = (): string[] => {
    const count = Math.min(
      mostFriends,
      userCount,
      Math.floor(fewestFriends * (1 - random()) ** (-1 / (friendsExponent - 1))),
    );
    // Squared: the first users are the popular ones.
    return Array.from({ length: count }, () =>
      context.userId(firstUser + Math.floor(random() ** 2 * userCount)),
    );
  };

  const onEvent = (): void => {
    const member = members[seen.user - firstUser];
    if (!seen.snapshot && member?.status === seen.status) series.event.ok(member.changedMs, monoMs());
  };

  const change = (user: number, status: number, intendedMs: number): void => {
    const member = members[user] as Member;
    member.status = status;
    member.changedMs = intendedMs;
    context.call(paths.set, setRequest(context.userId(firstUser + user), status), intendedMs, series.update);
  };

  const enter = async (user: number, intendedMs: number): Promise<void> => {
    const member = members[user] as Member;
    member.isBusy = true;
    change(user, userOnline, intendedMs);
    const watch = friendsOf();
    context.call(paths.getMany, bulkRequest(watch), intendedMs, series.bulk);
    try {
      member.session = await context.openSession({
        index: firstUser + user,
        userId: context.userId(firstUser + user),
        watch,
        onEvent,
        onLost: () => {
          lost++;
          online--;
          member.session = undefined;
        },
      });
      online++;
      series.open.ok(intendedMs, monoMs());
    } catch {
      series.open.failed(intendedMs);
    }
    member.isBusy = false;
  };

  const leave = (user: number, intendedMs: number): void => {
    const member = members[user] as Member;
    change(user, userOffline, intendedMs);
    member.session?.close();
    member.session = undefined;
    online--;
  };

  /** How many should be there at this time of the run's day: a wave that begins in the morning. */
  const tide = (share: number): number => {
    const wave = (1 - Math.cos(2 * Math.PI * share)) / 2;
    return userCount * (nightShare + (eveningShare - nightShare) * wave);
  };

  /** Somebody at random of whom `matches` holds, or nobody when a few tries found none. */
  const someone = (matches: (member: Member) => boolean): number => {
    for (let tries = 0; tries < 20; tries++) {
      const user = Math.floor(random() * userCount);
      if (matches(members[user] as Member)) return user;
    }
    return -1;
  };

  const comeAndGo = (intendedMs: number, share: number): void => {
    const wanted = tide(share);
    const isArrival = online < wanted * 0.99 || (online < wanted * 1.01 && random() < 0.5);
    const user = someone(({ session, isBusy }) => !isBusy && (session === undefined) === isArrival);
    if (user < 0) return;
    if (isArrival) void enter(user, intendedMs);
    else leave(user, intendedMs);
  };

  return {
    prepare: async () => {
      await context.openConnections();
      const first = Math.floor(tide(0));
      await openAll(context, 0, first, async (user) => {
        await enter(user, Number.NEGATIVE_INFINITY);
        const { session } = members[user] as Member;
        if (!session) throw new Error('a session was refused');
        return session;
      });
    },
    run: async (startMs) => {
      const { toMs } = context.measure(startMs);
      const rate = context.rate > 0 ? context.rate : userCount / 100;
      let turn = 0;
      const beating = heartbeats.run((userCount * 1000) / load.heartbeatMs, startMs, toMs, (intendedMs) => {
        const user = turn++ % userCount;
        if ((members[user] as Member).session === undefined) return;
        context.call(
          paths.heartbeat,
          userRequest(context.userId(firstUser + user)),
          intendedMs,
          series.heartbeat,
        );
      });
      await context.pacer.run(rate, startMs, toMs, (intendedMs) => {
        comeAndGo(intendedMs, (intendedMs - startMs) / (toMs - startMs));
        context.note = `${online} there`;
      });
      await beating;
      await context.drained();
      await sleep(lastEventsMs);
      recorder.fact('there', online, 'sessions');
      recorder.fact('lost', lost, 'sessions');
    },
    close: () => {
      heartbeats.stop();
      for (const { session } of members) session?.drop();
      context.close();
    },
  };
}
