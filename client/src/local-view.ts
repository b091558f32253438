import type { PresenceChange, UserState } from './types.ts';

/** Reasons to watch a user; several parts of an application may watch the same one. */
interface Watched {
  state: UserState | undefined;
  watchers: number;
  readonly listeners: Set<(change: PresenceChange) => void>;
}

/** What is known of watched users: the last state that the server told of each. */
export class LocalView {
  readonly #users = new Map<string, Watched>();
  readonly #onListenerError: (error: unknown) => void;

  constructor(onListenerError: (error: unknown) => void) {
    this.#onListenerError = onListenerError;
  }

  get(userId: string): UserState | undefined {
    const user = this.#users.get(userId);
    return user && user.watchers > 0 ? user.state : undefined;
  }

  isWatched(userId: string): boolean {
    return (this.#users.get(userId)?.watchers ?? 0) > 0;
  }

  get userIds(): string[] {
    return [...this.#users.keys()];
  }

  /** Answers the users who were not watched before. */
  add(userIds: Iterable<string>, listener: (change: PresenceChange) => void): string[] {
    const added: string[] = [];
    for (const userId of userIds) {
      let user = this.#users.get(userId);
      if (!user) {
        user = { state: undefined, watchers: 0, listeners: new Set() };
        this.#users.set(userId, user);
        added.push(userId);
      }
      user.watchers++;
      user.listeners.add(listener);
    }
    return added;
  }

  /**
   * Answers the users whom nobody watches any more. They are kept until `forget`: whoever watches one of them again in the
   * same turn, as a component that is replaced by another does, finds the state as it was.
   */
  remove(userIds: Iterable<string>, listener: (change: PresenceChange) => void): string[] {
    const removed: string[] = [];
    for (const userId of userIds) {
      const user = this.#users.get(userId);
      if (!user) continue;
      user.listeners.delete(listener);
      user.watchers--;
      if (user.watchers === 0) removed.push(userId);
    }
    return removed;
  }

  /** Unless somebody watches the user again. */
  forget(userId: string): void {
    if (!this.isWatched(userId)) this.#users.delete(userId);
  }

  /** Nothing is known of these any more, watched or not. */
  hide(userIds: readonly string[]): void {
    for (const userId of userIds) {
      const user = this.#users.get(userId);
      if (user) user.state = undefined;
    }
  }

  /** Takes what the server says as the truth; listeners hear of what looks different. */
  take(state: UserState): void {
    const user = this.#users.get(state.userId);
    if (!user) return;
    const previous = user.state;
    user.state = state;
    if (previous && looksAlike(previous, state)) return;
    const change: PresenceChange = { userId: state.userId, state, previous };
    for (const listener of user.listeners) {
      try {
        listener(change);
      } catch (error) {
        this.#onListenerError(error);
      }
    }
  }
}

function looksAlike(a: UserState, b: UserState): boolean {
  return (
    a.status === b.status &&
    a.activity === b.activity &&
    // While ONLINE it moves with every renewal, and tells nobody anything.
    (a.status === 'ONLINE' || a.lastSeen === b.lastSeen) &&
    a.customStatus?.text === b.customStatus?.text &&
    a.customStatus?.emoji === b.customStatus?.emoji &&
    a.customStatus?.expiresAt === b.customStatus?.expiresAt
  );
}
