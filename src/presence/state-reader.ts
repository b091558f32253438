import type { UserState } from '../core/presence.ts';
import type { Viewer } from '../core/sight.ts';
import type { PresenceStore } from '../core/store.ts';
import type { WatchHub } from './watch-hub.ts';

/** Answers a viewer's queries: from memory where somebody here watches the user, else from the store. */
export class StateReader {
  readonly #store: PresenceStore;
  readonly #hub: WatchHub;
  readonly #viewer: Viewer;

  constructor(store: PresenceStore, hub: WatchHub, viewer: Viewer) {
    this.#store = store;
    this.#hub = hub;
    this.#viewer = viewer;
  }

  /** What the viewer sees, in the order asked for. Rejects with REDIS_ERROR. */
  async read(userIds: readonly string[]): Promise<UserState[]> {
    const unique = [...new Set(userIds)];
    const states = await this.see(await this.#readTruths(unique));
    if (unique.length === userIds.length) return states;
    const byId = new Map(states.map((state) => [state.userId, state]));
    return userIds.map((userId) => byId.get(userId) as UserState);
  }

  /** What the viewer sees of these. Rejects with REDIS_ERROR. */
  async see(states: UserState[]): Promise<UserState[]> {
    if (!states.some(({ privacy }) => privacy)) return states;
    const { userId } = this.#viewer;
    const needsOwn = userId !== null && states.some(({ privacy }) => privacy?.lastSeen === 'reciprocal');
    const isReciprocal = needsOwn && (await this.readTruth(userId)).privacy?.lastSeen !== 'nobody';
    return states.map((state) => this.#hub.sights.of(this.#viewer, state, isReciprocal));
  }

  /** With privacy, whoever asks. Rejects with REDIS_ERROR. */
  async readTruth(userId: string): Promise<UserState> {
    const [state] = await this.#readTruths([userId]);
    return state as UserState;
  }

  async #readTruths(userIds: readonly string[]): Promise<UserState[]> {
    const states = userIds.map((userId) => this.#hub.stateOf(userId, this.#viewer));
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
