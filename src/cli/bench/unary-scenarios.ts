import { bulkRequest, paths, setRequest, userOffline, userOnline, userRequest } from './messages.ts';
import type { LoadContext, Scenario } from './scenario.ts';

/** Different bulk requests made before the load; enough that no two in a row ask for the same users. */
const bulkVariants = 32;

/** Users in turn: every user's call comes as long after the one before as it can. */
function usersInTurn(context: LoadContext): () => number {
  let next = context.firstUser;
  return () => {
    const user = next++;
    if (next >= context.endUser) next = context.firstUser;
    return user;
  };
}

/** One rpc, over and over. */
function unary(
  context: LoadContext,
  name: string,
  path: string,
  prepareUsers: boolean,
  nextRequest: () => Buffer,
): Scenario {
  const series = context.recorder.series(name);
  return {
    prepare: async () => {
      await context.openConnections();
      if (prepareUsers) await context.lightUsers();
    },
    run: (startMs) =>
      context.drive(startMs, (intendedMs, done) => {
        context.call(path, nextRequest(), intendedMs, series, done);
      }),
    close: () => context.close(),
  };
}

/** SendHeartbeat of users who are ONLINE. */
export function heartbeat(context: LoadContext): Scenario {
  const next = usersInTurn(context);
  const requests = new Map<number, Buffer>();
  return unary(context, 'heartbeat', paths.heartbeat, true, () => {
    const user = next();
    let request = requests.get(user);
    if (!request) {
      request = userRequest(context.userId(user));
      requests.set(user, request);
    }
    return request;
  });
}

/** SetUserStatus, each call a transition: a user goes ONLINE, then OFFLINE, then ONLINE. */
export function update(context: LoadContext): Scenario {
  const next = usersInTurn(context);
  let status = userOffline;
  return unary(context, 'update', paths.set, false, () => {
    const user = next();
    if (user === context.firstUser) status = status === userOnline ? userOffline : userOnline;
    return setRequest(context.userId(user), status);
  });
}

/** GetUserStatus. */
export function query(context: LoadContext): Scenario {
  const next = usersInTurn(context);
  return unary(context, 'query', paths.get, true, () => userRequest(context.userId(next())));
}

/** GetMultipleUserStatus of `bulkSize` users. */
export function bulk(context: LoadContext): Scenario {
  const { bulkSize } = context.load;
  const next = usersInTurn(context);
  const requests = Array.from({ length: bulkVariants }, () =>
    bulkRequest(Array.from({ length: bulkSize }, () => context.userId(next()))),
  );
  let turn = 0;
  return unary(context, 'bulk', paths.getMany, true, () => {
    turn = (turn + 1) % bulkVariants;
    return requests[turn] as Buffer;
  });
}
