import type { RedisTarget } from '../../core/redis-target.ts';
import { type Client, newClient } from './redis-client.ts';
import type { RefusalLog } from './refusal-log.ts';

export interface OutsideWritesOptions {
  readonly target: RedisTarget;
  /** Glob of status keys, and how a user id is read from one. */
  readonly statusPattern: string;
  readonly userOfStatusKey: (key: string) => string | undefined;
  /** Looks at what was written for a user. */
  readonly adopt: (userId: string) => Promise<void>;
  /** Whether this node is the one to look. */
  readonly isMine: (userId: string) => boolean;
  readonly refusals: RefusalLog;
}

const connectTimeoutMs = 2000;
const pingIntervalMs = 5000;
const socketTimeoutMs = 15_000;
/** How soon it is asked again for notifications that it refused: rights may be given while it runs. */
const retryMs = 5000;
/** Users to look at that may wait; what is beyond is found by the sweep or the next read. */
const maxPending = 10_000;

/**
 * Notices other programs that write status keys, by keyspace notifications, where the server was told to send them
 * (`notify-keyspace-events K$x`); where not, nothing comes and nothing is done. They go out by each server for its own
 * keys, at most once.
 */
export class OutsideWrites {
  readonly #options: OutsideWritesOptions;
  readonly #clients = new Map<string, Client>();
  #pending = new Set<string>();
  #noticed = 0;

  constructor(options: OutsideWritesOptions) {
    this.#options = options;
  }

  /** Writes looked at, our own included. */
  get noticed(): number {
    return this.#noticed;
  }

  /** Listens to these servers, and to no others. */
  listenTo(addresses: ReadonlySet<string>): void {
    for (const address of addresses) if (!this.#clients.has(address)) this.#connect(address);
    for (const [address, client] of this.#clients) {
      if (addresses.has(address)) continue;
      this.#clients.delete(address);
      this.#options.refusals.over(`${address} (notifications)`);
      if (client.isOpen) client.destroy();
    }
  }

  stop(): void {
    this.listenTo(new Set());
    this.#pending.clear();
  }

  #connect(address: string): void {
    const { target, refusals } = this.#options;
    const server = `${address} (notifications)`;
    const client = newClient(target, address, {
      connectTimeoutMs,
      reconnects: true,
      pingIntervalMs,
      socketTimeoutMs,
    });
    this.#clients.set(address, client);
    const isMine = () => this.#clients.get(address) === client;
    client.on('error', (error: Error) => isMine() && refusals.note(error, address));
    client.on('ready', () => isMine() && refusals.over(server));
    client.connect().then(
      () => this.#subscribe(client, server, isMine),
      // It connects again for ever; a rejection means that it was closed.
      () => {},
    );
  }

  #subscribe(client: Client, server: string, isMine: () => boolean): void {
    const { target, refusals, statusPattern } = this.#options;
    const pattern = `__keyspace@${target.database}__:${statusPattern}`;
    const listen = (event: string, channel: string) => {
      if (event === 'set') this.#notice(channel.slice(channel.indexOf(':') + 1));
    };
    client.pSubscribe(pattern, listen).then(
      () => refusals.over(server),
      (error: unknown) => {
        if (!isMine()) return;
        refusals.note(error, server);
        setTimeout(() => isMine() && this.#subscribe(client, server, isMine), retryMs).unref();
      },
    );
  }

  #notice(key: string): void {
    const userId = this.#options.userOfStatusKey(key);
    if (userId === undefined || !this.#options.isMine(userId) || this.#pending.size >= maxPending) return;
    if (this.#pending.size === 0) setImmediate(() => this.#adoptAll());
    this.#pending.add(userId);
  }

  #adoptAll(): void {
    const { adopt } = this.#options;
    const users = this.#pending;
    this.#pending = new Set();
    for (const userId of users) {
      this.#noticed++;
      // What Redis refuses is noted; the sweep, or the next read, finds the user.
      adopt(userId).catch(() => {});
    }
  }
}
