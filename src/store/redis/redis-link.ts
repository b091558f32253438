import type { PresenceError } from '../../core/errors.ts';
import type { RedisTarget } from '../../core/redis-target.ts';
import type { Histogram } from '../../observe/measure.ts';
import { type Client, engineError, newClient } from './redis-client.ts';
import type { RefusalLog } from './refusal-log.ts';
import { isReply, refusalCode, refusalTable, refusalText } from './refusals.ts';
import type { Script } from './scripts.ts';

/** One command for one partition, with what is needed to send it again elsewhere. */
export interface Request {
  readonly partition: number;
  readonly args: readonly string[];
  /** The script that EVALSHA calls. */
  readonly script: Script | undefined;
  /** How often it was sent before. */
  readonly attempt: number;
}

/** What all links of an engine count together. */
export interface CommandMeasures {
  /** From sending a command to its reply, seconds. */
  readonly commandSeconds: Histogram;
  /** Commands that failed or got no reply in time. */
  errors: number;
}

/** Sends a command on a connection that is not in service yet. */
export type SendDirectly = <Reply>(args: readonly string[]) => Promise<Reply>;

export interface RedisLinkOptions {
  readonly target: RedisTarget;
  readonly address: string;
  /** How long a reply may take, ms. */
  readonly timeoutMs: number;
  readonly refusals: RefusalLog;
  readonly measures: CommandMeasures;
  /**
   * Checks a server that was just connected to; rejecting keeps it out of service. PresenceError INTERNAL: for a reason
   * that an operator has to mend. Anything else is tried again shortly, on a new connection where refusals.ts says so.
   */
  readonly admit: (send: SendDirectly) => Promise<void>;
  /** What to do about an error reply: send again elsewhere, or reject. */
  readonly recover: (error: unknown, request: Request, link: RedisLink) => Promise<unknown>;
  /** Called when `available` or `refusal` changed. */
  readonly onChange: () => void;
}

const connectTimeoutMs = 2000;
const admissionRetryMs = 250;
const refusalRetryMs = 5000;
/** Silence of a stalled server after which its connection is taken for dead and made anew. */
const deadConnectionMs = 5000;

interface Waiting {
  readonly sentMs: number;
  reject: ((error: PresenceError) => void) | undefined;
}

/**
 * The one multiplexed connection for commands to one Redis server: pipelined by itself, with a deadline on every reply,
 * failing fast while the server is away.
 */
export class RedisLink {
  readonly address: string;
  readonly #options: RedisLinkOptions;
  #client: Client;
  /** Grows with every connection and disconnection: an admission counts only for the connection it was made on. */
  #session = 0;
  /** Replies come in order, so the oldest waits at the front. */
  #waiting: Waiting[] = [];
  #reaper: NodeJS.Timeout | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #greetingTimer: NodeJS.Timeout | undefined;
  #available = false;
  #refusal: PresenceError | undefined;
  #trouble: string | undefined;
  #stalledMs: number | undefined;
  #stopped = false;

  constructor(options: RedisLinkOptions) {
    this.address = options.address;
    this.#options = options;
    this.#client = this.#open();
    // After a pause of this process, replies that came meanwhile are read before anything counts as overdue.
    const reap = () => {
      const nowMs = performance.now();
      setImmediate(() => this.#reap(nowMs));
    };
    this.#reaper = setInterval(reap, Math.max(10, options.timeoutMs / 10));
  }

  get available(): boolean {
    return this.#available;
  }

  /** Why this server must not be used, until an operator changes something. */
  get refusal(): PresenceError | undefined {
    return this.#refusal;
  }

  /** What keeps it out of service. */
  get trouble(): string | undefined {
    return this.#available ? undefined : this.#trouble;
  }

  /** Commands that await their reply. */
  get inFlight(): number {
    let count = 0;
    for (const { reject } of this.#waiting) if (reject) count++;
    return count;
  }

  stop(): void {
    this.#stopped = true;
    this.#session++;
    clearInterval(this.#reaper);
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#greetingTimer);
    this.#available = false;
    this.#close(this.#client);
    for (const waiting of this.#waiting) {
      waiting.reject?.(engineError('the engine is closed'));
      // What the client says of it later has nobody left to hear it.
      waiting.reject = undefined;
    }
    this.#waiting = [];
  }

  /** Rejects with REDIS_ERROR where it cannot be sent or is not answered in time; error replies go to `recover`. */
  send<Reply>(request: Request): Promise<Reply> {
    if (!this.#available) return Promise.reject(this.#away());
    return this.#send<Reply>(
      request.args,
      (error) => this.#options.recover(error, request, this) as Promise<Reply>,
    );
  }

  /** Sends a command that must follow another closely, as after ASKING. */
  sendAsking<Reply>(request: Request): Promise<Reply> {
    if (!this.#available) return Promise.reject(this.#away());
    const failed = (error: unknown) => Promise.reject(engineError('Redis failed', error));
    // Where ASKING fails, so does what follows it.
    this.#send<string>(['ASKING'], failed).catch(() => {});
    return this.#send<Reply>(
      request.args,
      (error) => this.#options.recover(error, request, this) as Promise<Reply>,
    );
  }

  #away(): PresenceError {
    const why = this.#trouble === undefined ? '' : `: ${this.#trouble}`;
    return engineError(`Redis is not reachable${why}`);
  }

  #send<Reply>(args: readonly string[], recover: (error: unknown) => Promise<Reply>): Promise<Reply> {
    return new Promise<Reply>((resolve, reject) => {
      const waiting: Waiting = { sentMs: performance.now(), reject };
      this.#waiting.push(waiting);
      const client = this.#client;
      client.sendCommand(args as string[]).then(
        (reply) => {
          waiting.reject = undefined;
          this.#options.measures.commandSeconds.observeSince(waiting.sentMs);
          resolve(reply as Reply);
        },
        (error: unknown) => {
          if (waiting.reject === undefined) return;
          waiting.reject = undefined;
          if (client === this.#client) this.#heed(error);
          resolve(recover(error));
        },
      );
    });
  }

  #open(): Client {
    const { target, address } = this.#options;
    const client = newClient(target, address, { connectTimeoutMs, reconnects: true });
    let isGreeted = false;
    const failed = (error: Error) => {
      if (client !== this.#client) return;
      clearTimeout(this.#greetingTimer);
      const isHangup = !isGreeted && refusalCode(error) === 'CLOSED';
      isGreeted = false;
      this.#note(isHangup ? new Error(`HANGUP ${error.message}`) : error);
      this.#lose();
    };
    client.on('error', failed);
    client.on('connect', () => {
      if (client !== this.#client) return;
      // A server that takes the connection and says nothing; the client itself would wait for ever.
      clearTimeout(this.#greetingTimer);
      this.#greetingTimer = setTimeout(() => {
        failed(new Error(`TIMEOUT no greeting within ${connectTimeoutMs} ms`));
        this.#reopen();
      }, connectTimeoutMs);
    });
    client.on('ready', () => {
      if (client !== this.#client) return;
      clearTimeout(this.#greetingTimer);
      isGreeted = true;
      this.#admit(++this.#session);
    });
    // It connects again for ever; a rejection means that it was closed, and 'error' events told the rest.
    client.connect().then(
      () => {},
      () => {},
    );
    return client;
  }

  #close(client: Client): void {
    if (client.isOpen) client.destroy();
  }

  #note(error: unknown): void {
    this.#trouble = refusalText(this.#options.refusals.note(error, this.address));
  }

  /** What an answer says of the server as a whole. */
  #heed(error: unknown): void {
    if (!this.#available || !isReply(error)) return;
    const code = refusalCode(error);
    const { action } = refusalTable[code];
    if (action !== 'connect anew' && action !== 'check again') return;
    this.#trouble = refusalText(code);
    this.#lose();
    if (action === 'connect anew') this.#reopen();
    else this.#admit(++this.#session);
  }

  #admit(session: number): void {
    const send: SendDirectly = (args) =>
      this.#send(args, (error) =>
        Promise.reject(error instanceof Error ? error : engineError('Redis failed')),
      );
    this.#options.admit(send).then(
      () => {
        if (session !== this.#session) return;
        this.#stalledMs = undefined;
        this.#refusal = undefined;
        this.#trouble = undefined;
        this.#available = true;
        this.#options.onChange();
      },
      (error: PresenceError) => {
        if (session !== this.#session) return;
        this.#note(error);
        if (error.code !== 'INTERNAL') {
          const code = refusalCode(error);
          const { action } = refusalTable[code];
          if (code === 'TIMEOUT') this.#stalledMs ??= performance.now();
          const again = () => (action === 'connect anew' ? this.#reopen() : this.#admit(session));
          this.#retryTimer = setTimeout(again, admissionRetryMs);
          return;
        }
        this.#trouble = error.message;
        this.#retryTimer = setTimeout(() => this.#admit(session), refusalRetryMs);
        this.#refusal = error;
        this.#options.onChange();
      },
    );
  }

  #lose(): void {
    this.#session++;
    clearTimeout(this.#retryTimer);
    if (!this.#available) return;
    this.#available = false;
    this.#options.onChange();
  }

  #reap(nowMs: number): void {
    if (this.#stopped) return;
    const overdueMs = nowMs - this.#options.timeoutMs;
    let done = 0;
    let timedOut = false;
    for (const waiting of this.#waiting) {
      if (waiting.reject !== undefined) {
        if (waiting.sentMs > overdueMs) break;
        waiting.reject(engineError(`Redis did not answer within ${this.#options.timeoutMs} ms`));
        waiting.reject = undefined;
        this.#options.measures.errors++;
        timedOut = true;
      }
      done++;
    }
    if (done > 0) this.#waiting = this.#waiting.slice(done);
    if (timedOut) this.#stall(nowMs);
    else if (this.#stalledMs !== undefined && nowMs - this.#stalledMs > deadConnectionMs) {
      this.#stalledMs = nowMs;
      this.#reopen();
    }
  }

  /** The socket is up and Redis is silent: fail calls at once until it answers again. */
  #stall(nowMs: number): void {
    if (!this.#available) return;
    this.#stalledMs = nowMs;
    this.#note(new Error(`TIMEOUT no answer within ${this.#options.timeoutMs} ms`));
    this.#lose();
    const session = this.#session;
    // A demoted or emptied server may come back, so it is checked like a new one. One that answers with an error lives too.
    const back = () => {
      if (session === this.#session) this.#admit(++this.#session);
    };
    this.#client.sendCommand(['PING']).then(back, (error: unknown) => {
      // Else the connection went down meanwhile; 'ready' will tell when it is back.
      if (isReply(error)) back();
    });
  }

  /**
   * Drops the connection and makes one anew: a cut cable leaves one that stays silent for ever, and behind a name there may
   * be another server by now.
   */
  #reopen(): void {
    if (this.#stopped) return;
    this.#session++;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#greetingTimer);
    const old = this.#client;
    this.#client = this.#open();
    this.#close(old);
  }
}
