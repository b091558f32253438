/** @pilotlight/client/react: presence as hooks. */
import {
  createContext,
  createElement,
  type ReactNode,
  useCallback,
  useContext,
  useMemo,
  useSyncExternalStore,
} from 'react';
import type { PresenceClient } from './client.ts';
import type { ConnectionState } from './connection.ts';
import { PresenceError } from './errors.ts';
import type { UserState } from './types.ts';

const ClientContext = createContext<PresenceClient | null>(null);

/** Gives the hooks below it their client; opening and closing it stays with whoever made it. */
export function PresenceProvider({
  client,
  children,
}: {
  readonly client: PresenceClient;
  readonly children?: ReactNode;
}): ReactNode {
  return createElement(ClientContext.Provider, { value: client }, children);
}

/** The client of the nearest PresenceProvider. Throws without one. */
export function usePresenceClient(): PresenceClient {
  const client = useContext(ClientContext);
  if (!client)
    throw new PresenceError('INVALID_ARGUMENT', 'there is no PresenceProvider above this component', false);
  return client;
}

/**
 * The states of users, kept up to date while the component is mounted; a user not told of yet is missing. A new array of
 * the same ids in the same order watches nobody anew.
 */
export function usePresence(userIds: readonly string[]): ReadonlyMap<string, UserState> {
  const client = usePresenceClient();
  const key = JSON.stringify(userIds);
  const source = useMemo(() => new StatesSource(client, JSON.parse(key) as string[]), [client, key]);
  return useSyncExternalStore(source.subscribe, source.states, source.states);
}

export interface MyPresence {
  /** The user's state on all devices together; undefined: not told yet. */
  readonly state: UserState | undefined;
  readonly connection: ConnectionState;
  readonly setStatus: PresenceClient['setStatus'];
  readonly setActivity: PresenceClient['setActivity'];
  readonly setCustomStatus: PresenceClient['setCustomStatus'];
}

/** The user's own state, and the ways to change it. */
export function useMyPresence(): MyPresence {
  const client = usePresenceClient();
  const states = usePresence(client.userId === '' ? [] : [client.userId]);
  const subscribe = useCallback((onChange: () => void) => client.onStateChange(onChange), [client]);
  const getState = useCallback(() => client.state, [client]);
  const connection = useSyncExternalStore(subscribe, getState, getState);
  return useMemo(
    () => ({
      state: states.get(client.userId),
      connection,
      setStatus: client.setStatus.bind(client),
      setActivity: client.setActivity.bind(client),
      setCustomStatus: client.setCustomStatus.bind(client),
    }),
    [client, states, connection],
  );
}

/** A snapshot that stays the same object until something changes, as React asks for. */
class StatesSource {
  readonly #client: PresenceClient;
  readonly #userIds: readonly string[];
  #states: ReadonlyMap<string, UserState>;

  constructor(client: PresenceClient, userIds: readonly string[]) {
    this.#client = client;
    this.#userIds = userIds;
    this.#states = this.#read();
  }

  readonly states = (): ReadonlyMap<string, UserState> => this.#states;

  readonly subscribe = (onChange: () => void): (() => void) => {
    const update = (): void => {
      this.#states = this.#read();
      onChange();
    };
    const stop = this.#client.subscribe(this.#userIds, update);
    // Others may watch the same users, whose states are known already.
    if (this.#userIds.some((userId) => this.#client.get(userId) !== this.#states.get(userId))) update();
    return stop;
  };

  #read(): ReadonlyMap<string, UserState> {
    const states = new Map<string, UserState>();
    for (const userId of this.#userIds) {
      const state = this.#client.get(userId);
      if (state) states.set(userId, state);
    }
    return states;
  }
}
