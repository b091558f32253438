import { dropExpired, isSameCustomStatus } from './custom-status.ts';
import { PresenceError } from './errors.ts';
import type { UserState } from './presence.ts';
import {
  type Face,
  type Hide,
  maxPrivacyBytes,
  openPrivacy,
  type Privacy,
  type PrivacyChange,
  privacyBytes,
} from './privacy.ts';
import { isSuperseded, nextFaceChangeMs, type Sight, through, throughHides } from './sight.ts';

export interface PrivacyOutcome {
  /** null: nothing is left to keep. */
  readonly privacy: Privacy | null;
  /**
   * Whether an ONLINE user appears to somebody. The lease is then renewed, as SetUserStatus(ONLINE) does: else its end
   * would tell of a heartbeat before.
   */
  readonly renews: boolean;
  /**
   * The change must be written before this, Unix ms by the engine's clock; Infinity: whenever. A custom status ends then, and the
   * outcome would be another.
   */
  readonly validUntilMs: number;
}

/** Time and version of a change. Both come from one reading of the clock: their difference is seen by everybody. */
export interface Stamp {
  readonly atMs: number;
  readonly version: number;
}

/** Greater than every time and version: the engine reads the clock when it writes, and puts its own in their place. */
export const toCome = Number.MAX_SAFE_INTEGER;
export const stampToCome: Stamp = Object.freeze({ atMs: toCome, version: toCome });

/**
 * What a change makes of a user's privacy.
 *
 * @param truth the user as nobody but they themselves see it, with privacy as it is
 * @param nowMs a time before the change by less than `validUntilMs` of the outcome
 * @param stamp time and version that are kept of the change
 * @param lateMs how late a sweep could find a custom status over, chosen at random
 * @returns null: nothing changes, and there is nothing to drop
 * @throws PresenceError INVALID_ARGUMENT: more than MAX_BLOCKED_USERS
 */
export function changePrivacy(
  truth: Sight,
  change: PrivacyChange,
  nowMs: number,
  stamp: Stamp,
  lateMs: number,
): PrivacyOutcome | null {
  const before = truth.state.privacy ?? openPrivacy;
  const lift = ({ face }: Hide, { state }: Sight): Hide => {
    const { status, sinceMs } = state;
    const shown = through({ face, lifted: null }, truth, nowMs).state;
    return {
      face: faceAfter(shown, state, stamp),
      lifted: { ...stamp, status, sinceMs },
    };
  };

  const unhidden = through(before.invisible, truth, nowMs);
  let invisible = before.invisible;
  if (change.invisible === true && !isHiding(invisible)) {
    invisible = { face: faceOf(unhidden, nowMs, stamp, lateMs), lifted: null };
  } else if (change.invisible === false && invisible && isHiding(invisible)) {
    invisible = lift(invisible, truth);
  }

  const unhiddenAfter = through(invisible, truth, nowMs);
  const blocked = new Map(before.blocked);
  let isListChanged = false;
  let isAppearing = false;
  let face: Face | undefined;
  for (const userId of change.addBlocked) {
    if (isHiding(blocked.get(userId) ?? null)) continue;
    const sight = throughHides(userId, truth, before, nowMs);
    blocked.delete(userId);
    // All but those who already saw somebody else keep the same.
    const own = faceOf(sight, nowMs, stamp, lateMs);
    face = face && isSameFace(face, own) ? face : own;
    blocked.set(userId, { face, lifted: null });
    isListChanged = true;
  }
  for (const userId of change.removeBlocked) {
    const hide = blocked.get(userId);
    if (!hide || hide.lifted) continue;
    blocked.set(userId, lift(hide, unhiddenAfter));
    isListChanged = true;
    isAppearing = true;
  }
  const lastSeen = change.lastSeen ?? before.lastSeen;
  const isLastSeenChanged = lastSeen !== before.lastSeen;
  if (invisible !== before.invisible && !isHiding(invisible)) isAppearing = true;
  const isChanged = invisible !== before.invisible || isListChanged || isLastSeenChanged;

  // Those who see what everybody sees need no entry any more.
  for (const [userId, hide] of before.blocked) {
    if (blocked.get(userId) === hide && isSuperseded(hide, unhidden.state)) blocked.delete(userId);
  }
  if (blocked.size > change.maxBlockedUsers) {
    throw PresenceError.invalidArgument(
      'add_blocked',
      `would make the list longer than ${change.maxBlockedUsers} users; those taken off it count until the next change of status`,
    );
  }
  if (invisible && isSuperseded(invisible, truth.state)) invisible = null;
  const lastSeenVersion = isLastSeenChanged ? stamp.version : before.lastSeenVersion;
  const isEmpty =
    !invisible && blocked.size === 0 && lastSeen === 'everyone' && lastSeenVersion <= truth.state.version;
  const isDropped = isEmpty
    ? truth.state.privacy !== undefined
    : invisible !== before.invisible || blocked.size !== before.blocked.size;
  if (!isChanged && !isDropped) return null;
  const privacy = isEmpty ? null : { version: stamp.version, invisible, blocked, lastSeen, lastSeenVersion };
  if (
    privacy &&
    change.addBlocked.length > 0 &&
    privacyBytes(privacy) > maxPrivacyBytes(change.maxBlockedUsers)
  ) {
    throw PresenceError.invalidArgument(
      'add_blocked',
      'would make the record too large: it keeps a custom status for each time of blocking; block fewer users',
    );
  }
  return {
    privacy,
    renews: isAppearing && truth.state.status === 'ONLINE',
    validUntilMs: nextEndMs(truth, before, nowMs, lateMs),
  };
}

/** When a custom status ends next, for anybody: one that is kept in a new face ends as late as that says. */
function nextEndMs({ customStatuses }: Sight, before: Privacy, nowMs: number, lateMs: number): number {
  const faces = [before.invisible, ...before.blocked.values()].flatMap(
    (hide) => hide?.face.customStatuses ?? [],
  );
  let nextMs = nextFaceChangeMs(before, nowMs);
  for (const { expiresAtMs } of [...customStatuses, ...faces]) {
    if (expiresAtMs !== 0 && expiresAtMs + lateMs > nowMs) nextMs = Math.min(nextMs, expiresAtMs + lateMs);
  }
  return nextMs;
}

function isSameFace(a: Face, b: Face): boolean {
  return (
    a.version === b.version &&
    a.cause === b.cause &&
    a.sinceMs === b.sinceMs &&
    a.changedAtMs === b.changedAtMs &&
    a.lastSeenMs === b.lastSeenMs &&
    a.lateMs === b.lateMs &&
    a.customStatuses.length === b.customStatuses.length &&
    a.customStatuses.every((status, index) => isSameCustomStatus(status, b.customStatuses[index] ?? null))
  );
}

function isHiding(hide: Hide | null): boolean {
  return hide !== null && hide.lifted === null;
}

/** What stays of what a viewer saw when the user is put OFFLINE for them. */
function faceOf({ state, customStatuses }: Sight, nowMs: number, stamp: Stamp, lateMs: number): Face {
  const kept = { customStatuses: dropExpired(customStatuses, nowMs - lateMs), lateMs };
  if (state.status === 'ONLINE') {
    const { atMs, version } = stamp;
    return { cause: 'SET', sinceMs: atMs, changedAtMs: atMs, lastSeenMs: atMs, version, ...kept };
  }
  const { cause, sinceMs, changedAtMs, lastSeenMs } = state;
  return { cause, sinceMs, changedAtMs, lastSeenMs, version: state.version, ...kept };
}

/** What is left of a face when it is lifted: from then on custom statuses are those of the user. */
function faceAfter(shown: UserState, under: UserState, stamp: Stamp): Face {
  const { cause, sinceMs, changedAtMs, lastSeenMs } = shown;
  const face = {
    cause,
    sinceMs,
    changedAtMs,
    lastSeenMs,
    version: shown.version,
    customStatuses: [],
    lateMs: 0,
  };
  const isNews = under.status === 'OFFLINE' && !isSameCustomStatus(shown.customStatus, under.customStatus);
  return isNews ? { ...face, cause: 'SET', changedAtMs: stamp.atMs, version: stamp.version } : face;
}
