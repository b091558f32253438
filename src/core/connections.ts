import type { Activity } from './activity.ts';

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

/** Connections that somebody still renews. */
export function liveConnections(connections: readonly Connection[], nowMs: number): readonly Connection[] {
  return connections.every((it) => it.deadlineMs >= nowMs)
    ? connections
    : connections.filter((it) => it.deadlineMs >= nowMs);
}

/** With one more, in order of age; of the same age, in order of their ids. */
export function addConnection(connections: readonly Connection[], added: Connection): readonly Connection[] {
  const index = connections.findIndex(({ sinceMs, connectionId }) =>
    sinceMs === added.sinceMs ? connectionId > added.connectionId : sinceMs > added.sinceMs,
  );
  return index === -1 ? [...connections, added] : connections.toSpliced(index, 0, added);
}

export function withoutConnection(connections: readonly Connection[], id: string): readonly Connection[] {
  const kept = connections.filter(({ connectionId }) => connectionId !== id);
  return kept.length === 0 ? noConnections : kept;
}

/** Connections of one kind, oldest first, that are too many for one user. */
export function surplusConnections(
  connections: readonly Connection[],
  kind: ConnectionKind,
  maxOfKind: number,
): readonly Connection[] {
  const ofKind = connections.filter((it) => it.kind === kind);
  return ofKind.slice(0, Math.max(0, ofKind.length - maxOfKind));
}
