import { createClient } from 'redis';
import { PresenceError } from '../../core/errors.ts';
import { type RedisTarget, splitAddress } from '../../core/redis-target.ts';

/** Commands that may await their reply at once; more fail at once. Some seconds of Redis' work. */
const maxInFlight = 200_000;
const maxReconnectDelayMs = 500;

export interface ClientOptions {
  readonly connectTimeoutMs: number;
  /** Whether it connects again by itself, for ever. */
  readonly reconnects: boolean;
  /** Pings that show whether a silent connection lives; 0 = none. */
  readonly pingIntervalMs?: number;
  /** Silence after which the connection counts as dead. */
  readonly socketTimeoutMs?: number;
}

/** What `createClient` makes of our options, with the methods that we use. */
export type Client = ReturnType<typeof newClient>;

/** A connection to the one server at `address`; the topology of Sentinel and Cluster is ours to follow. */
export function newClient(target: RedisTarget, address: string, options: ClientOptions) {
  const { socketTimeoutMs, reconnects } = options;
  return createClient({
    ...(target.username === undefined ? {} : { username: target.username }),
    ...(target.password === undefined ? {} : { password: target.password }),
    database: target.database,
    pingInterval: options.pingIntervalMs ?? 0,
    // Waiting commands must fail fast, never pile up for an engine that is away.
    disableOfflineQueue: true,
    commandsQueueMaxLength: maxInFlight,
    // A timer for each command costs four times the command; a link has one for all.
    commandOptions: { timeout: undefined } as object,
    maintNotifications: 'disabled',
    socket: {
      ...splitAddress(address),
      ...(target.tls ? { tls: true as const, ...(target.ca === undefined ? {} : { ca: target.ca }) } : {}),
      connectTimeout: options.connectTimeoutMs,
      ...(socketTimeoutMs === undefined ? {} : { socketTimeout: socketTimeoutMs }),
      reconnectStrategy: (retries: number) => (reconnects ? reconnectDelayMs(retries) : false),
    },
  });
}

export function reconnectDelayMs(retries: number): number {
  return Math.min(20 * 2 ** Math.min(retries, 10), maxReconnectDelayMs) * (0.5 + Math.random() / 2);
}

export function engineError(message: string, cause?: unknown): PresenceError {
  return new PresenceError('REDIS_ERROR', message, cause === undefined ? undefined : { cause });
}
