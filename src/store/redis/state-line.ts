import type { ConnectionKind } from '../../core/connections.ts';
import type { CustomStatus } from '../../core/custom-status.ts';
import { type Activity, type Cause, type UserState, unknownState } from '../../core/presence.ts';

/** The text form of a state in scripts, log and messages; its fields stand in lua/transition.lua. */
export const separator = '\x1f';
export const stateFields = 9;

const activities: readonly (Activity | null)[] = [null, 'ACTIVE', 'IDLE', 'AWAY', 'DO_NOT_DISTURB'];
const causes: readonly (Cause | null)[] = [
  null,
  'SET',
  'HEARTBEAT',
  'CONNECT',
  'DISCONNECT',
  'EXPIRED',
  'NODE_LOST',
];

export function activityNumber(activity: Activity | null): string {
  return String(activities.indexOf(activity));
}

export function causeNumber(cause: Cause): string {
  return String(causes.indexOf(cause));
}

export function activityOf(number: string): Activity | null {
  return activities[Number(number)] ?? null;
}

/** null: none, or one written in a way that this version does not know. */
function decodeCustomStatus(text: string): CustomStatus | null {
  if (text === '') return null;
  const [expires, words, emoji] = text.split('\x1d');
  if (!/^\d+$/.test(expires as string) || words === undefined || emoji === undefined) return null;
  return { text: words, emoji, expiresAtMs: Number(expires) };
}

/** Custom statuses as they stand in meta. */
export function decodeCustomStatuses(text: string): CustomStatus[] {
  if (text === '') return [];
  return text
    .split('\x1e')
    .map(decodeCustomStatus)
    .filter((custom) => custom !== null);
}

/** Without privacy, which is kept apart. */
export function decodeState(line: string): UserState {
  return stateOfFields(splitLine(line));
}

/** null: a user never heard of. */
export function decodeStateOf(userId: string, line: string | null): UserState {
  return line === null ? unknownState(userId) : decodeState(line);
}

/**
 * The fields of a state line; after those of the state comes the version of the user's privacy, where there is one. Fields
 * that a newer version adds come after these and are ignored.
 *
 * @throws Error when there are too few
 */
export function splitLine(line: string): string[] {
  const fields = line.split(separator);
  if (fields.length >= stateFields) return fields;
  throw new Error(`a state line has at least ${stateFields} fields, this has ${fields.length}`);
}

export function stateOfFields(fields: readonly string[]): UserState {
  const [version, userId, status, activity, cause, since, changedAt, lastSeen, custom] = fields as [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    ...string[],
  ];
  return {
    userId,
    status: status === '1' ? 'ONLINE' : 'OFFLINE',
    activity: activities[Number(activity)] ?? (status === '1' ? 'ACTIVE' : null),
    cause: causes[Number(cause)] ?? null,
    sinceMs: Number(since),
    changedAtMs: Number(changedAt),
    lastSeenMs: Number(lastSeen),
    version: Number(version),
    customStatus: decodeCustomStatus(custom),
  };
}

export function kindNumber(kind: ConnectionKind): string {
  return kind === 'session' ? '1' : '2';
}
