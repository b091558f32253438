import { createClient } from 'redis';
import { PresenceError } from '../../core/errors.ts';
import type { Log } from '../../observe/log.ts';
import type { Script } from './scripts.ts';

export interface RedisConnectionOptions {
  readonly url: string;
  /** How long a reply may take, ms. */
  readonly timeoutMs: number;
  readonly log: Log;
}

/** Commands that may await their reply at once; more fail at once. Some seconds of Redis' work. */
const maxInFlight = 200_000;
const maxReconnectDelayMs = 500;

interface Waiting {
  readonly sentMs: number;
  reject: ((error: PresenceError) => void) | undefined;
}

/** What `createClient` makes of our options, with the methods that we use. */
export type Client = ReturnType<typeof newClient>;

export function newClient(url: string, options: { pingIntervalMs: number; socketTimeoutMs?: number }) {
  return createClient({
    url,
    pingInterval: options.pingIntervalMs,
    // Waiting commands must fail fast, never pile up for an engine that is away.
    disableOfflineQueue: true,
    commandsQueueMaxLength: maxInFlight,
    // A timer for each command costs four times the command; ours is one for all (see Waiting).
    commandOptions: { timeout: undefined } as object,
    maintNotifications: 'disabled',
    socket: {
      connectTimeout: 2000,
      ...(options.socketTimeoutMs === undefined ? {} : { socketTimeout: options.socketTimeoutMs }),
      reconnectStrategy: (retries) =>
        Math.min(20 * 2 ** Math.min(retries, 10), maxReconnectDelayMs) * (0.5 + Math.random() / 2),
    },
  });
}

/**
 * The one multiplexed connection for commands: pipelined by itself, with a deadline on every reply, failing fast while
 * Redis is away. Every failure leaves here as REDIS_ERROR.
 */
export class RedisConnection {
  readonly #options: RedisConnectionOptions;
  readonly #client: Client;
  /** Replies come in order, so the oldest waits at the front. */
  #waiting: Waiting[] = [];
  #reaper: NodeJS.Timeout | undefined;
  #available = false;
  #onAvailable: () => void = () => {};

  constructor(options: RedisConnectionOptions) {
    this.#options = options;
    this.#client = newClient(options.url, { pingIntervalMs: 0 });
    this.#client.on('error', (error: Error) => this.#becomeUnavailable(error));
    this.#client.on('ready', () => this.#becomeAvailable());
  }

  get available(): boolean {
    return this.#available;
  }

  /** Called each time Redis is there again, the first time included. */
  onAvailable(listener: () => void): void {
    this.#onAvailable = listener;
  }

  /** Tries to connect, for at most the timeout; goes on trying by itself after that. */
  async start(): Promise<void> {
    const { timeoutMs } = this.#options;
    this.#reaper = setInterval(() => this.#reap(), Math.max(10, timeoutMs / 10));
    // The client retries for ever; a rejection means that stop() came first, and 'error' events told the rest.
    const connected = this.#client.connect().then(
      () => {},
      () => {},
    );
    await Promise.race([connected, new Promise((resolve) => setTimeout(resolve, timeoutMs).unref())]);
  }

  async stop(): Promise<void> {
    clearInterval(this.#reaper);
    this.#available = false;
    if (this.#client.isOpen) this.#client.destroy();
    this.#rejectAll('the engine is closed');
  }

  /** Sends one command. Rejects with REDIS_ERROR: not connected, no reply in time, or an error reply. */
  command<Reply>(args: readonly string[]): Promise<Reply> {
    if (!this.#available) return Promise.reject(engineError('Redis is not reachable'));
    return new Promise<Reply>((resolve, reject) => {
      const waiting: Waiting = { sentMs: performance.now(), reject };
      this.#waiting.push(waiting);
      this.#client.sendCommand(args as string[]).then(
        (reply) => {
          waiting.reject = undefined;
          resolve(reply as Reply);
        },
        (error: unknown) => {
          waiting.reject = undefined;
          reject(isMissingScript(error) ? error : engineError('Redis failed', error));
        },
      );
    });
  }

  /** Runs a script by its hash, and sends it along where Redis does not have it yet. */
  async run<Reply>(script: Script, keys: readonly string[], args: readonly string[]): Promise<Reply> {
    const rest = [String(keys.length), ...keys, ...args];
    try {
      return await this.command<Reply>(['EVALSHA', script.sha1, ...rest]);
    } catch (error) {
      if (!isMissingScript(error)) throw error;
      return this.command<Reply>(['EVAL', script.source, ...rest]);
    }
  }

  #reap(): void {
    const overdueMs = performance.now() - this.#options.timeoutMs;
    let done = 0;
    let timedOut = false;
    for (const waiting of this.#waiting) {
      if (waiting.reject !== undefined) {
        if (waiting.sentMs > overdueMs) break;
        waiting.reject(engineError(`Redis did not answer within ${this.#options.timeoutMs} ms`));
        waiting.reject = undefined;
        timedOut = true;
      }
      done++;
    }
    if (done > 0) this.#waiting = this.#waiting.slice(done);
    if (timedOut) this.#becomeStalled();
  }

  /** The socket is up and Redis is silent: fail calls at once until it answers again. */
  #becomeStalled(): void {
    if (!this.#available) return;
    this.#available = false;
    this.#options.log.warn({ timeoutMs: this.#options.timeoutMs }, 'redis does not answer');
    this.#client.sendCommand(['PING']).then(
      () => this.#becomeAvailable(),
      // The connection went down meanwhile; 'ready' will tell when it is back.
      () => {},
    );
  }

  #rejectAll(message: string): void {
    for (const waiting of this.#waiting) waiting.reject?.(engineError(message));
    this.#waiting = [];
  }

  #becomeAvailable(): void {
    if (this.#available) return;
    this.#available = true;
    this.#options.log.info('redis is available');
    this.#onAvailable();
  }

  #becomeUnavailable(error: Error): void {
    if (this.#available) this.#options.log.warn({ err: error }, 'redis is not available');
    this.#available = false;
  }
}

function engineError(message: string, cause?: unknown): PresenceError {
  return new PresenceError('REDIS_ERROR', message, cause === undefined ? undefined : { cause });
}

function isMissingScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT');
}
