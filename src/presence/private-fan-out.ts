import type { UserState } from '../core/presence.ts';
import { insider, stranger, type Viewer } from '../core/sight.ts';
import { maxTimerMs } from '../core/timer.ts';
import { isSeenSame, type Sights } from './sights.ts';
import type { WatchEvent, WatchedUser } from './subscription.ts';

/**
 * Tells the watchers of a user who has privacy, or had it before, of a change: each what it sees, and only those who see
 * something else than before. Those who see the same are told by one object.
 *
 * @param isOld whether the second state is no news to a viewer who saw the first
 */
export function tellApart(
  sights: Sights,
  user: WatchedUser,
  before: UserState | undefined,
  after: UserState,
  isOld = isSeenSame,
): void {
  const { toldAtMs } = user;
  const nowMs = sights.nowMs();
  user.toldAtMs = nowMs;
  const eventFor = (viewer: Viewer, isReciprocal: boolean): WatchEvent | undefined => {
    const seen = sights.of(viewer, after, isReciprocal, nowMs);
    const isNews = !before || !isOld(sights.of(viewer, before, isReciprocal, toldAtMs), seen);
    return !isNews ? undefined : { state: seen, snapshot: false };
  };
  const truth = eventFor(insider, true);
  const common = eventFor(stranger, false);
  for (const watcher of user.watchers) {
    const { viewer } = watcher;
    const isOwn = viewer.userId === user.userId;
    if (isOwn) watcher.ownChanged();
    if (after.privacy?.lastSeen === 'reciprocal') watcher.metReciprocal();
    const isCommon = isStranger(viewer, after) && (!before || isStranger(viewer, before));
    let event = common;
    if (isOwn || viewer.seesAll) event = truth;
    else if (!isCommon) event = eventFor(viewer, watcher.isReciprocal);
    if (event) watcher.offer(user, event);
  }
  planAgain(sights, user, after);
}

/** A hidden user's custom status ends without a word from the engine. */
function planAgain(sights: Sights, user: WatchedUser, state: UserState): void {
  clearTimeout(user.faceTimer);
  const waitMs = sights.nextChangeMs(state);
  if (waitMs === Number.POSITIVE_INFINITY || user.watchers.size === 0) return;
  const again = () => tellApart(sights, user, user.state, user.state as UserState);
  user.faceTimer = setTimeout(again, Math.min(waitMs, maxTimerMs)).unref();
}

/** Whether this user's privacy makes no difference between the viewer and any other. */
function isStranger({ userId }: Viewer, { privacy }: UserState): boolean {
  if (userId === null || !privacy) return true;
  return !privacy.blocked.has(userId) && privacy.lastSeen !== 'reciprocal';
}
