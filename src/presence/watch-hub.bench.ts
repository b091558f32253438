import type { UserState } from '../core/presence.ts';
import type { FeedListener, PresenceStore } from '../core/store.ts';
import { silentLog } from '../observe/log.ts';
import { WatchHub } from './watch-hub.ts';

const watchers = 10_000;

const stateOf = (version: number): UserState => ({
  userId: 'watched',
  status: version % 2 === 0 ? 'ONLINE' : 'OFFLINE',
  activity: version % 2 === 0 ? 'ACTIVE' : null,
  cause: 'SET',
  sinceMs: version,
  changedAtMs: version,
  lastSeenMs: version,
  customStatus: null,
  version,
});

/** As much of an engine as the hub asks: a feed that the benchmark feeds. */
class FedStore {
  listener: FeedListener | undefined;

  onFeed(listener: FeedListener): void {
    this.listener = listener;
  }

  async read(userIds: readonly string[]): Promise<UserState[]> {
    return userIds.map(() => stateOf(1));
  }

  async follow(): Promise<void> {}

  unfollow(): void {}

  isCurrent(): boolean {
    return true;
  }
}

const store = new FedStore();
const hub = new WatchHub({
  store: store as unknown as PresenceStore,
  partitions: 64,
  maxWatchedUsers: 10,
  ttlMs: 30_000,
  lastSeenTtlMs: 60_000,
  log: silentLog,
});
const sink = { send: () => true };
await Promise.all(Array.from({ length: watchers }, () => hub.subscribe(sink).watch(['watched'])));
let version = 1;

export const benchmarks = {
  'watch hub: one transition to 10,000 watchers': (iterations: number) => {
    for (let i = 0; i < iterations; i++) store.listener?.transitions([stateOf(++version)]);
  },
};
