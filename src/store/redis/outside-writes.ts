import type { RedisTarget } from '../../core/redis-target.ts';
import type { Log } from '../../observe/log.ts';
import { type Client, newClient } from './redis-client.ts';

export interface OutsideWritesOptions {
  readonly target: RedisTarget;
  /** Glob of status keys, and how a user id is read from one. */
  readonly statusPattern: string;
  readonly userOfStatusKey: (key: string) => string | undefined;
  /** Looks at what was written for a user. */
  readonly adopt: (userId: string) => Promise<void>;
  /** Whether this node is the one to look. */
  readonly isMine: (userId: string) => boolean;
  readonly log: Log;
}

const connectTimeoutMs = 2000;
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
      if (client.isOpen) client.destroy();
    }
  }

  stop(): void {
    this.listenTo(new Set());
    this.#pending.clear();
  }

  #connect(address: string): void {
    const { target, log, statusPattern } = this.#options;
    const client = newClient(target, address, { connectTimeoutMs, reconnects: true, pingIntervalMs: 5000 });
    this.#clients.set(address, client);
    client.on('error', (error: Error) => log.debug({ err: error, address }, 'notifications not connected'));
    client
      .connect()
      .then(() =>
        client.pSubscribe(`__keyspace@${target.database}__:${statusPattern}`, (event, channel) => {
          if (event === 'set') this.#notice(channel.slice(channel.indexOf(':') + 1));
        }),
      )
      .catch((error: unknown) => log.debug({ err: error, address }, 'no notifications from this server'));
  }

  #notice(key: string): void {
    const userId = this.#options.userOfStatusKey(key);
    if (userId === undefined || !this.#options.isMine(userId) || this.#pending.size >= maxPending) return;
    if (this.#pending.size === 0) setImmediate(() => this.#adoptAll());
    this.#pending.add(userId);
  }

  #adoptAll(): void {
    const { adopt, log } = this.#options;
    const users = this.#pending;
    this.#pending = new Set();
    for (const userId of users) {
      this.#noticed++;
      adopt(userId).catch((error: unknown) => log.debug({ err: error }, 'outside write not looked at'));
    }
  }
}
