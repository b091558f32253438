import { pieces } from './pieces.ts';

/** What check.lua found in a partition; the position is that of its key, from 1. */
export type FoundUsers = [position: number, ...users: string[]];

/** Users judged by calls that are sent together: about 5 ms of Redis. */
export const usersJudgedAtOnce = 200;

/** Calls that are sent together, since each takes a round trip; not more users than Redis should do before it serves others. */
export function batches(
  found: readonly FoundUsers[],
  part: readonly number[],
): (readonly [number, string[]])[][] {
  const together: (readonly [number, string[]])[][] = [];
  let room = 0;
  for (const [position, ...users] of found) {
    for (const some of pieces(users, usersJudgedAtOnce)) {
      if (some.length > room) {
        together.push([]);
        room = usersJudgedAtOnce;
      }
      together.at(-1)?.push([part[position - 1] as number, some]);
      room -= some.length;
    }
  }
  return together;
}
