import { Backoff, type BackoffOptions } from './backoff.ts';
import { comesBack } from './close-codes.ts';
import { PresenceError } from './errors.ts';
import { type ClientFrame, decodeFrame, type ServerFrame } from './frames.ts';
import type { Connect, Link } from './link.ts';

/**
 * - `idle`: not opened yet
 * - `connecting`: a connection is being made
 * - `open`: welcomed; what is known is true
 * - `waiting`: the connection was lost, the next attempt waits; what is known is as it was
 * - `closed`: for good
 */
export type ConnectionState = 'idle' | 'connecting' | 'open' | 'waiting' | 'closed';

export type Welcome = Extract<ServerFrame, { kind: 'welcome' }>;
type Hello = Extract<ClientFrame, { readonly hello: unknown }>['hello'];

export interface ConnectionOptions {
  readonly connect: Connect;
  readonly backoff: BackoffOptions;
  /** How long a connection may take from its start to the welcome, ms. */
  readonly connectTimeoutMs: number;
  /** May take a while, as a token does that is fetched. */
  readonly hello: () => Promise<Omit<Hello, 'resumeToken' | 'answersPings'>>;
  readonly onWelcome: (welcome: Welcome) => void;
  readonly onFrame: (frame: ServerFrame) => void;
  readonly onError: (error: unknown) => void;
  /** The server sent what it must not: nothing that it said can be relied on. */
  readonly onNonsense: (error: unknown) => void;
  readonly onLost: () => void;
  readonly onState: (state: ConnectionState, error: PresenceError | undefined) => void;
}

/** A connection that lasted this long was good: the next failure is a first one. */
const goodMs = 10_000;
/** Close code of a server that stops. */
const stoppingCode = 1012;
/** A late answer may be under way when this much of the wait is left, ms. */
const minHeartbeatMs = 20;

/** Keeps one session alive over many connections: hello, heartbeat, backoff, hand-over. */
export class SessionConnection {
  readonly #options: ConnectionOptions;
  readonly #backoff: Backoff;
  #state: ConnectionState = 'idle';
  #link: Link | undefined;
  #resumeToken = '';
  #welcomedMs = 0;
  #heardMs = 0;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #connectTimer: ReturnType<typeof setTimeout> | undefined;
  #heartbeatTimer: ReturnType<typeof setTimeout> | undefined;
  #pongTimer: ReturnType<typeof setTimeout> | undefined;
  #silenceTimer: ReturnType<typeof setTimeout> | undefined;
  /** Why the server said that it will close. */
  #farewell: { readonly closeCode: number; readonly reason: string; readonly waitMs: number } | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.backoff);
  }

  get state(): ConnectionState {
    return this.#state;
  }

  open(): void {
    if (this.#state === 'idle' || this.#state === 'waiting') this.#connect();
  }

  /** Says goodbye and never comes back. */
  close(error?: PresenceError): void {
    if (this.#state === 'closed') return;
    if (this.#state === 'open') this.#link?.send({ goodbye: {} });
    this.#dropLink();
    this.#enter('closed', error);
  }

  /** Leaves, to come back when `open` is called: for a page that is put away and may be shown again. */
  leave(): void {
    if (this.#state === 'closed' || this.#state === 'idle') return;
    if (this.#state === 'open') this.#link?.send({ goodbye: {} });
    this.#dropLink();
    this.#enter('waiting', undefined);
  }

  send(frame: ClientFrame): void {
    this.#link?.send(frame);
  }

  /** Sends heartbeats, and takes a connection for lost that does not answer one. */
  beat(intervalMs: number, pongTimeoutMs: number, heartbeat: () => void): void {
    clearTimeout(this.#heartbeatTimer);
    const waitMs = Math.max(minHeartbeatMs, intervalMs * (0.75 + Math.random() / 4));
    this.#heartbeatTimer = setTimeout(() => {
      const sentMs = now();
      heartbeat();
      this.#pongTimer = setTimeout(() => {
        if (this.#heardMs < sentMs) this.#lose(1006, 'no answer to a heartbeat');
      }, pongTimeoutMs);
      this.beat(intervalMs, pongTimeoutMs, heartbeat);
    }, waitMs);
  }

  /** Takes a connection for lost that brings nothing for so long, although the server pings more often. */
  expectWithin(silenceMs: number): void {
    clearTimeout(this.#silenceTimer);
    const leftMs = this.#heardMs + silenceMs - now();
    this.#silenceTimer = setTimeout(() => {
      if (now() - this.#heardMs >= silenceMs) this.#lose(1006, 'the server is silent');
      else this.expectWithin(silenceMs);
    }, leftMs);
  }

  #connect(): void {
    clearTimeout(this.#retryTimer);
    this.#enter('connecting', undefined);
    this.#farewell = undefined;
    this.#welcomedMs = 0;
    const link: Link = this.#options.connect({
      onOpen: () => {
        if (this.#link === link) this.#sayHello(link);
      },
      onFrame: (json) => {
        if (this.#link === link) this.#receive(json);
      },
      onClose: (closeCode, reason) => {
        if (this.#link === link) this.#lose(closeCode, reason);
      },
    });
    this.#link = link;
    this.#connectTimer = setTimeout(
      () => this.#lose(1006, 'no welcome in time'),
      this.#options.connectTimeoutMs,
    );
  }

  #sayHello(link: Link): void {
    this.#options.hello().then(
      (hello) => {
        if (this.#link === link)
          link.send({ hello: { ...hello, resumeToken: this.#resumeToken, answersPings: true } });
      },
      (error: unknown) => {
        this.#options.onError(error);
        if (this.#link === link) this.#lose(1006, 'there is no token');
      },
    );
  }

  #receive(json: unknown): void {
    this.#heardMs = now();
    let frame: ServerFrame;
    try {
      frame = decodeFrame(json);
    } catch (error) {
      this.#options.onNonsense(error);
      this.#lose(1006, 'the server sent what is no frame');
      return;
    }
    if (frame.kind === 'going-away') {
      this.#prepareToLeave(frame);
    } else if (this.#state === 'open') {
      this.#options.onFrame(frame);
    } else if (frame.kind === 'welcome') {
      clearTimeout(this.#connectTimer);
      this.#resumeToken = frame.resumeToken;
      this.#welcomedMs = now();
      this.#enter('open', undefined);
      this.#options.onWelcome(frame);
    } else {
      this.#options.onFrame(frame);
    }
  }

  /** Until the time comes the session goes on. */
  #prepareToLeave({ closeCode, reason, reconnectInMs }: Extract<ServerFrame, { kind: 'going-away' }>): void {
    // A server that stops wants its clients elsewhere; one that refuses wants them later.
    this.#farewell = { closeCode, reason, waitMs: closeCode === stoppingCode ? 0 : reconnectInMs };
    if (!comesBack(closeCode) || reconnectInMs === 0) return;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => {
      this.#dropLink();
      this.#options.onLost();
      this.#comeBackAfter(this.#wasGood() ? 0 : this.#backoff.next());
    }, reconnectInMs);
  }

  #lose(closeCode: number, reason: string): void {
    const farewell = this.#farewell ?? { closeCode, reason, waitMs: 0 };
    this.#dropLink();
    this.#options.onLost();
    if (!comesBack(farewell.closeCode)) {
      this.#enter(
        'closed',
        new PresenceError('CLOSED', farewell.reason || `close code ${farewell.closeCode}`, false),
      );
      return;
    }
    if (this.#wasGood()) this.#backoff.reset();
    this.#comeBackAfter(farewell.waitMs + this.#backoff.next());
  }

  #wasGood(): boolean {
    return this.#welcomedMs !== 0 && now() - this.#welcomedMs >= goodMs;
  }

  #comeBackAfter(waitMs: number): void {
    this.#enter('waiting', undefined);
    this.#retryTimer = setTimeout(() => this.#connect(), waitMs);
  }

  #dropLink(): void {
    const link = this.#link;
    this.#link = undefined;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#connectTimer);
    clearTimeout(this.#heartbeatTimer);
    clearTimeout(this.#pongTimer);
    clearTimeout(this.#silenceTimer);
    link?.close();
  }

  #enter(state: ConnectionState, error: PresenceError | undefined): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.onState(state, error);
  }
}

function now(): number {
  return performance.now();
}
