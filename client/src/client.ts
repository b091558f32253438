import { ActivityReporter } from './activity-reporter.ts';
import type { BackoffOptions } from './backoff.ts';
import { type ConnectionState, SessionConnection, type Welcome } from './connection.ts';
import { PresenceError } from './errors.ts';
import { activityName, type ClientFrame, type ServerFrame } from './frames.ts';
import { type Connect, webSocketLink } from './link.ts';
import { LocalView } from './local-view.ts';
import { warnOfPlainToken } from './plain-token.ts';
import { callPrivacy, type Privacy, type PrivacyCall, type PrivacyChange } from './privacy.ts';
import type { Activity, PresenceChange, Status, UserState } from './types.ts';
import { WatchList } from './watch-list.ts';

export interface PresenceClientOptions {
  /** Of the server, `https://presence.example.com`; or give `connect`. Privacy needs it in any case. */
  readonly url?: string | URL;
  /** Another way to connect, such as `grpcLink` of `@pilotlight/client/grpc`. */
  readonly connect?: Connect;
  /** Whose session it is. Empty, the default: nobody's; it only looks on. */
  readonly userId?: string;
  /**
   * Proves who the user is, where the server asks for that. As a function it is asked at every connection, and before a token
   * expires.
   */
  readonly token?: string | (() => string | Promise<string>);
  /** Name of the device, for lists of devices; at most 64 bytes. */
  readonly device?: string;
  /**
   * `auto`: input and visibility of the page tell whether the user is there, and the server takes silence for IDLE.
   * `manual`: only `setActivity` does. Default: `auto` in a page, else `manual`.
   */
  readonly activity?: 'auto' | 'manual';
  readonly backoff?: BackoffOptions;
  /** How long a connection may take to be welcomed, ms; default 10,000. */
  readonly connectTimeoutMs?: number;
  /** How long a request may take, waiting for a connection included, ms; default 10,000. */
  readonly requestTimeoutMs?: number;
  /** Hears of what nobody can be told of by a rejection: bad frames, failed watches, listeners that throw. Default: nothing. */
  readonly onError?: (error: unknown) => void;
}

interface PendingRequest {
  readonly resolve: (frame: ServerFrame) => void;
  readonly reject: (error: PresenceError) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

type RequestFrame = ClientFrame extends infer Frame ? Omit<Frame, 'requestId'> : never;

/**
 * A user's presence, and that of others.
 *
 * Keeps one session with the server through lost connections, restarts and hand-overs. While the session is open the user
 * is ONLINE, and what `get` answers of watched users is the truth.
 */
export class PresenceClient {
  readonly userId: string;
  readonly #options: PresenceClientOptions;
  readonly #connection: SessionConnection;
  readonly #view: LocalView;
  readonly #watchList: WatchList;
  readonly #reporter: ActivityReporter | undefined;
  readonly #pending = new Map<number, PendingRequest>();
  readonly #stateListeners = new Set<(state: ConnectionState) => void>();
  readonly #waitingForOpen = new Set<() => void>();
  #nextRequestId = 1;
  #error: PresenceError | undefined;
  /** What the application said; null: nothing, or that it is ACTIVE and may be found otherwise. */
  #chosen: Activity | null = null;
  #idleAfterMs = 0;

  constructor(options: PresenceClientOptions) {
    const connect = options.connect ?? (options.url === undefined ? undefined : webSocketLink(options.url));
    if (!connect) throw new PresenceError('INVALID_ARGUMENT', 'url or connect must be given', false);
    this.#options = options;
    this.userId = options.userId ?? '';
    this.#view = new LocalView((error) => options.onError?.(error));
    this.#watchList = new WatchList({
      view: this.#view,
      request: (frame) => this.#send(frame),
      onError: (error) => options.onError?.(error),
    });
    this.#connection = new SessionConnection({
      connect,
      backoff: options.backoff ?? {},
      connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
      onError: (error) => options.onError?.(error),
      hello: async () => {
        const token = await this.#token();
        const activity = this.#chosen ?? (this.#isSilent() ? 'IDLE' : null);
        return {
          userId: this.userId,
          device: options.device ?? '',
          ...(activity && { activity: activityName(activity) }),
          ...(token && { token }),
        };
      },
      onWelcome: (welcome) => this.#begin(welcome),
      onFrame: (frame) => this.#take(frame),
      onNonsense: (error) => {
        this.#watchList.distrust();
        options.onError?.(error);
      },
      onLost: () => this.#interrupt(),
      onState: (state, error) => this.#enter(state, error),
    });
    const hasPage = typeof document !== 'undefined';
    const isAutomatic = (options.activity ?? (hasPage ? 'auto' : 'manual')) === 'auto';
    if (hasPage) {
      this.#reporter = new ActivityReporter({
        reportsInput: isAutomatic && this.userId !== '',
        onInput: () => this.#heartbeat(),
        onShown: () => this.#connection.open(),
        onHidden: () => this.#connection.leave(),
      });
    }
  }

  get state(): ConnectionState {
    return this.#connection.state;
  }

  /** Why the client is closed, where the server said not to come back. */
  get error(): PresenceError | undefined {
    return this.#error;
  }

  /** Begins the session, and goes on until `close`. */
  open(): this {
    this.#reporter?.start();
    this.#connection.open();
    return this;
  }

  /** Says goodbye: the user goes OFFLINE after the server's grace, unless other devices are there. */
  close(): void {
    this.#reporter?.stop();
    this.#connection.close();
    this.#interrupt();
  }

  /** Resolves when the session is open. Rejects with CLOSED when it never will be. */
  async ready(): Promise<void> {
    if (this.state === 'open') return;
    if (this.state === 'closed') throw this.#closedError();
    await new Promise<void>((resolve) => this.#waitingForOpen.add(resolve));
    return this.ready();
  }

  /** Calls back at every change of the session's state. Answers how to stop that. */
  onStateChange(listener: (state: ConnectionState) => void): () => void {
    this.#stateListeners.add(listener);
    return () => {
      this.#stateListeners.delete(listener);
    };
  }

  /** What is known of a watched user; undefined: not watched, or not told yet. */
  get(userId: string): UserState | undefined {
    return this.#view.get(userId);
  }

  /**
   * Watches users; `listener` hears of the first state of each, and of every change. Answers how to stop that. A user
   * whose state is known already is told of at once, through `get`.
   */
  subscribe(userIds: Iterable<string>, listener: (change: PresenceChange) => void): () => void {
    const watched = new Set(userIds);
    this.#watchList.add(watched, listener);
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#watchList.remove(watched, listener);
    };
  }

  /** Changes of users as they come. A slow reader gets the latest of each user. Ends with the loop, or the client. */
  async *changes(userIds: Iterable<string>): AsyncGenerator<PresenceChange, void, undefined> {
    const unread = new Map<string, PresenceChange>();
    let wake = (): void => {};
    const stops = [
      this.subscribe(userIds, (change) => {
        const earlier = unread.get(change.userId);
        unread.set(change.userId, earlier ? { ...change, previous: earlier.previous } : change);
        wake();
      }),
      this.onStateChange(() => wake()),
    ];
    const isClosed = () => this.state === 'closed';
    try {
      while (!isClosed()) {
        for (const [userId, change] of unread) {
          unread.delete(userId);
          yield change;
        }
        if (unread.size > 0 || isClosed()) continue;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      for (const stop of stops) stop();
    }
  }

  /** Asks for states, once, without watching. Rejects with PresenceError. */
  async query(userIds: readonly string[]): Promise<readonly UserState[]> {
    const answer = await this.#request({ query: { userIds } });
    return answer.kind === 'states' ? answer.states : [];
  }

  /** Sets the user ONLINE or OFFLINE, for all devices. OFFLINE stays through reconnections. */
  async setStatus(status: Status): Promise<UserState | null> {
    return stateIn(await this.#request({ setStatus: { status } }));
  }

  /** Says how present the user is at this device. Where activity is found by itself, ACTIVE gives it back to that. */
  async setActivity(activity: Activity): Promise<UserState | null> {
    this.#chosen = activity === 'ACTIVE' && this.#options.activity !== 'manual' ? null : activity;
    return stateIn(await this.#request({ setStatus: { activity: activityName(activity) } }));
  }

  /**
   * Says something of the user.
   *
   * @param text at most 140 characters; empty with an empty emoji: nothing
   * @param options.expiresInMs when the status before it returns, ms from now; default 0: never
   */
  async setCustomStatus(
    text: string,
    { emoji = '', expiresInMs = 0 }: { emoji?: string; expiresInMs?: number } = {},
  ): Promise<UserState | null> {
    return stateIn(await this.#request({ setCustomStatus: { text, emoji, expiresInMs } }));
  }

  /** Hides the user, or lets them appear; needs `url`. Answers the privacy after it. Rejects with PresenceError. */
  async setPrivacy(change: PrivacyChange): Promise<Privacy> {
    return callPrivacy(await this.#privacyCall(), change);
  }

  /** What the user hides, and from whom; needs `url`. Rejects with PresenceError. */
  async getPrivacy(): Promise<Privacy> {
    return callPrivacy(await this.#privacyCall());
  }

  // ---- session ----------------------------------------------------------------------------------------

  #begin(welcome: Welcome): void {
    this.#idleAfterMs = welcome.idleAfterMs;
    this.#watchList.begin(welcome.maxFrameBytes);
    const { heartbeatIntervalMs, pingIntervalMs, pongTimeoutMs } = welcome;
    if (pingIntervalMs > 0) this.#connection.expectWithin(pingIntervalMs + pongTimeoutMs);
    // Answers to pings are heartbeats: where pings come often enough there is no need for more.
    if (pingIntervalMs === 0 || pingIntervalMs > heartbeatIntervalMs) {
      this.#connection.beat(heartbeatIntervalMs, pongTimeoutMs, () => this.#heartbeat());
    }
    if (welcome.state) this.#view.take(welcome.state);
  }

  #take(frame: ServerFrame): void {
    if (frame.kind === 'events') {
      for (const state of frame.states) this.#view.take(state);
      return;
    }
    if (frame.kind === 'ping') {
      // From here, not from a timer, which browsers hold back in pages that are not shown.
      this.#connection.send({ heartbeat: this.#heartbeatContent() });
      return;
    }
    if (frame.kind === 'token-expiring') {
      this.#renewToken().catch((error: unknown) => this.#options.onError?.(error));
      return;
    }
    if (frame.kind !== 'ack' && frame.kind !== 'states' && frame.kind !== 'error') return;
    if (frame.kind === 'error' && frame.requestId === 0 && frame.userIds.length > 0) {
      this.#watchList.refused(errorOf(frame));
    }
    const pending = this.#pending.get(frame.requestId);
    if (!pending) return;
    this.#pending.delete(frame.requestId);
    clearTimeout(pending.timer);
    if (frame.kind === 'error') pending.reject(errorOf(frame));
    else pending.resolve(frame);
  }

  async #token(): Promise<string> {
    const { token = '' } = this.#options;
    const current = typeof token === 'string' ? token : await token();
    if (current !== '') warnOfPlainToken(this.#options.url);
    return current;
  }

  async #privacyCall(): Promise<PrivacyCall> {
    const { url, requestTimeoutMs: timeoutMs = 10_000 } = this.#options;
    return { url, userId: this.userId, token: await this.#token(), timeoutMs };
  }

  /** A token that cannot be had anew is of no use to the server. */
  async #renewToken(): Promise<void> {
    if (typeof this.#options.token !== 'function') return;
    await this.#send({ authenticate: { token: await this.#token() } });
  }

  #interrupt(): void {
    this.#watchList.interrupt();
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(new PresenceError('DISCONNECTED', 'the connection was lost before the answer came', true));
    }
    this.#pending.clear();
  }

  #enter(state: ConnectionState, error: PresenceError | undefined): void {
    this.#error = error;
    if (state === 'closed') {
      this.#reporter?.stop();
      this.#interrupt();
    }
    if (state === 'open' || state === 'closed') {
      const waiting = [...this.#waitingForOpen];
      this.#waitingForOpen.clear();
      for (const wake of waiting) wake();
    }
    for (const listener of this.#stateListeners) {
      try {
        listener(state);
      } catch (failure) {
        this.#options.onError?.(failure);
      }
    }
  }

  #heartbeat(): void {
    if (this.state !== 'open') return;
    // The answer shows that the connection lives; nobody waits for it.
    this.#send({ heartbeat: this.#heartbeatContent() }).catch(() => {});
  }

  #heartbeatContent(): { activity?: string } {
    const activity = this.#activityNow();
    return activity ? { activity: activityName(activity) } : {};
  }

  /** Whether a server would take the user for IDLE: one that comes back must not look ACTIVE for that. */
  #isSilent(): boolean {
    if (!this.#reporter?.reportsInput || this.#idleAfterMs === 0) return false;
    return this.#reporter.silentMs() >= this.#idleAfterMs;
  }

  #activityNow(): Activity | null {
    if (this.userId === '') return null;
    if (this.#chosen !== null) return this.#chosen;
    if (!this.#reporter?.reportsInput) return 'ACTIVE';
    return this.#reporter.takeInput() ? 'ACTIVE' : null;
  }

  /** Waits for a session if there is none. */
  async #request(frame: RequestFrame): Promise<ServerFrame> {
    const timeoutMs = this.#options.requestTimeoutMs ?? 10_000;
    if (this.state === 'open') return this.#send(frame, timeoutMs);
    const beganMs = performance.now();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new PresenceError('TIMEOUT', 'there was no session in time', true)),
        timeoutMs,
      );
    });
    try {
      await Promise.race([this.ready(), late]);
    } finally {
      clearTimeout(timer);
    }
    return this.#send(frame, Math.max(1, timeoutMs - (performance.now() - beganMs)));
  }

  #send(frame: RequestFrame, timeoutMs = this.#options.requestTimeoutMs ?? 10_000): Promise<ServerFrame> {
    if (this.state !== 'open') {
      return Promise.reject(new PresenceError('DISCONNECTED', 'there is no session', true));
    }
    const requestId = this.#nextRequestId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(requestId);
        reject(new PresenceError('TIMEOUT', 'no answer came in time', true));
      }, timeoutMs);
      this.#pending.set(requestId, { resolve, reject, timer });
      this.#connection.send({ requestId, ...frame } as ClientFrame);
    });
  }

  #closedError(): PresenceError {
    return this.#error ?? new PresenceError('CLOSED', 'the client was closed', false);
  }
}

function errorOf(frame: Extract<ServerFrame, { kind: 'error' }>): PresenceError {
  return new PresenceError(frame.code, frame.message, frame.retryable, frame.userIds);
}

function stateIn(frame: ServerFrame): UserState | null {
  return frame.kind === 'ack' ? frame.state : null;
}
