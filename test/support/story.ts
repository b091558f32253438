import { type StatusUpdateEvent, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { waitFor } from './wait.ts';

/** What a watcher has been told so far. */
export class Story {
  readonly events: StatusUpdateEvent[] = [];
  /** Why nothing more will come; undefined: it goes on. */
  protected failure: Error | undefined;

  of(userId: string): StatusUpdateEvent[] {
    return this.events.filter((event) => event.userId === userId);
  }

  /** `ONLINE`, `OFFLINE` ... of a user in the order received; snapshots in brackets. */
  story(userId: string): string {
    return this.of(userId)
      .map(({ status, snapshot }) => (snapshot ? `[${UserStatus[status]}]` : UserStatus[status]))
      .join(' ');
  }

  /** Waits for so many events; fails with what ended the watch, where it ended before. */
  async has(count: number, timeoutMs?: number): Promise<void> {
    await waitFor(
      () => `${count} events; there are ${this.events.length}`,
      () => {
        if (this.events.length === count) return true;
        if (this.failure) throw this.failure;
        return false;
      },
      timeoutMs,
    );
  }

  async sees(userId: string, story: string): Promise<void> {
    await waitFor(
      () => `${userId} to be seen as ${story}; it is ${this.story(userId)}`,
      () => {
        if (this.story(userId) === story) return true;
        if (this.failure) throw this.failure;
        return false;
      },
    );
  }
}
