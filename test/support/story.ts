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
    await this.#waitFor(
      () => `${count} events; there are ${this.events.length}`,
      () => this.events.length === count,
      timeoutMs,
    );
  }

  async sees(userId: string, story: string): Promise<void> {
    await this.#waitFor(
      () => `${userId} to be seen as ${story}; it is ${this.story(userId)}`,
      () => this.story(userId) === story,
    );
  }

  #waitFor(what: () => string, condition: () => boolean, timeoutMs?: number): Promise<void> {
    const isMet = () => {
      if (condition()) return true;
      if (this.failure) throw this.failure;
      return false;
    };
    return waitFor(what, isMet, timeoutMs);
  }
}
