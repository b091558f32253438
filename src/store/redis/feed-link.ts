import type { RedisTarget } from '../../core/redis-target.ts';
import { type Client, engineError, newClient, reconnectDelayMs } from './redis-client.ts';
import type { RefusalLog } from './refusal-log.ts';

export interface FeedLinkOptions {
  readonly target: RedisTarget;
  readonly address: string;
  readonly refusals: RefusalLog;
  /** Called with the channels that were silent for a while and are heard again. */
  readonly onResumed: (channels: readonly string[]) => void;
}

interface Subscription {
  readonly listen: (message: string) => void;
  isLive: boolean;
  readonly waiters: Set<() => void>;
}

const connectTimeoutMs = 2000;
/** Silence is this connection's normal state: pings show whether it lives. */
const pingIntervalMs = 1000;
const socketTimeoutMs = 4000;
const retryMs = 250;

/**
 * The subscriptions on one Redis server, kept up for as long as they are wanted. Each channel is subscribed to by itself,
 * also after a reconnection, since channels of different slots cannot share a command.
 */
export class FeedLink {
  readonly #options: FeedLinkOptions;
  readonly #subscriptions = new Map<string, Subscription>();
  #client: Client | undefined;
  #timer: NodeJS.Timeout | undefined;
  #failures = 0;
  #stopped = false;

  constructor(options: FeedLinkOptions) {
    this.#options = options;
    this.#connect();
  }

  /** Whether messages of the channel are heard now. */
  isLive(channel: string): boolean {
    return this.#subscriptions.get(channel)?.isLive ?? false;
  }

  subscribe(channel: string, listen: (message: string) => void): void {
    this.#subscriptions.set(channel, { listen, isLive: false, waiters: new Set() });
    this.#subscribeAll();
  }

  /** Resolves when the channel is heard. Rejects with REDIS_ERROR after `timeoutMs`. */
  live(channel: string, timeoutMs: number): Promise<void> {
    const subscription = this.#subscriptions.get(channel);
    if (subscription?.isLive) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        subscription?.waiters.delete(heard);
        reject(engineError('the feed is not connected'));
      }, timeoutMs);
      const heard = () => {
        clearTimeout(timer);
        resolve();
      };
      subscription?.waiters.add(heard);
    });
  }

  unsubscribe(channel: string): void {
    const subscription = this.#subscriptions.get(channel);
    if (!subscription) return;
    this.#subscriptions.delete(channel);
    if (!this.#client?.isReady) return;
    // Unsubscribing fails only with the connection, and with it the subscription is gone. Without the listener, the client
    // would take a subscription made meanwhile for this one.
    this.#client.sUnsubscribe(channel, subscription.listen).catch(() => {});
  }

  /** Subscribes anew, since nothing is heard of a channel that should not be silent. */
  renew(channel: string): void {
    const subscription = this.#subscriptions.get(channel);
    if (!subscription?.isLive) return;
    this.unsubscribe(channel);
    this.subscribe(channel, subscription.listen);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#subscriptions.clear();
    if (this.#client?.isOpen) this.#client.destroy();
  }

  #connect(): void {
    const { target, address, refusals } = this.#options;
    const client = newClient(target, address, {
      connectTimeoutMs,
      reconnects: false,
      pingIntervalMs,
      socketTimeoutMs,
    });
    this.#client = client;
    client.on('error', (error: Error) => {
      if (client === this.#client && !this.#stopped) refusals.note(error, address);
      this.#reconnect(client);
    });
    client.on('end', () => this.#reconnect(client));
    client.on('sharded-channel-moved', (channel: Buffer | string) => this.#silence(channel.toString()));
    client.connect().then(
      () => {
        this.#failures = 0;
        this.#subscribeAll();
      },
      (error: unknown) => {
        if (client === this.#client && !this.#stopped) refusals.note(error, address);
        this.#reconnect(client);
      },
    );
  }

  #reconnect(client: Client): void {
    if (this.#stopped || client !== this.#client) return;
    this.#client = undefined;
    if (client.isOpen) client.destroy();
    for (const subscription of this.#subscriptions.values()) subscription.isLive = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), reconnectDelayMs(this.#failures++));
  }

  /** The slot left this server. It is asked again until the topology says where to ask instead. */
  #silence(channel: string): void {
    const subscription = this.#subscriptions.get(channel);
    if (!subscription) return;
    subscription.isLive = false;
    this.#retryLater();
  }

  #retryLater(): void {
    if (this.#stopped || !this.#client) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#subscribeAll(), retryMs);
  }

  #subscribeAll(): void {
    const client = this.#client;
    if (!client?.isReady) return;
    const silent = [...this.#subscriptions].filter(([, { isLive }]) => !isLive);
    if (silent.length === 0) return;
    const heard: string[] = [];
    const each = silent.map(async ([channel, subscription]) => {
      await client.sSubscribe(channel, subscription.listen);
      if (client !== this.#client || this.#subscriptions.get(channel) !== subscription) return;
      if (subscription.isLive) return;
      subscription.isLive = true;
      heard.push(channel);
      for (const waiter of subscription.waiters) waiter();
      subscription.waiters.clear();
    });
    Promise.allSettled(each).then(
      (results) => {
        if (this.#stopped) return;
        if (heard.length > 0) this.#options.onResumed(heard);
        const failed = results.find((result) => result.status === 'rejected');
        if (!failed || client !== this.#client) return;
        this.#options.refusals.note(failed.reason, this.#options.address);
        this.#retryLater();
      },
      () => {},
    );
  }
}
