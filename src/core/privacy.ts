import type { CustomStatus } from './custom-status.ts';
import type { Cause, Status } from './status.ts';
import { utf8Length } from './user-id.ts';

/** Who may know when an OFFLINE user was last seen. `reciprocal`: users who do not hide theirs (`nobody`). */
export const lastSeenVisibilities = ['everyone', 'nobody', 'reciprocal'] as const;
export type LastSeenVisibility = (typeof lastSeenVisibilities)[number];

/** The OFFLINE user whom those see to whom a user is hidden: as they saw the user when that began. */
export interface Face {
  readonly cause: Cause | null;
  readonly sinceMs: number;
  readonly changedAtMs: number;
  readonly lastSeenMs: number;
  readonly version: number;
  /** As those of a record: they go on expiring. */
  readonly customStatuses: readonly CustomStatus[];
  /** How late it is seen that they expired: a sweep would not find it in the very millisecond either. */
  readonly lateMs: number;
}

/** That a user is hidden, or was. */
export interface Hide {
  readonly face: Face;
  /** null: the user is hidden. */
  readonly lifted: Lift | null;
}

/** The end of a hide. The status that was under it then stays secret as far as it began before the end; custom status does not. */
export interface Lift {
  readonly atMs: number;
  readonly version: number;
  readonly status: Status;
  readonly sinceMs: number;
}

/** What a user hides, and from whom. Never changed in place. */
export interface Privacy {
  /** Of the last change; from the same sequence as the transitions of the user's partition. */
  readonly version: number;
  /** From everybody. */
  readonly invisible: Hide | null;
  /** From these users; those with a lift are no longer blocked. */
  readonly blocked: ReadonlyMap<string, Hide>;
  readonly lastSeen: LastSeenVisibility;
  /** Of the last change of `lastSeen`; 0: never. */
  readonly lastSeenVersion: number;
}

/** What a caller asks for; null: as it is. */
export interface PrivacyChange {
  readonly invisible: boolean | null;
  readonly lastSeen: LastSeenVisibility | null;
  readonly addBlocked: readonly string[];
  readonly removeBlocked: readonly string[];
  /** Most users of the block list. */
  readonly maxBlockedUsers: number;
}

export const openPrivacy: Privacy = Object.freeze({
  version: 0,
  invisible: null,
  blocked: new Map<string, Hide>(),
  lastSeen: 'everyone',
  lastSeenVersion: 0,
});

/** Of a user whose privacy got lost: nobody may be shown who perhaps hides. */
export function hiddenFromAll(version: number): Privacy {
  const times = { sinceMs: 0, changedAtMs: 0, lastSeenMs: 0, version: 0 };
  const face: Face = { cause: null, ...times, customStatuses: [], lateMs: 0 };
  return { ...openPrivacy, version, invisible: { face, lifted: null } };
}

/** What one record may take, for each user that the block list may hold, and besides. */
const recordBytesPerUser = 512;
const recordBytesBesides = 64 * 1024;

/** Most bytes of a record, as `privacyBytes` counts them. */
export function maxPrivacyBytes(maxBlockedUsers: number): number {
  return recordBytesBesides + recordBytesPerUser * maxBlockedUsers;
}

/** About what a record takes in memory and in Redis. A face that several hides share counts once. */
export function privacyBytes({ invisible, blocked }: Privacy): number {
  const faces = new Set<Face>();
  let bytes = 0;
  for (const [userId, { face, lifted }] of blocked) {
    bytes += 16 + utf8Length(userId) + (lifted ? 64 : 0);
    faces.add(face);
  }
  if (invisible) faces.add(invisible.face);
  for (const { customStatuses } of faces) {
    bytes += 100;
    for (const { text, emoji } of customStatuses) bytes += 32 + utf8Length(text) + utf8Length(emoji);
  }
  return bytes;
}

/** Users who are blocked now. */
export function blockedUsers({ blocked }: Privacy): string[] {
  return [...blocked].filter(([, { lifted }]) => lifted === null).map(([userId]) => userId);
}
