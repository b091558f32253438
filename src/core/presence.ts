/**
 * The rules of a user's light, as pure functions of (record, event, nowMs).
 *
 * A record changes its status or activity only here (memory engine) or in the Lua scripts that say the same
 * (Redis engine); the model-based test holds the two together.
 */

export type Status = 'ONLINE' | 'OFFLINE';
export type Activity = 'ACTIVE' | 'IDLE' | 'AWAY' | 'DO_NOT_DISTURB';
export type Cause = 'SET' | 'HEARTBEAT' | 'CONNECT' | 'DISCONNECT' | 'EXPIRED' | 'NODE_LOST';

/** What readers and watchers see of a user. Times are Unix ms by the engine's clock, 0 = never. */
export interface UserState {
  readonly userId: string;
  readonly status: Status;
  /** null while OFFLINE. */
  readonly activity: Activity | null;
  /** Why it last changed; null for a user never heard of. */
  readonly cause: Cause | null;
  /** When the present status began. */
  readonly sinceMs: number;
  /** When status or activity last changed. */
  readonly changedAtMs: number;
  /** Last evidence of life. */
  readonly lastSeenMs: number;
  /** Grows with every transition of the user's partition; 0 = no transition ever. */
  readonly version: number;
}

/** All that an engine keeps of a user. */
export interface PresenceRecord {
  readonly status: Status;
  readonly activity: Activity | null;
  readonly cause: Cause | null;
  readonly sinceMs: number;
  readonly changedAtMs: number;
  readonly version: number;
  /** Last evidence of life, while OFFLINE; of an ONLINE user it is the last renewal: deadline - TTL. */
  readonly lastSeenMs: number;
  /** End of the lease, while ONLINE. The user is alive through this very millisecond. */
  readonly deadlineMs: number;
  /** When to go OFFLINE because the last connection closed; 0 = not. */
  readonly graceUntilMs: number;
  /** When the user was set OFFLINE explicitly; 0 = was not, or came ONLINE since. */
  readonly signedOutMs: number;
}

export interface LeasePolicy {
  readonly ttlMs: number;
  readonly disconnectGraceMs: number;
}

export type PresenceEvent =
  /** SetUserStatus(ONLINE); activity null = leave as it is. */
  | { readonly kind: 'set-online'; readonly activity: Activity | null }
  /** SetUserStatus(OFFLINE). */
  | { readonly kind: 'set-offline' }
  | { readonly kind: 'heartbeat' }
  /** A connection opened that does not vouch for the user, such as a plain subscription. */
  | { readonly kind: 'connection-opened' }
  | { readonly kind: 'connection-closed'; readonly connectionsLeft: number }
  /** The sweeper judges: is it time? */
  | { readonly kind: 'sweep' };

export interface Outcome {
  readonly record: PresenceRecord;
  /** Whether status or activity changed: then watchers are told. */
  readonly changed: boolean;
  /** false: a heartbeat refused because the user signed out less than one TTL ago. */
  readonly accepted: boolean;
}

export const unknownRecord: PresenceRecord = Object.freeze({
  status: 'OFFLINE',
  activity: null,
  cause: null,
  sinceMs: 0,
  changedAtMs: 0,
  version: 0,
  lastSeenMs: 0,
  deadlineMs: 0,
  graceUntilMs: 0,
  signedOutMs: 0,
});

/**
 * The version of a partition's next transition: microseconds of the engine's clock, or one more than the last where
 * that is not larger. So versions grow even when the engine lost its data or its newest writes.
 */
export function nextVersion(lastVersion: number, nowMs: number): number {
  return Math.max(lastVersion + 1, nowMs * 1000);
}

/**
 * What an event makes of a record.
 *
 * @param version the version that the record takes if it changes, from nextVersion
 */
export function apply(
  record: PresenceRecord,
  event: PresenceEvent,
  nowMs: number,
  policy: LeasePolicy,
  version: number,
): Outcome {
  switch (event.kind) {
    case 'set-online':
      return light({ ...record, graceUntilMs: 0 }, event.activity, 'SET', nowMs, policy, version);
    case 'heartbeat':
      if (record.signedOutMs !== 0 && nowMs - record.signedOutMs < policy.ttlMs) return refused(record);
      return light(record, null, 'HEARTBEAT', nowMs, policy, version);
    case 'set-offline': {
      const signedOut = { ...record, signedOutMs: nowMs };
      if (record.status === 'OFFLINE') return unchanged(signedOut);
      return changed(putOut(signedOut, 'SET', nowMs, nowMs, version));
    }
    case 'connection-opened':
      return unchanged(record.graceUntilMs === 0 ? record : { ...record, graceUntilMs: 0 });
    case 'connection-closed':
      if (record.status === 'OFFLINE' || event.connectionsLeft > 0) return unchanged(record);
      if (policy.disconnectGraceMs === 0) return changed(putOut(record, 'DISCONNECT', nowMs, nowMs, version));
      return unchanged({ ...record, graceUntilMs: nowMs + policy.disconnectGraceMs });
    case 'sweep':
      return judge(record, nowMs, policy, version);
  }
}

function light(
  record: PresenceRecord,
  activity: Activity | null,
  cause: Cause,
  nowMs: number,
  policy: LeasePolicy,
  version: number,
): Outcome {
  const wasOnline = record.status === 'ONLINE';
  const nextActivity = activity ?? record.activity ?? 'ACTIVE';
  const renewed = { ...record, deadlineMs: nowMs + policy.ttlMs };
  if (wasOnline && nextActivity === record.activity) return unchanged(renewed);
  return changed({
    ...renewed,
    status: 'ONLINE',
    activity: nextActivity,
    cause,
    sinceMs: wasOnline ? record.sinceMs : nowMs,
    changedAtMs: nowMs,
    version,
    lastSeenMs: 0,
    signedOutMs: 0,
  });
}

/** Grace first: it can only end before or with the lease when both are due. */
function judge(record: PresenceRecord, nowMs: number, policy: LeasePolicy, version: number): Outcome {
  if (record.status === 'OFFLINE') return unchanged(record);
  const renewedMs = record.deadlineMs - policy.ttlMs;
  if (record.graceUntilMs !== 0 && nowMs >= record.graceUntilMs) {
    const closedMs = record.graceUntilMs - policy.disconnectGraceMs;
    return changed(putOut(record, 'DISCONNECT', nowMs, Math.max(closedMs, renewedMs), version));
  }
  if (nowMs <= record.deadlineMs) return unchanged(record);
  return changed(putOut(record, 'EXPIRED', nowMs, renewedMs, version));
}

function putOut(
  record: PresenceRecord,
  cause: Cause,
  nowMs: number,
  lastSeenMs: number,
  version: number,
): PresenceRecord {
  return {
    ...record,
    status: 'OFFLINE',
    activity: null,
    cause,
    sinceMs: nowMs,
    changedAtMs: nowMs,
    version,
    lastSeenMs,
    deadlineMs: 0,
    graceUntilMs: 0,
  };
}

/** The earliest time at which a sweep could change the record; Infinity = never. */
export function nextCheckMs(record: PresenceRecord): number {
  if (record.status === 'OFFLINE') return Number.POSITIVE_INFINITY;
  const expiresMs = record.deadlineMs + 1;
  return record.graceUntilMs === 0 ? expiresMs : Math.min(expiresMs, record.graceUntilMs);
}

/** What readers see of a record. */
export function stateOf(userId: string, record: PresenceRecord, ttlMs: number): UserState {
  return {
    userId,
    status: record.status,
    activity: record.activity,
    cause: record.cause,
    sinceMs: record.sinceMs,
    changedAtMs: record.changedAtMs,
    lastSeenMs: record.status === 'ONLINE' ? record.deadlineMs - ttlMs : record.lastSeenMs,
    version: record.version,
  };
}

function changed(record: PresenceRecord): Outcome {
  return { record, changed: true, accepted: true };
}

function unchanged(record: PresenceRecord): Outcome {
  return { record, changed: false, accepted: true };
}

function refused(record: PresenceRecord): Outcome {
  return { record, changed: false, accepted: false };
}
