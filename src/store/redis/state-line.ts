import type { ConnectionKind } from '../../core/connections.ts';
import type { CustomStatus } from '../../core/custom-status.ts';
import { type Activity, type Cause, type UserState, unknownState } from '../../core/presence.ts';

/** The text form of a state in scripts, log and messages; its fields stand in lua/transition.lua. */
const separator = '\x1f';

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

function decodeCustomStatus(text: string): CustomStatus | null {
  if (text === '') return null;
  const [expires, words, emoji] = text.split('\x1d') as [string, string, string];
  return { text: words, emoji, expiresAtMs: Number(expires) };
}

/** Custom statuses as they stand in meta. */
export function decodeCustomStatuses(text: string): CustomStatus[] {
  if (text === '') return [];
  return text.split('\x1e').map((custom) => decodeCustomStatus(custom) as CustomStatus);
}

/** Without privacy, which is kept apart. */
export function decodeState(line: string): UserState {
  return stateOfFields(splitLine(line));
}

/** null: a user never heard of. */
export function decodeStateOf(userId: string, line: string | null): UserState {
  return line === null ? unknownState(userId) : decodeState(line);
}

/** The fields of a state line; after those of the state comes the version of the user's privacy, where there is one. */
export function splitLine(line: string): string[] {
  const fields = line.split(separator);
  if (fields.length === 9 || fields.length === 10) return fields;
  throw new Error(`a state line has 9 or 10 fields, this has ${fields.length}`);
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
    activity: activities[Number(activity)] ?? null,
    cause: causes[Number(cause)] ?? null,
    sinceMs: Number(since),
    changedAtMs: Number(changedAt),
    lastSeenMs: Number(lastSeen),
    version: Number(version),
    customStatus: decodeCustomStatus(custom),
  };
}

/** Transitions of one partition that were recorded together. */
export interface LogEntry {
  /** Version of the partition before them: where it is not the last one seen, something was missed. */
  readonly previous: number;
  /** Version of the last of them. */
  readonly last: number;
  readonly transitions: readonly UserState[];
  /** Users whose privacy changed: of an entry that has no transitions. */
  readonly privacyOf: readonly string[];
}

/** Decodes a message of the partition's channel: previous, last, then a line for each transition. */
export function decodeMessage(message: string): LogEntry {
  const [previous, last, ...lines] = message.split('\n');
  return { previous: Number(previous), last: Number(last), ...decodeLines(lines) };
}

/** Decodes an entry of the partition's stream, as XRANGE answers it. */
export function decodeLogEntry(entry: readonly [id: string, fields: readonly string[]]): LogEntry {
  const [id, fields] = entry;
  const lines = (fields[3] as string).split('\n');
  return { previous: Number(fields[1]), last: Number.parseInt(id, 10), ...decodeLines(lines) };
}

/** A change of privacy is a line of version and user. */
function decodeLines(lines: readonly string[]): Pick<LogEntry, 'transitions' | 'privacyOf'> {
  const [, userId, ...rest] = (lines[0] as string).split(separator, 3);
  if (rest.length === 0) return { transitions: [], privacyOf: [userId as string] };
  return { transitions: lines.map(decodeState), privacyOf: [] };
}

export function kindNumber(kind: ConnectionKind): string {
  return kind === 'session' ? '1' : '2';
}
