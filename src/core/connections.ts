import type { Activity } from './presence.ts';

/** A `session` vouches for its user; a `stream`, a plain subscription, only counts. */
export type ConnectionKind = 'session' | 'stream';

/** One open connection of a user: a device, a tab. */
export interface Connection {
  /** Unique among all connections of all users. */
  readonly connectionId: string;
  readonly kind: ConnectionKind;
  /** As the client named it; empty = it did not. */
  readonly device: string;
  /** What it says of the user's activity; null for a stream. */
  readonly activity: Activity | null;
  /** When it opened, Unix ms; a session that replaced another has that one's. */
  readonly sinceMs: number;
  /** Without renewal it counts through this very millisecond. */
  readonly deadlineMs: number;
}

export const noConnections: readonly Connection[] = Object.freeze([]);

/** Of several activities the user has the first in this order. */
const precedence: readonly Activity[] = ['DO_NOT_DISTURB', 'ACTIVE', 'IDLE', 'AWAY'];

/** The highest of the activities that are said; null: none is. */
export function mergeActivities(activities: readonly (Activity | null)[]): Activity | null {
  return precedence.find((activity) => activities.includes(activity)) ?? null;
}

/** Connections that somebody still renews. */
export function liveConnections(connections: readonly Connection[], nowMs: number): readonly Connection[] {
  return connections.every((it) => it.deadlineMs >= nowMs)
    ? connections
    : connections.filter((it) => it.deadlineMs >= nowMs);
}

/** With one more, in order of age. */
export function addConnection(connections: readonly Connection[], added: Connection): readonly Connection[] {
  const index = connections.findIndex((it) => it.sinceMs > added.sinceMs);
  return index === -1 ? [...connections, added] : connections.toSpliced(index, 0, added);
}

export function withoutConnection(connections: readonly Connection[], id: string): readonly Connection[] {
  const kept = connections.filter(({ connectionId }) => connectionId !== id);
  return kept.length === 0 ? noConnections : kept;
}

/** Sessions, oldest first, that are too many for one user. */
export function surplusSessions(
  connections: readonly Connection[],
  maxSessions: number,
): readonly Connection[] {
  const sessions = connections.filter(({ kind }) => kind === 'session');
  return sessions.slice(0, Math.max(0, sessions.length - maxSessions));
}
