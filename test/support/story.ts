import { type StatusUpdateEvent, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { waitFor } from './wait.ts';

/** What a watcher has been told so far. */
export class Story {
  readonly events: StatusUpdateEvent[] = [];

  of(userId: string): StatusUpdateEvent[] {
    return this.events.filter((event) => event.userId === userId);
  }

  /** `ONLINE`, `OFFLINE` ... of a user in the order received; snapshots in brackets. */
  story(userId: string): string {
    return this.of(userId)
      .map(({ status, snapshot }) => (snapshot ? `[${UserStatus[status]}]` : UserStatus[status]))
      .join(' ');
  }

  async sees(userId: string, story: string): Promise<void> {
    await waitFor(
      () => `${userId} to be seen as ${story}; it is ${this.story(userId)}`,
      () => this.story(userId) === story,
    );
  }
}
