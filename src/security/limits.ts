import { PresenceError } from '../core/errors.ts';
import type { Principal } from '../core/principal.ts';
import { networkOf } from './client-address.ts';
import { Overload } from './overload.ts';
import { TokenBuckets } from './token-buckets.ts';

export interface LimitsOptions {
  /** A second, for each user with a token; 0: none. */
  readonly rateLimitCalls: number;
  /** Users asked for. */
  readonly rateLimitReads: number;
  readonly rateLimitUpdates: number;
  readonly rateLimitWatchEdits: number;
  /** Sessions and subscriptions opened. */
  readonly rateLimitConnections: number;
  /** How many times as much a backend may; 0: no limit. */
  readonly rateLimitBackendFactor: number;
  /** Of each kind, for each user with a token. */
  readonly maxConnectionsPerUser: number;
  /** Largest frame of a session, from which the bytes follow that sessions of one user may send. */
  readonly maxFrameBytes: number;
  /** A second, for each address; 0: none. */
  readonly rateLimitAddressCalls: number;
  readonly rateLimitAddressReads: number;
  readonly rateLimitAddressUpdates: number;
  readonly rateLimitAddressWatchEdits: number;
  /** TCP connections. */
  readonly rateLimitAddressConnections: number;
  /** A minute, for each address; 0: none. */
  readonly rateLimitAuthFailures: number;
  /** Of this process; 0: none. */
  readonly maxStreams: number;
  readonly maxWatchEdges: number;
  readonly maxMemoryBytes: number;
  readonly maxCalls: number;
  /** How long calls are served in one turn of the event loop when turns are too long. */
  readonly maxTurnMs: number;
}

/** What this process holds now. */
export interface Load {
  readonly streams: number;
  readonly watchEdges: number;
  readonly memoryBytes: number;
}

/** Why somebody was refused; a label of the metrics. */
export const refusals = [
  'calls',
  'reads',
  'updates',
  'watch-edits',
  'connections',
  'open-connections',
  'bytes',
  'auth-failures',
  'streams',
  'watch-edges',
  'memory',
  'calls-under-way',
  'overload',
] as const;
export type Refusal = (typeof refusals)[number];
export type Rate = 'calls' | 'reads' | 'updates' | 'watch-edits';
/** What a call may be refused for by its head: by what all calls of its method take. */
const ratesOfMethods: Readonly<Record<string, readonly Rate[]>> = {
  GetUserStatus: ['reads'],
  GetMultipleUserStatus: ['reads'],
  SubscribeStatusUpdates: ['watch-edits'],
  SetUserStatus: ['updates'],
  SendHeartbeat: ['updates'],
  SetPrivacy: ['updates'],
};
/** Largest frames that all sessions of a user may send in a second. */
const largestFramesPerSecond = 4;
type Rates = Readonly<Record<Rate | 'connections', TokenBuckets>>;

/** When a newcomer who found no room should come back, ms. */
const comeBackMs = 5000;
/** When a call that found the server busy should come back, ms. */
const busyRetryMs = 1000;
/** Looks at tokens that are probably bad: at 0.1 ms each for the slowest algorithms, a tenth of a core. */
const suspectsPerSecond = 1000;
/** Memory is asked for this often, ms. */
const memoryAgeMs = 250;

/** Who may do how much: by principal, by address, and of the whole process, where newcomers are refused first. */
export class Limits {
  readonly #options: LimitsOptions;
  readonly #load: () => Load;
  readonly #users: Rates;
  readonly #backends: Rates;
  readonly #addresses: Rates;
  readonly #authFailures: TokenBuckets;
  readonly #userBytes: TokenBuckets;
  readonly #backendBytes: TokenBuckets;
  /** Looks at tokens of addresses that brought too many bad ones, of the whole process. */
  readonly #suspects = new TokenBuckets(suspectsPerSecond, suspectsPerSecond);
  readonly #refused = Object.fromEntries(refusals.map((it) => [it, 0])) as Record<Refusal, number>;
  readonly #overload: Overload;
  /** Subscriptions and observer sessions that are no user's connection, by kind and principal: the engine does not count them. */
  readonly #open = new Map<string, number>();
  #callsUnderWay = 0;
  #memory = { bytes: 0, atMs: Number.NEGATIVE_INFINITY };

  /** @param load asked when a newcomer comes; its memory at most four times a second */
  constructor(options: LimitsOptions, load: () => Load) {
    this.#options = options;
    this.#load = load;
    const perPrincipal = (factor: number) => ({
      calls: new TokenBuckets(options.rateLimitCalls * factor),
      reads: new TokenBuckets(options.rateLimitReads * factor),
      updates: new TokenBuckets(options.rateLimitUpdates * factor),
      'watch-edits': new TokenBuckets(options.rateLimitWatchEdits * factor),
      connections: new TokenBuckets(options.rateLimitConnections * factor),
    });
    this.#users = perPrincipal(1);
    this.#backends = perPrincipal(options.rateLimitBackendFactor);
    this.#addresses = {
      calls: new TokenBuckets(options.rateLimitAddressCalls),
      reads: new TokenBuckets(options.rateLimitAddressReads),
      updates: new TokenBuckets(options.rateLimitAddressUpdates),
      'watch-edits': new TokenBuckets(options.rateLimitAddressWatchEdits),
      connections: new TokenBuckets(options.rateLimitAddressConnections),
    };
    const bytesPerSecond = options.maxFrameBytes * largestFramesPerSecond;
    this.#userBytes = new TokenBuckets(bytesPerSecond, bytesPerSecond);
    this.#backendBytes = new TokenBuckets(bytesPerSecond * options.rateLimitBackendFactor);
    this.#overload = new Overload(options.maxTurnMs);
    this.#authFailures = new TokenBuckets(options.rateLimitAuthFailures / 60, options.rateLimitAuthFailures);
  }

  /** How often somebody was refused, by what for. */
  get refused(): Readonly<Record<Refusal, number>> {
    return this.#refused;
  }

  /** @throws PresenceError RATE_LIMITED */
  take(rate: Rate, principal: Principal | null, address: string, cost = 1): void {
    const ownWaitMs = principal === null ? 0 : this.#ratesOf(principal)[rate].take(principal.id, cost);
    const waitMs = ownWaitMs || this.#takeOfAddress(rate, address, cost);
    if (waitMs > 0) throw this.#refuse(rate, waitMs, `too many ${rate.replace('-', ' ')}`);
  }

  /**
   * An update, which is a call too.
   *
   * @param cost how many updates it counts as
   * @throws PresenceError RATE_LIMITED
   */
  takeUpdate(principal: Principal | null, address: string, cost = 1): void {
    this.take('calls', principal, address);
    this.take('updates', principal, address, cost);
  }

  /**
   * By the head of a call, before anything of it is decoded: whether it is too much already.
   *
   * @throws PresenceError RATE_LIMITED
   */
  checkHead(method: string, principal: Principal): void {
    for (const rate of ['calls', ...(ratesOfMethods[method] ?? [])] as const) {
      const waitMs = this.#ratesOf(principal)[rate].wait(principal.id);
      if (waitMs > 0) throw this.#refuse(rate, waitMs, `too many ${rate.replace('-', ' ')}`);
    }
  }

  /**
   * Bytes of this principal that came and are to be decoded.
   *
   * @returns 0: they may be; else how long to keep them as they are, ms
   */
  takeBytes(principal: Principal, bytes: number): number {
    const waitMs = this.#bytesOf(principal).take(principal.id, bytes);
    if (waitMs > 0) this.#refused.bytes++;
    return waitMs;
  }

  /**
   * A session or subscription more of this principal. Streams share TCP connections, so `mayConnect` does not see them.
   *
   * @throws PresenceError RATE_LIMITED
   */
  takeConnection(principal: Principal): void {
    const waitMs = this.#ratesOf(principal).connections.take(principal.id, 1);
    if (waitMs > 0) throw this.#refuse('connections', waitMs, 'too many connections');
  }

  /**
   * A subscription or an observer session more of this principal, which no user's connections count.
   *
   * @returns to be called when it is over, any number of times
   * @throws PresenceError RATE_LIMITED
   */
  holdOpen(kind: 'subscription' | 'observer', principal: Principal): () => void {
    const { maxConnectionsPerUser, rateLimitBackendFactor } = this.#options;
    const most = maxConnectionsPerUser * (principal.kind === 'backend' ? rateLimitBackendFactor : 1);
    const key = `${kind} ${principal.kind} ${principal.id}`;
    const open = this.#open.get(key) ?? 0;
    if (most > 0 && open >= most) {
      const what = kind === 'observer' ? 'observer sessions' : 'subscriptions';
      throw this.#refuse(
        'open-connections',
        comeBackMs,
        `${most} ${what} without a user_id are open already`,
      );
    }
    this.#open.set(key, open + 1);
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      const left = (this.#open.get(key) as number) - 1;
      if (left === 0) this.#open.delete(key);
      else this.#open.set(key, left);
    };
  }

  /** A new TCP connection of this address. false: one too many. */
  mayConnect(address: string): boolean {
    if (this.#takeOfAddress('connections', address, 1) === 0) return true;
    this.#refused.connections++;
    return false;
  }

  /**
   * Before a token that is not known is looked at. It is looked at whatever others of the address sent, until so many bad ones
   * come that looking would take the process' time from everybody.
   *
   * @throws PresenceError RATE_LIMITED
   */
  checkSuspect(address: string): void {
    if (this.#authFailures.wait(networkOf(address)) === 0) return;
    const waitMs = this.#suspects.take('', 1);
    if (waitMs > 0) throw this.#refuse('auth-failures', waitMs, 'too many tokens that are not valid');
  }

  /**
   * Counts a token that was not valid.
   *
   * @throws PresenceError RATE_LIMITED: one too many of this address
   */
  countAuthFailure(address: string): void {
    const waitMs = this.#authFailures.take(networkOf(address), 1);
    if (waitMs > 0) throw this.#refuse('auth-failures', waitMs, 'too many tokens that are not valid');
  }

  /** Whether a call that came now can be served. Cheap: asked before anything else is done for it. */
  mayCall(): boolean {
    const { maxCalls } = this.#options;
    if (maxCalls > 0 && this.#callsUnderWay >= maxCalls) {
      this.#refused['calls-under-way']++;
      return false;
    }
    if (this.#overload.hasRoom) return true;
    this.#refused.overload++;
    return false;
  }

  /** A call that waits for the engine, until `endCall`. */
  beginCall(): void {
    this.#callsUnderWay++;
  }

  endCall(): void {
    this.#callsUnderWay--;
  }

  /** Whether somebody may come who will stay: sooner no than for a call. */
  mayCome(): boolean {
    if (this.#overload.hasRoomForNewcomer) return true;
    this.#refused.overload++;
    return false;
  }

  /**
   * Room for one more stream or session.
   *
   * @throws PresenceError RATE_LIMITED
   */
  checkRoom(): void {
    if (!this.mayCome()) throw busy();
    const { maxStreams, maxMemoryBytes } = this.#options;
    if (maxStreams > 0 && this.#load().streams >= maxStreams) {
      throw this.#refuse('streams', comeBackMs, 'the server has as many streams as it may');
    }
    if (maxMemoryBytes > 0 && this.#memoryBytes() >= maxMemoryBytes) {
      throw this.#refuse('memory', comeBackMs, 'the server has no memory to spare');
    }
  }

  /**
   * Room for more pairs of a watcher and a watched user.
   *
   * @throws PresenceError RATE_LIMITED
   */
  checkWatchEdges(added: number): void {
    const { maxWatchEdges } = this.#options;
    if (maxWatchEdges > 0 && this.#load().watchEdges + added > maxWatchEdges) {
      throw this.#refuse('watch-edges', comeBackMs, 'the server watches as many users as it may');
    }
  }

  #takeOfAddress(rate: Rate | 'connections', address: string, cost: number): number {
    const buckets = this.#addresses[rate];
    return buckets.isLimited ? buckets.take(networkOf(address), cost) : 0;
  }

  #ratesOf({ kind }: Principal): Rates {
    return kind === 'backend' ? this.#backends : this.#users;
  }

  #bytesOf({ kind }: Principal): TokenBuckets {
    return kind === 'backend' ? this.#backendBytes : this.#userBytes;
  }

  #refuse(refusal: Refusal, retryAfterMs: number, message: string): PresenceError {
    this.#refused[refusal]++;
    return new PresenceError('RATE_LIMITED', `${message}; try again in ${retryAfterMs} ms`, { retryAfterMs });
  }

  #memoryBytes(): number {
    const nowMs = performance.now();
    if (nowMs - this.#memory.atMs > memoryAgeMs)
      this.#memory = { bytes: this.#load().memoryBytes, atMs: nowMs };
    return this.#memory.bytes;
  }
}

/** What a call is told for which the process has no time. */
export function busy(): PresenceError {
  const message = `the server is busy; try again in ${busyRetryMs} ms`;
  return new PresenceError('RATE_LIMITED', message, { retryAfterMs: busyRetryMs });
}
