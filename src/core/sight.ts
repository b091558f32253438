import { type CustomStatus, dropExpired } from './custom-status.ts';
import { type UserState, unknownState } from './presence.ts';
import type { Face, Hide, Privacy } from './privacy.ts';
import type { ConnectionSeen } from './store.ts';

/** For whom a user is looked up. */
export interface Viewer {
  /** null: nobody in particular. */
  readonly userId: string | null;
  /** Whether nothing is hidden from this viewer. */
  readonly seesAll: boolean;
}

/** Who is not known: hidden users are hidden, and last seen that is not for everyone is not shown. */
export const stranger: Viewer = Object.freeze({ userId: null, seesAll: false });
export const insider: Viewer = Object.freeze({ userId: null, seesAll: true });

export interface SightRules {
  /** By the engine's clock, or near it. */
  readonly nowMs: number;
  /** How long an OFFLINE user is remembered. */
  readonly lastSeenTtlMs: number;
  /** Whether the viewer's own last seen is shown to others: then theirs is, where that is the condition. */
  readonly isReciprocal: boolean;
}

/** A state as one viewer sees it, and the custom statuses behind it; the last is in force. */
export interface Sight {
  readonly state: UserState;
  readonly customStatuses: readonly CustomStatus[];
}

/**
 * What a viewer sees of a user who has privacy. A hidden user is an OFFLINE one of whom nothing more is heard; what
 * happened meanwhile stays secret afterwards. Versions never go back for one viewer, but are 0 where they would tell when
 * an OFFLINE user was last seen.
 */
export function seenBy(viewer: Viewer, truth: UserState, rules: SightRules): UserState {
  const { privacy } = truth;
  if (!privacy) return truth;
  const state = withoutPrivacy(truth);
  if (viewer.seesAll || viewer.userId === state.userId) return remembered(state, rules);
  const sight = { state, customStatuses: state.customStatus ? [state.customStatus] : [] };
  const seen = remembered(throughHides(viewer.userId, sight, privacy, rules.nowMs).state, rules);
  if (seen.status === 'ONLINE' || seen.version === 0) return seen;
  if (isConcealed(privacy, rules.isReciprocal)) return conceal(seen);
  // Shown again, it is news to those who had it as 0.
  return { ...seen, version: Math.max(seen.version, privacy.lastSeenVersion) };
}

/**
 * What a viewer sees of a user's connections: none of an OFFLINE user who is hidden or whose last seen is concealed, and none
 * older than the status that is seen. That holds without privacy too: what began in hiding looks no other, then or later.
 *
 * @param seen what the viewer sees of `truth`
 * @param nameSince the id by which others know a connection that they see since a time: nobody may know it again from before
 */
export function connectionsSeenBy(
  viewer: Viewer,
  truth: UserState,
  seen: UserState,
  connections: readonly ConnectionSeen[],
  nameSince: (connectionId: string, sinceMs: number) => string,
): ConnectionSeen[] {
  if (viewer.seesAll || viewer.userId === truth.userId) return [...connections];
  if (seen.status === 'OFFLINE' && truth.privacy && (isCovered(viewer, truth) || seen.version === 0))
    return [];
  const { sinceMs } = seen;
  return connections.map((it) => {
    if (it.sinceMs >= sinceMs) return it;
    const connectionId = nameSince(it.connectionId, sinceMs);
    return { ...it, connectionId, sinceMs, lastSeenMs: Math.max(it.lastSeenMs, sinceMs) };
  });
}

/** Whether the user is hidden from the viewer, or was and is still shown as then. */
function isCovered({ userId }: Viewer, state: UserState): boolean {
  const { invisible, blocked } = state.privacy as Privacy;
  const block = userId === null ? undefined : blocked.get(userId);
  return [invisible, block].some((hide) => hide && !isSuperseded(hide, state));
}

/** What a viewer sees behind invisibility and the block list, last seen included. */
export function throughHides(
  viewerId: string | null,
  sight: Sight,
  { invisible, blocked }: Privacy,
  nowMs: number,
): Sight {
  const block = viewerId === null ? undefined : blocked.get(viewerId);
  return through(block ?? null, through(invisible, sight, nowMs), nowMs);
}

export function through(hide: Hide | null, sight: Sight, nowMs: number): Sight {
  if (!hide) return sight;
  const { face, lifted } = hide;
  const { state, customStatuses } = sight;
  if (!lifted) return showFace(face, state.userId, nowMs);
  if (isSuperseded(hide, state)) return sight;
  const isSameSince = state.version <= lifted.version;
  if (state.status === 'OFFLINE') {
    const shown = showFace(face, state.userId, nowMs).state;
    const { cause, changedAtMs, customStatus, version } = state;
    // Only the custom status can have changed since.
    const later = isSameSince ? {} : { cause, changedAtMs, version };
    return { state: { ...shown, ...later, customStatus }, customStatuses };
  }
  return {
    state: {
      ...state,
      cause: isSameSince ? 'SET' : state.cause,
      sinceMs: lifted.atMs,
      changedAtMs: Math.max(state.changedAtMs, lifted.atMs),
      lastSeenMs: Math.max(state.lastSeenMs, lifted.atMs),
      // A hidden custom status can have ended in the millisecond of the lift.
      version: Math.max(state.version, lifted.version, face.version + 1),
    },
    customStatuses,
  };
}

/** Whether a status began after the hide was lifted: then there is nothing left to keep secret. */
export function isSuperseded({ lifted }: Hide, state: UserState): boolean {
  return lifted !== null && (state.status !== lifted.status || state.sinceMs !== lifted.sinceMs);
}

function showFace(face: Face, userId: string, nowMs: number): Sight {
  const customStatuses = dropExpired(face.customStatuses, nowMs - face.lateMs);
  const { cause, sinceMs, changedAtMs, lastSeenMs, version } = face;
  const state: UserState = {
    userId,
    status: 'OFFLINE',
    activity: null,
    cause,
    sinceMs,
    changedAtMs,
    lastSeenMs,
    customStatus: customStatuses.at(-1) ?? null,
    version,
  };
  if (customStatuses === face.customStatuses) return { state, customStatuses };
  const overMs = face.customStatuses.filter((it) => !customStatuses.includes(it)).map((it) => it.expiresAtMs);
  const expiredMs = Math.max(...overMs) + face.lateMs;
  const later = { cause: 'EXPIRED', changedAtMs: expiredMs } as const;
  return {
    state: { ...state, ...later, version: Math.max(version + 1, expiredMs * 1000) },
    customStatuses,
  };
}

/** When a hidden user's custom status is over next; Infinity: never. */
export function nextFaceChangeMs({ invisible, blocked }: Privacy, nowMs: number): number {
  let nextMs = Number.POSITIVE_INFINITY;
  for (const hide of [invisible, ...blocked.values()]) {
    if (!hide) continue;
    const { customStatuses, lateMs } = hide.face;
    for (const { expiresAtMs } of customStatuses) {
      if (expiresAtMs + lateMs > nowMs) nextMs = Math.min(nextMs, expiresAtMs + lateMs);
    }
  }
  return nextMs;
}

/** Whether a viewer who is not the user may not know when the OFFLINE user was last seen. */
function isConcealed({ lastSeen }: Privacy, isReciprocal: boolean): boolean {
  return lastSeen === 'nobody' || (lastSeen === 'reciprocal' && !isReciprocal);
}

/** A version is a time, so it goes too. */
function conceal(state: UserState): UserState {
  return { ...state, sinceMs: 0, changedAtMs: 0, lastSeenMs: 0, version: 0 };
}

/** Engines keep users with privacy for good; what is told of them ends as it does for others. */
function remembered(state: UserState, { nowMs, lastSeenTtlMs }: SightRules): UserState {
  const { userId, status, changedAtMs, version } = state;
  if (status === 'ONLINE' || version === 0 || nowMs < changedAtMs + lastSeenTtlMs) return state;
  return unknownState(userId);
}

function withoutPrivacy(state: UserState): UserState {
  const { userId, status, activity, cause, sinceMs, changedAtMs, lastSeenMs, customStatus, version } = state;
  return { userId, status, activity, cause, sinceMs, changedAtMs, lastSeenMs, customStatus, version };
}
