import type { UserState } from '../core/presence.ts';
import type { PresenceStore } from '../core/store.ts';
import type { WatchHub } from './watch-hub.ts';

/** Answers queries: from memory where somebody here watches the user, else from the store. */
export class StateReader {
  readonly #store: PresenceStore;
  readonly #hub: WatchHub;

  constructor(store: PresenceStore, hub: WatchHub) {
    this.#store = store;
    this.#hub = hub;
  }

  /** In the order asked for. Rejects with REDIS_ERROR. */
  async read(userIds: readonly string[]): Promise<UserState[]> {
    const states = userIds.map((userId) => this.#hub.stateOf(userId));
    const unknown = userIds.filter((_, index) => states[index] === undefined);
    if (unknown.length === 0) return states as UserState[];
    const read = await this.#store.read(unknown);
    let next = 0;
    return states.map((state) => {
      if (state) return state;
      const found = read[next++] as UserState;
      this.#hub.noteRead(found);
      return found;
    });
  }
}
