/**
 * The rules of a user's light, as pure functions of (record, event, nowMs).
 *
 * A record changes its status or activity only here (memory engine) or in the Lua scripts that say the same
 * (Redis engine); the model-based test holds the two together.
 */

import { type Activity, mergeActivities } from './activity.ts';
import {
  addConnection,
  type Connection,
  liveConnections,
  noConnections,
  surplusConnections,
  withoutConnection,
} from './connections.ts';
import {
  type CustomStatus,
  type CustomStatusRequest,
  dropExpired,
  isSameCustomStatus,
  noStatuses,
  pushCustomStatus,
} from './custom-status.ts';
import type { Privacy } from './privacy.ts';
import type { Cause, Status } from './status.ts';

export type { Activity } from './activity.ts';
export type { Cause, Status } from './status.ts';

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
  /** When status, activity or custom status last changed. */
  readonly changedAtMs: number;
  /** Last evidence of life. */
  readonly lastSeenMs: number;
  /** What the user says of themselves, also while OFFLINE. */
  readonly customStatus: CustomStatus | null;
  /** Grows with every transition of the user's partition; 0 = no transition ever. */
  readonly version: number;
  /** What the user hides, and from whom; absent = nothing, or not looked up: only reads tell. */
  readonly privacy?: Privacy;
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
  /** Activity that SetUserStatus gave, which counts beside those of the connections; null = none since ONLINE. */
  readonly saidActivity: Activity | null;
  /** Oldest first; those past their deadline count no more. */
  readonly connections: readonly Connection[];
  /** The last is in force; those before it return as the later ones expire. */
  readonly customStatuses: readonly CustomStatus[];
}

export interface LeasePolicy {
  readonly ttlMs: number;
  readonly disconnectGraceMs: number;
  /** Most sessions of one user, and most streams; one more takes the place of the oldest of its kind. */
  readonly maxConnectionsPerUser: number;
}

export type PresenceEvent =
  /** SetUserStatus(ONLINE); activity null = leave as it is. */
  | { readonly kind: 'set-online'; readonly activity: Activity | null }
  /** SetUserStatus(OFFLINE). */
  | { readonly kind: 'set-offline' }
  | { readonly kind: 'heartbeat' }
  /**
   * A connection opened. A session lights the user, unless it resumes and the user was set OFFLINE meanwhile; a stream
   * does not vouch. `replaces`: the connection whose place it takes, null = none.
   */
  | {
      readonly kind: 'connection-opened';
      readonly connection: NewConnection;
      readonly replaces: string | null;
      readonly isResumed: boolean;
    }
  /** It lives on. A session renews the lease, and lights a user who is OFFLINE without having been set so. */
  | { readonly kind: 'connection-renewed'; readonly connection: NewConnection & { readonly sinceMs: number } }
  | { readonly kind: 'connection-activity'; readonly connectionId: string; readonly activity: Activity }
  | { readonly kind: 'connection-closed'; readonly connectionId: string }
  | { readonly kind: 'custom-status'; readonly request: CustomStatusRequest }
  /** The sweeper judges: is it time? */
  | { readonly kind: 'sweep' };

/** A connection before the engine gives it its times. */
export type NewConnection = Omit<Connection, 'sinceMs' | 'deadlineMs'>;

export interface Outcome {
  readonly record: PresenceRecord;
  /** Whether status, activity or custom status changed: then watchers are told. */
  readonly changed: boolean;
  /**
   * false: a heartbeat refused because the user signed out less than one TTL ago; or a connection that lost its place
   * to newer ones and may not renew.
   */
  readonly accepted: boolean;
  /** Connections that lost their place to a newer one of their kind. */
  readonly evicted: readonly string[];
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
  saidActivity: null,
  connections: noConnections,
  customStatuses: noStatuses,
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
    case 'set-online': {
      const said = { ...record, graceUntilMs: 0, saidActivity: event.activity ?? record.saidActivity };
      return light(said, 'SET', nowMs, policy, version);
    }
    case 'heartbeat':
      if (record.signedOutMs !== 0 && nowMs - record.signedOutMs < policy.ttlMs) return refused(record);
      if (record.status === 'ONLINE') return unchanged({ ...record, deadlineMs: nowMs + policy.ttlMs });
      return light(record, 'HEARTBEAT', nowMs, policy, version);
    case 'set-offline': {
      const signedOut = { ...record, signedOutMs: nowMs };
      if (record.status === 'OFFLINE') return unchanged(signedOut);
      return changed(putOut(signedOut, 'SET', nowMs, nowMs, version));
    }
    case 'connection-opened':
      return openConnection(record, event, nowMs, policy, version);
    case 'connection-renewed':
      return renewConnection(record, event.connection, nowMs, policy, version);
    case 'connection-activity': {
      const connections = record.connections.map((it) =>
        it.connectionId === event.connectionId ? { ...it, activity: event.activity } : it,
      );
      return mergeAnew({ ...record, connections }, 'SET', nowMs, version);
    }
    case 'connection-closed':
      return closeConnection(record, event.connectionId, nowMs, policy, version);
    case 'custom-status': {
      const statuses = dropExpired(record.customStatuses, nowMs);
      const customStatuses = pushCustomStatus(statuses, event.request, nowMs);
      return tellCustomStatus(record, { ...record, customStatuses }, 'SET', nowMs, version);
    }
    case 'sweep':
      return judge(record, nowMs, policy, version);
  }
}

function openConnection(
  record: PresenceRecord,
  event: Extract<PresenceEvent, { kind: 'connection-opened' }>,
  nowMs: number,
  policy: LeasePolicy,
  version: number,
): Outcome {
  const { connection, replaces, isResumed } = event;
  const { connectionId: ownId } = connection;
  // Its own id: the same call again.
  const before = record.connections.find(
    ({ connectionId }) => connectionId === ownId || connectionId === replaces,
  );
  const others = liveConnections(record.connections, nowMs).filter(
    ({ connectionId }) => connectionId !== ownId && connectionId !== replaces,
  );
  const opened = {
    ...connection,
    sinceMs: before?.sinceMs ?? nowMs,
    deadlineMs: nowMs + policy.ttlMs,
  };
  // The new connection is never the one to go, however old the session is that it continues.
  const surplus = surplusConnections(others, connection.kind, policy.maxConnectionsPerUser - 1);
  const evicted = surplus.map(({ connectionId }) => connectionId);
  const connections = addConnection(
    others.filter(({ connectionId }) => !evicted.includes(connectionId)),
    opened,
  );
  const counted = { ...record, connections, graceUntilMs: 0 };
  const staysOut = isResumed && record.signedOutMs !== 0;
  const outcome =
    connection.kind === 'session' && !staysOut
      ? light(counted, 'CONNECT', nowMs, policy, version)
      : mergeAnew(counted, 'CONNECT', nowMs, version);
  return { ...outcome, evicted };
}

function renewConnection(
  record: PresenceRecord,
  connection: NewConnection & { readonly sinceMs: number },
  nowMs: number,
  policy: LeasePolicy,
  version: number,
): Outcome {
  const live = liveConnections(record.connections, nowMs);
  const known = live.find(({ connectionId }) => connectionId === connection.connectionId);
  const others = live.filter(({ connectionId }) => connectionId !== connection.connectionId);
  // One that the engine does not know was put out of its place, or was lost with the engine's data: there is room then.
  if (!known) {
    const ofKind = others.filter(({ kind }) => kind === connection.kind).length;
    if (ofKind >= policy.maxConnectionsPerUser) return refused(record);
  }
  const sinceMs = known?.sinceMs ?? connection.sinceMs;
  const connections = addConnection(others, { ...connection, sinceMs, deadlineMs: nowMs + policy.ttlMs });
  const counted = { ...record, connections, graceUntilMs: 0 };
  const staysOut = record.status === 'OFFLINE' && record.signedOutMs !== 0;
  if (connection.kind === 'stream' || staysOut) return mergeAnew(counted, 'CONNECT', nowMs, version);
  return light(counted, 'CONNECT', nowMs, policy, version);
}

function closeConnection(
  record: PresenceRecord,
  connectionId: string,
  nowMs: number,
  policy: LeasePolicy,
  version: number,
): Outcome {
  if (!record.connections.some((it) => it.connectionId === connectionId)) return unchanged(record);
  const connections = liveConnections(withoutConnection(record.connections, connectionId), nowMs);
  const left = { ...record, connections };
  if (left.status === 'OFFLINE') return unchanged(left);
  if (connections.length > 0) return mergeAnew(left, 'DISCONNECT', nowMs, version);
  if (policy.disconnectGraceMs === 0) return changed(putOut(left, 'DISCONNECT', nowMs, nowMs, version));
  return unchanged({ ...left, graceUntilMs: nowMs + policy.disconnectGraceMs });
}

/** Lights the lease, or renews it. */
function light(
  record: PresenceRecord,
  cause: Cause,
  nowMs: number,
  policy: LeasePolicy,
  version: number,
): Outcome {
  const renewed = { ...record, deadlineMs: nowMs + policy.ttlMs };
  if (record.status === 'ONLINE') return mergeAnew(renewed, cause, nowMs, version);
  return changed({
    ...renewed,
    status: 'ONLINE',
    activity: mergedActivity(record, nowMs) ?? 'ACTIVE',
    cause,
    sinceMs: nowMs,
    changedAtMs: nowMs,
    version,
    lastSeenMs: 0,
    signedOutMs: 0,
  });
}

/** Gives an ONLINE user the activity that connections and SetUserStatus say; where none does, it stays as it is. */
function mergeAnew(record: PresenceRecord, cause: Cause, nowMs: number, version: number): Outcome {
  const activity = mergedActivity(record, nowMs);
  if (record.status === 'OFFLINE' || activity === null || activity === record.activity)
    return unchanged(record);
  return changed({ ...record, activity, cause, changedAtMs: nowMs, version });
}

function mergedActivity({ saidActivity, connections }: PresenceRecord, nowMs: number): Activity | null {
  const live = liveConnections(connections, nowMs);
  return live.length === 0 ? saidActivity : mergeActivities([saidActivity, ...live.map((it) => it.activity)]);
}

function tellCustomStatus(
  before: PresenceRecord,
  after: PresenceRecord,
  cause: Cause,
  nowMs: number,
  version: number,
): Outcome {
  const told = before.customStatuses.at(-1) ?? null;
  if (isSameCustomStatus(told, after.customStatuses.at(-1) ?? null)) return unchanged(after);
  return changed({ ...after, cause, changedAtMs: nowMs, version });
}

/** Grace first: it can only end before or with the lease when both are due. */
function judge(record: PresenceRecord, nowMs: number, policy: LeasePolicy, version: number): Outcome {
  const after = { ...record, customStatuses: dropExpired(record.customStatuses, nowMs) };
  if (record.status === 'OFFLINE') return tellCustomStatus(record, after, 'EXPIRED', nowMs, version);
  const renewedMs = record.deadlineMs - policy.ttlMs;
  if (record.graceUntilMs !== 0 && nowMs >= record.graceUntilMs) {
    const closedMs = record.graceUntilMs - policy.disconnectGraceMs;
    return changed(putOut(after, 'DISCONNECT', nowMs, Math.max(closedMs, renewedMs), version));
  }
  if (nowMs <= record.deadlineMs) return tellCustomStatus(record, after, 'EXPIRED', nowMs, version);
  const connections = liveConnections(record.connections, nowMs);
  // Connections that nobody renewed or took back are those of a node that died.
  const cause = record.connections.length > 0 && connections.length === 0 ? 'NODE_LOST' : 'EXPIRED';
  return changed(putOut({ ...after, connections }, cause, nowMs, renewedMs, version));
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
    saidActivity: null,
  };
}

/** The earliest time at which a sweep could change the record; Infinity = never. */
export function nextCheckMs(record: PresenceRecord): number {
  // 0 stands for never everywhere.
  const returnsMs = record.customStatuses.at(-1)?.expiresAtMs || Number.POSITIVE_INFINITY;
  if (record.status === 'OFFLINE') return returnsMs;
  return Math.min(record.deadlineMs + 1, record.graceUntilMs || Number.POSITIVE_INFINITY, returnsMs);
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
    customStatus: record.customStatuses.at(-1) ?? null,
  };
}

/** What readers see of a user never heard of. */
export function unknownState(userId: string): UserState {
  return stateOf(userId, unknownRecord, 0);
}

const nobody: readonly string[] = Object.freeze([]);

function changed(record: PresenceRecord): Outcome {
  return { record, changed: true, accepted: true, evicted: nobody };
}

function unchanged(record: PresenceRecord): Outcome {
  return { record, changed: false, accepted: true, evicted: nobody };
}

function refused(record: PresenceRecord): Outcome {
  return { record, changed: false, accepted: false, evicted: nobody };
}
