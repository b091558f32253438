import type { UserState } from '../core/presence.ts';
import type { PresenceStore } from '../core/store.ts';
import type { Log } from '../observe/log.ts';
import type { WatchedPartition, WatchedUser } from './subscription.ts';

export interface ReloadsOptions {
  readonly store: PresenceStore;
  /** Length of a lease: for how long an engine that lost data is not believed that a user is OFFLINE. */
  readonly ttlMs: number;
  readonly log: Log;
  /** Takes a state that was read. */
  readonly adopt: (user: WatchedUser, read: UserState) => void;
}

/** How long to wait before a fresh read is tried again, ms. */
const reloadRetryMs = 500;
const reloadBatchUsers = 1000;

/** Reads watched users again whose transitions were missed for good. */
export class Reloads {
  readonly #options: ReloadsOptions;
  #isStopped = false;

  constructor(options: ReloadsOptions) {
    this.#options = options;
  }

  /** No fresh read is begun any more. */
  stop(): void {
    this.#isStopped = true;
  }

  lost(partition: WatchedPartition): void {
    partition.losses++;
    for (const user of partition.users) {
      user.isFresh = false;
      user.doubtedUntilMs = 0;
    }
    if (partition.reloading) return;
    partition.reloading = true;
    this.#reload(partition);
  }

  /**
   * A read older than what is known means that the engine lost data. Its OFFLINE says nothing then: the user keeps the
   * last known state for one TTL, in which heartbeats bring back whoever is alive.
   */
  isDoubtful(user: WatchedUser, known: UserState, read: UserState): boolean {
    if (read.version >= known.version || read.status === 'ONLINE' || known.status === 'OFFLINE') return false;
    const nowMs = performance.now();
    if (user.doubtedUntilMs === 0) user.doubtedUntilMs = nowMs + this.#options.ttlMs;
    return nowMs < user.doubtedUntilMs;
  }

  #reload(partition: WatchedPartition): void {
    if (this.#isStopped || partition.users.size === 0) return;
    this.#readAfresh(partition).then(
      () => {
        partition.reloading = false;
        this.#awaitDoubts(partition);
      },
      (error: unknown) => {
        this.#options.log.debug(
          { err: error, partition: partition.number },
          'fresh read failed, trying again',
        );
        setTimeout(() => this.#reload(partition), reloadRetryMs).unref();
      },
    );
  }

  /** Reads again when the first doubt ends: who has not come back by then is OFFLINE. */
  #awaitDoubts(partition: WatchedPartition): void {
    clearTimeout(partition.doubtTimer);
    let endMs = Number.POSITIVE_INFINITY;
    for (const { doubtedUntilMs } of partition.users) {
      if (doubtedUntilMs > 0) endMs = Math.min(endMs, doubtedUntilMs);
    }
    if (endMs === Number.POSITIVE_INFINITY) return;
    const read = () => {
      if (partition.reloading) return;
      partition.reloading = true;
      this.#reload(partition);
    };
    partition.doubtTimer = setTimeout(read, Math.max(0, endMs - performance.now()) + 1).unref();
  }

  /** Until nobody in the partition is stale: the feed may lose track again meanwhile. */
  async #readAfresh(partition: WatchedPartition): Promise<void> {
    for (;;) {
      const nowMs = performance.now();
      const stale = [...partition.users].filter(
        (user) => !user.isFresh && user.state !== undefined && user.doubtedUntilMs <= nowMs,
      );
      if (stale.length === 0) return;
      const { losses } = partition;
      const users = stale.slice(0, reloadBatchUsers);
      const changes = users.map((user) => user.privacyChanges);
      const states = await this.#options.store.read(users.map((user) => user.userId));
      // A loss meanwhile makes the read too early, and so does a change of privacy.
      if (losses !== partition.losses) continue;
      for (const [index, user] of users.entries()) {
        if (user.privacyChanges !== changes[index]) continue;
        this.#options.adopt(user, states[index] as UserState);
      }
    }
  }
}
