import { liveConnections } from '../core/connections.ts';
import type { CustomStatusRequest } from '../core/custom-status.ts';
import { DeadlineWheel } from '../core/deadline-wheel.ts';
import { partitionOf } from '../core/partition.ts';
import {
  type Activity,
  apply,
  type LeasePolicy,
  nextCheckMs,
  nextVersion,
  type Outcome,
  type PresenceEvent,
  type PresenceRecord,
  stateOf,
  type UserState,
  unknownRecord,
  unknownState,
} from '../core/presence.ts';
import type { Privacy, PrivacyChange } from '../core/privacy.ts';
import { changePrivacy } from '../core/privacy-change.ts';
import type {
  ConnectionOpened,
  ConnectionOpening,
  ConnectionRenewal,
  ConnectionSeen,
  EvictionListener,
  FeedListener,
  PresenceStore,
} from '../core/store.ts';
import type { Clock } from './clock.ts';
import { MemoryRevocations } from './memory-revocations.ts';

export interface MemoryStoreOptions extends LeasePolicy {
  readonly partitions: number;
  /** How long an OFFLINE user is remembered, ms. */
  readonly lastSeenTtlMs: number;
  readonly clock: Clock;
  /** How often leases are judged, ms; default 10. 0 = only when `sweep` is called, for tests. */
  readonly sweepIntervalMs?: number;
}

interface Entry {
  record: PresenceRecord;
  privacy: Privacy | null;
  /** When the lease wheel next visits this user; Infinity = it does not. */
  leaseVisitMs: number;
  /** Whether the memory wheel holds this user. */
  remembered: boolean;
}

/** The embedded engine: the whole contract in one process, nothing kept when it ends. */
export class MemoryStore implements PresenceStore {
  readonly available = true;
  readonly revocations: MemoryRevocations;
  readonly #options: MemoryStoreOptions;
  readonly #sweepIntervalMs: number;
  readonly #entries = new Map<string, Entry>();
  readonly #versions: number[];
  #online = 0;
  readonly #followed = new Set<number>();
  readonly #leases: DeadlineWheel;
  readonly #memories: DeadlineWheel;
  #listener: FeedListener | undefined;
  #onEvicted: EvictionListener = () => {};
  #timer: NodeJS.Timeout | undefined;

  constructor(options: MemoryStoreOptions) {
    this.#options = options;
    this.revocations = new MemoryRevocations(() => options.clock.nowMs());
    this.#sweepIntervalMs = options.sweepIntervalMs ?? 10;
    this.#versions = new Array<number>(options.partitions).fill(0);
    const startMs = options.clock.nowMs();
    this.#leases = new DeadlineWheel(startMs, 5, 16_384);
    this.#memories = new DeadlineWheel(startMs, Math.max(1000, options.lastSeenTtlMs / 1000), 1024);
  }

  async start(): Promise<void> {
    if (this.#sweepIntervalMs > 0) this.#timer = setInterval(() => this.sweep(), this.#sweepIntervalMs);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
  }

  async setOnline(userId: string, activity: Activity | null): Promise<UserState> {
    return this.#stateAfter(userId, { kind: 'set-online', activity });
  }

  async setOffline(userId: string): Promise<UserState> {
    return this.#stateAfter(userId, { kind: 'set-offline' });
  }

  async heartbeat(userId: string): Promise<boolean> {
    return this.#apply(userId, { kind: 'heartbeat' }).accepted;
  }

  async read(userIds: readonly string[]): Promise<UserState[]> {
    return userIds.map((userId) => this.#read(userId));
  }

  async connect({ userId, connection, replaces, isResumed }: ConnectionOpening): Promise<ConnectionOpened> {
    const before = this.#entry(userId).record.connections;
    const nowMs = this.#options.clock.nowMs();
    const { record, evicted } = this.#apply(userId, {
      kind: 'connection-opened',
      connection,
      replaces,
      isResumed,
    });
    for (const connectionId of evicted) this.#onEvicted(connectionId, 'REPLACED');
    const opened = record.connections.find((it) => it.connectionId === connection.connectionId);
    return {
      state: this.#stateOf(userId, record),
      nowMs,
      sinceMs: opened?.sinceMs ?? nowMs,
      replaced: before.some((it) => it.connectionId === replaces),
    };
  }

  async disconnect(userId: string, connectionId: string): Promise<void> {
    this.#apply(userId, { kind: 'connection-closed', connectionId });
  }

  async renewConnections(renewals: readonly ConnectionRenewal[]): Promise<readonly string[]> {
    return renewals
      .filter(
        ({ userId, connection }) => !this.#apply(userId, { kind: 'connection-renewed', connection }).accepted,
      )
      .map(({ connection }) => connection.connectionId);
  }

  async setConnectionActivity(userId: string, connectionId: string, activity: Activity): Promise<UserState> {
    return this.#stateAfter(userId, { kind: 'connection-activity', connectionId, activity });
  }

  async readConnections(userId: string): Promise<ConnectionSeen[]> {
    const connections = this.#entries.get(userId)?.record.connections ?? [];
    return liveConnections(connections, this.#options.clock.nowMs()).map(({ deadlineMs, ...connection }) => ({
      ...connection,
      lastSeenMs: deadlineMs - this.#options.ttlMs,
    }));
  }

  async setCustomStatus(userId: string, request: CustomStatusRequest): Promise<UserState> {
    return this.#stateAfter(userId, { kind: 'custom-status', request });
  }

  async setPrivacy(userId: string, change: PrivacyChange): Promise<UserState> {
    const entry = this.#entry(userId);
    this.#plan(userId, entry);
    const nowMs = this.#options.clock.nowMs();
    const partition = partitionOf(userId, this.#options.partitions);
    const version = nextVersion(this.#versions[partition] as number, nowMs);
    const truth = { state: this.#read(userId), customStatuses: entry.record.customStatuses };
    const lateMs = Math.floor(Math.random() * this.#sweepIntervalMs);
    const outcome = changePrivacy(truth, change, nowMs, { atMs: nowMs, version }, lateMs);
    if (!outcome) return this.#read(userId);
    this.#versions[partition] = version;
    entry.privacy = outcome.privacy;
    if (outcome.renews) {
      const deadlineMs = nowMs + this.#options.ttlMs;
      entry.record = { ...entry.record, deadlineMs, graceUntilMs: 0 };
      this.#plan(userId, entry);
    }
    if (this.#followed.has(partition)) {
      const news = { version, stateVersion: entry.record.version, privacy: entry.privacy };
      this.#listener?.privacyChanged(userId, news);
    }
    return this.#read(userId);
  }

  async deleteUser(userId: string): Promise<UserState> {
    const entry = this.#entries.get(userId);
    if (!entry || entry.record.version + entry.record.signedOutMs === 0) {
      if (!entry?.privacy) return unknownState(userId);
    }
    const nowMs = this.#options.clock.nowMs();
    const partition = partitionOf(userId, this.#options.partitions);
    const version = nextVersion(this.#versions[partition] as number, nowMs);
    this.#versions[partition] = version;
    if (entry.record.status === 'ONLINE') this.#online--;
    for (const { connectionId } of entry.record.connections) this.#onEvicted(connectionId, 'DELETED');
    this.#entries.delete(userId);
    const left = this.#entry(userId);
    left.record = { ...unknownRecord, signedOutMs: nowMs };
    this.#plan(userId, left);
    const state = { ...unknownState(userId), version };
    if (this.#followed.has(partition)) {
      this.#listener?.transitions([state]);
      this.#listener?.privacyChanged(userId);
    }
    return state;
  }

  onEvicted(listener: EvictionListener): void {
    this.#onEvicted = listener;
  }

  /** What this process holds is lost only with the process. */
  onRenewalWanted(): void {}

  onFeed(listener: FeedListener): void {
    this.#listener = listener;
  }

  async follow(partition: number): Promise<void> {
    this.#followed.add(partition);
  }

  unfollow(partition: number): void {
    this.#followed.delete(partition);
  }

  isCurrent(partition: number): boolean {
    return this.#followed.has(partition);
  }

  /** Judges every lease that is due by the clock, and forgets users not seen for `lastSeenTtlMs`. */
  sweep(): void {
    const nowMs = this.#options.clock.nowMs();
    this.#leases.advance(nowMs, (userId) => {
      const entry = this.#entries.get(userId);
      // A later visit is planned: this one is left over from before the check moved.
      if (!entry || entry.leaseVisitMs > nowMs) return;
      entry.leaseVisitMs = Number.POSITIVE_INFINITY;
      this.#apply(userId, { kind: 'sweep' });
    });
    this.#memories.advance(nowMs, (userId) => {
      const entry = this.#entries.get(userId);
      if (!entry) return;
      entry.remembered = false;
      if (this.#isForgettable(entry, nowMs)) this.#entries.delete(userId);
      else this.#plan(userId, entry);
    });
  }

  async countOnline(): Promise<number> {
    return this.#online;
  }

  async exchangeReports(report: string): Promise<readonly string[]> {
    return [report];
  }

  async memory(): Promise<{ usedBytes: number; maxBytes: number | null }> {
    return { usedBytes: process.memoryUsage().heapUsed, maxBytes: null };
  }

  /** Sizes of everything that could leak, for tests and metrics. */
  stats(): { users: number; leaseVisits: number; followedPartitions: number } {
    return {
      users: this.#entries.size,
      leaseVisits: this.#leases.size,
      followedPartitions: this.#followed.size,
    };
  }

  #read(userId: string): UserState {
    const entry = this.#entries.get(userId);
    const state = this.#stateOf(userId, entry?.record ?? unknownRecord);
    return entry?.privacy ? { ...state, privacy: entry.privacy } : state;
  }

  #stateAfter(userId: string, event: PresenceEvent): UserState {
    return this.#stateOf(userId, this.#apply(userId, event).record);
  }

  #stateOf(userId: string, record: PresenceRecord): UserState {
    return stateOf(userId, record, this.#options.ttlMs);
  }

  #entry(userId: string): Entry {
    let entry = this.#entries.get(userId);
    if (!entry) {
      entry = {
        record: unknownRecord,
        privacy: null,
        leaseVisitMs: Number.POSITIVE_INFINITY,
        remembered: false,
      };
      this.#entries.set(userId, entry);
    }
    return entry;
  }

  #apply(userId: string, event: PresenceEvent): Outcome {
    const nowMs = this.#options.clock.nowMs();
    const entry = this.#entry(userId);
    const partition = partitionOf(userId, this.#options.partitions);
    const version = nextVersion(this.#versions[partition] as number, nowMs);
    const outcome = apply(entry.record, event, nowMs, this.#options, version);
    if (outcome.record.status !== entry.record.status)
      this.#online += outcome.record.status === 'ONLINE' ? 1 : -1;
    entry.record = outcome.record;
    this.#plan(userId, entry);
    if (outcome.changed) {
      this.#versions[partition] = version;
      if (this.#followed.has(partition)) this.#listener?.transitions([this.#stateOf(userId, entry.record)]);
    }
    return outcome;
  }

  /** One visit per user suffices, unless its time moved forward, as a disconnect grace does. */
  #plan(userId: string, entry: Entry): void {
    const checkMs = nextCheckMs(entry.record);
    if (checkMs < entry.leaseVisitMs) entry.leaseVisitMs = this.#leases.schedule(userId, checkMs);
    if (entry.record.status === 'OFFLINE' && !entry.remembered) {
      entry.remembered = true;
      this.#memories.schedule(userId, this.#forgetAtMs(entry.record));
    }
  }

  #isForgettable(entry: Entry, nowMs: number): boolean {
    const { record } = entry;
    return (
      record.status === 'OFFLINE' &&
      !entry.privacy &&
      record.connections.length === 0 &&
      nowMs >= this.#forgetAtMs(record)
    );
  }

  #forgetAtMs(record: PresenceRecord): number {
    // Of a user never heard of, or deleted, only the sign-out.
    if (record.version === 0) return record.signedOutMs + 2 * this.#options.ttlMs;
    const lastMs = Math.max(record.lastSeenMs, record.signedOutMs, record.changedAtMs);
    return lastMs + this.#options.lastSeenTtlMs;
  }
}
