import { PresenceClient, type UserState } from '@pilotlight/client';
import type { Light } from './wall-model.ts';

/** A session that looks on: it is nobody's, so nobody is ONLINE because of it. */
export function openSession(): PresenceClient {
  return new PresenceClient({ url: new URL('v1/connect', document.baseURI) }).open();
}

export function toLight({ userId, status, activity, version }: UserState): Light {
  return { userId, isOnline: status === 'ONLINE', activity: namedActivity(activity), version };
}

/** DO_NOT_DISTURB -> do not disturb. */
export function namedActivity(activity: UserState['activity']): string {
  return activity === null ? '' : activity.replaceAll('_', ' ').toLowerCase();
}

/** Watches users for whom it was not told to before. */
export class GrowingWatch {
  readonly #client: PresenceClient;
  readonly #onStates: (lights: readonly Light[]) => void;
  readonly #watched = new Set<string>();

  constructor(client: PresenceClient, onStates: (lights: readonly Light[]) => void) {
    this.#client = client;
    this.#onStates = onStates;
  }

  add(userIds: Iterable<string>): void {
    const added = [...new Set(userIds)].filter((userId) => !this.#watched.has(userId));
    if (added.length === 0) return;
    for (const userId of added) this.#watched.add(userId);
    this.#client.subscribe(added, ({ state }) => this.#onStates([toLight(state)]));
  }
}
