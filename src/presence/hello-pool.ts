/** Where a session came from, so that one client cannot take the places of all. */
export interface SessionOrigin {
  /** Of the client, as trusted proxies tell of it; of IPv6 its network. */
  readonly address: string;
  /** The connection that it came by, which may carry many sessions. */
  readonly connection: string;
}

interface Places<Session> {
  count: number;
  /** By connection, each oldest first. */
  readonly connections: Map<string, Set<Session>>;
}

/**
 * Sessions that have not said hello: few, and shared fairly. Whoever finds it full takes the place of the oldest of the
 * connection that has most, at the address that has most. So a client that says its hello at once gets in, whoever fills it.
 */
export class HelloPool<Session> {
  readonly #capacity: number;
  readonly #addresses = new Map<string, Places<Session>>();
  readonly #origins = new Map<Session, SessionOrigin>();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#origins.size;
  }

  /** @returns who lost their place for it, if anybody */
  add(session: Session, origin: SessionOrigin): Session | undefined {
    const displaced = this.#origins.size >= this.#capacity ? this.#oldestOfGreediest() : undefined;
    if (displaced !== undefined) this.delete(displaced);
    const { address, connection } = origin;
    const places = this.#addresses.get(address) ?? { count: 0, connections: new Map() };
    const sessions = places.connections.get(connection) ?? new Set();
    places.count++;
    sessions.add(session);
    places.connections.set(connection, sessions);
    this.#addresses.set(address, places);
    this.#origins.set(session, origin);
    return displaced;
  }

  /** false: it was not there. */
  delete(session: Session): boolean {
    const origin = this.#origins.get(session);
    if (!origin) return false;
    this.#origins.delete(session);
    const { address, connection } = origin;
    const places = this.#addresses.get(address) as Places<Session>;
    const sessions = places.connections.get(connection) as Set<Session>;
    sessions.delete(session);
    if (sessions.size === 0) places.connections.delete(connection);
    if (--places.count === 0) this.#addresses.delete(address);
    return true;
  }

  #oldestOfGreediest(): Session | undefined {
    let most: Places<Session> | undefined;
    for (const places of this.#addresses.values()) if (!most || places.count > most.count) most = places;
    let sessions: Set<Session> | undefined;
    for (const each of most?.connections.values() ?? []) {
      if (!sessions || each.size > sessions.size) sessions = each;
    }
    const [oldest] = sessions ?? [];
    return oldest;
  }
}
