import { readFileSync } from 'node:fs';
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
    credentialsProvider: {
      type: 'async-credentials-provider' as const,
      credentials: () => credentials(target),
    },
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

/**
 * Asked for each connection, so that a password that was changed counts from the next one on. Read at once: the client
 * takes no answer before its first command is out, and a full Redis sends one.
 */
async function credentials({
  username,
  password,
  passwordFile,
}: RedisTarget): Promise<{ username?: string; password?: string }> {
  const text = passwordFile === undefined ? password : readFileSync(passwordFile, 'utf8').trimEnd();
  return {
    ...(username === undefined ? {} : { username }),
    ...(text === undefined ? {} : { password: text }),
  };
}

export function reconnectDelayMs(retries: number): number {
  return Math.min(20 * 2 ** Math.min(retries, 10), maxReconnectDelayMs) * (0.5 + Math.random() / 2);
}

export function engineError(message: string, cause?: unknown): PresenceError {
  return new PresenceError('REDIS_ERROR', message, cause === undefined ? undefined : { cause });
}
