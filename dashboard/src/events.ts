/** What the server tells of a user: StatusUpdateEvent in proto3 JSON, as far as the pages use it. */
export interface StatusEvent {
  readonly userId: string;
  readonly status: 'ONLINE' | 'OFFLINE';
  readonly activity: string;
  readonly cause: string;
  /** Unix ms, as proto3 JSON writes 64-bit numbers. */
  readonly timestamp: string;
  readonly lastSeen: string;
  readonly version: string;
}

/** ACTIVITY_DO_NOT_DISTURB -> do not disturb. */
export function activityName(activity: string): string {
  return activity
    .replace(/^ACTIVITY_/, '')
    .replaceAll('_', ' ')
    .toLowerCase();
}

const causeNames: Readonly<Record<string, string>> = {
  SET: 'set',
  HEARTBEAT: 'heartbeat',
  CONNECT: 'connected',
  DISCONNECT: 'disconnected',
  EXPIRED: 'expired',
  NODE_LOST: 'node lost',
};

/** CAUSE_NODE_LOST or NODE_LOST -> node lost. */
export function causeName(cause: string): string {
  const name = cause.replace(/^CAUSE_/, '');
  return causeNames[name] ?? name.toLowerCase();
}
