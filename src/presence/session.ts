import { PresenceError } from '../core/errors.ts';
import type { Activity, UserState } from '../core/presence.ts';
import { checkUserId, hasForbiddenCharacter, utf8Length } from '../core/user-id.ts';
import type { Connections, HeldConnection } from './connections.ts';
import { Liveness, type LivenessTimings } from './liveness.ts';
import { type PresenceApi, type RevocableSink, type SessionAccess, tokenNoticeMs } from './presence-api.ts';
import type { SessionEnd } from './session-ends.ts';
import type { SessionLink, SessionMessage, SessionRequest } from './session-messages.ts';
import { type OutboxOwner, SessionOutbox } from './session-outbox.ts';
import type { Subscription, WatchEvent } from './subscription.ts';

export interface SessionTimings extends LivenessTimings {
  /** Silence of the user after which ACTIVE becomes IDLE; 0 = never. */
  readonly idleAfterMs: number;
  /** How long the hello may take; default 10,000. */
  readonly helloTimeoutMs: number;
  readonly maxFramesPerSecond: number;
}

/** What a session needs of its surroundings. */
export interface SessionHost {
  readonly options: SessionTimings;
  readonly presence: PresenceApi;
  readonly connections: Connections;
  /** Monotonic; for local waits only. */
  nowMs(): number;
  flushLater(session: Session): void;
  /** It says hello. @throws PresenceError RATE_LIMITED: there are as many sessions as there may be */
  greet(session: Session): void;
  /** Something may be due earlier than planned. */
  planAnew(session: Session): void;
  forget(session: Session): void;
  countEnd(end: SessionEnd): void;
  /** A failure that nobody can be told of, and that the next try heals. */
  later(error: unknown): void;
  bug(error: unknown): void;
}

export const maxDeviceBytes = 64;
/** Requests that may wait for the ones before them; then the client is not read from. */
const maxWaitingRequests = 32;

/**
 * One live connection of one user: requests in order, one at a time; events in batches, one per turn. It has no timer of
 * its own: the host asks it now and then what is due.
 */
export class Session implements RevocableSink, OutboxOwner {
  /** When the host asks next what is due; kept by the host. */
  plannedMs = Number.POSITIVE_INFINITY;
  /** It counts as one that said hello; kept by the host. */
  isGreeted = false;
  readonly #host: SessionHost;
  readonly #link: SessionLink;
  readonly #access: SessionAccess;
  readonly #outbox: SessionOutbox;
  readonly #openedMs: number;
  /** The hello was answered. */
  #isOpen = false;
  /** undefined: nobody's, the session of one who only looks on. */
  #held: HeldConnection | undefined;
  #subscription: Subscription | undefined;
  #isEnded = false;
  #saidGoodbye = false;

  #isBusy = false;
  #isPaused = false;
  #waiting: SessionRequest[] | undefined;
  #tokens: number;
  #tokensAtMs: number;

  /** Not decoded yet, because the caller sent too many bytes; nothing is read meanwhile. */
  #heldFrames: HeldFrame[] = noFrames;
  #holdTimer: NodeJS.Timeout | undefined;

  readonly #liveness: Liveness;
  #activeMs: number;
  #activity: Activity = 'ACTIVE';
  #isAutoIdle = false;
  /** Which expiry the client has been told of. */
  #toldExpiryOfMs = 0;

  constructor(host: SessionHost, link: SessionLink, access: SessionAccess) {
    const nowMs = host.nowMs();
    this.#host = host;
    this.#link = link;
    this.#access = access;
    this.#outbox = new SessionOutbox(this, link);
    this.#openedMs = nowMs;
    this.#liveness = new Liveness(nowMs, link.canPing);
    this.#activeMs = nowMs;
    this.#tokens = host.options.maxFramesPerSecond * burstSeconds;
    this.#tokensAtMs = nowMs;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** It said hello, and it is known whose session it is. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  get connection(): HeldConnection | undefined {
    return this.#held;
  }

  // ---- from the transport -----------------------------------------------------------------------------

  /** A request came. */
  receive(request: SessionRequest): void {
    if (this.#isEnded || !this.#mayPass()) return;
    this.#liveness.frameCame(this.#host.nowMs());
    if (this.#isOpen && this.#isBareAnswer(request)) {
      this.#noteActive(request);
    } else if (this.#isBusy) {
      this.#waiting ??= [];
      this.#waiting.push(request);
      if (this.#waiting.length >= maxWaitingRequests) this.#pause();
    } else {
      this.#isBusy = true;
      // Nothing more is read before it is known whose session it is.
      if (!this.#isOpen) this.#pause();
      this.#workThrough(request).catch((error: unknown) => this.#fail(0, error));
    }
  }

  /** Whether a frame of so many bytes may be decoded now. If not, `hold` keeps it until it may. */
  takeBytes(bytes: number): boolean {
    if (!this.#isOpen || this.#isEnded) return true;
    return this.#heldFrames.length === 0 && this.#access.takeBytes(bytes) === 0;
  }

  /**
   * Keeps a frame that came too early, and reads no more until it was let pass.
   *
   * @param read decodes it, and passes it on
   */
  hold(bytes: number, read: () => void): void {
    if (this.#heldFrames.length === 0) {
      this.#heldFrames = [];
      this.#holdTimer = setTimeout(() => this.#releaseFrames(), this.#access.takeBytes(0));
    }
    this.#heldFrames.push({ bytes, read });
    this.#pause();
  }

  #releaseFrames(): void {
    for (let next = this.#heldFrames[0]; next && !this.#isEnded; next = this.#heldFrames[0]) {
      const waitMs = this.#access.takeBytes(next.bytes);
      if (waitMs > 0) {
        this.#holdTimer = setTimeout(() => this.#releaseFrames(), waitMs);
        return;
      }
      this.#heldFrames.shift();
      next.read();
    }
    this.#heldFrames = noFrames;
    if (!this.#isEnded && !this.#outbox.isFull && (this.#waiting?.length ?? 0) < maxWaitingRequests)
      this.#resume();
  }

  /** A frame came that is no request; it counts as one. */
  receiveInvalid(requestId: number, error: PresenceError, end: SessionEnd | null): void {
    if (this.#isEnded || !this.#mayPass()) return;
    this.#liveness.frameCame(this.#host.nowMs());
    this.#outbox.tell({ kind: 'error', requestId, error });
    if (end) this.end(end);
  }

  /** A ping or a pong of the transport came. false: it is not to be answered. */
  receiveControl(): boolean {
    if (this.#isEnded || !this.#mayPass()) return false;
    this.#liveness.transportShowedLife(this.#host.nowMs());
    return true;
  }

  /** The link has room again. */
  drained(): void {
    if (this.#isEnded) return;
    this.#outbox.drained();
    this.#liveness.transportShowedLife(this.#host.nowMs());
    this.#host.planAnew(this);
    this.#outbox.flush();
    if (!this.#outbox.isFull && (this.#waiting?.length ?? 0) < maxWaitingRequests) this.#resume();
  }

  /** The link is gone, whoever closed it. */
  closed(): void {
    this.#isEnded = true;
    this.#host.forget(this);
    this.#release();
  }

  // ---- from the host ----------------------------------------------------------------------------------

  /**
   * Says why, closes the link; `closed` follows.
   *
   * @param retryAfterMs when to come back, where it is known
   */
  end(end: SessionEnd, retryAfterMs?: number): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#saidGoodbye ||= end === 'GOODBYE' || end === 'REPLACED';
    this.#host.countEnd(end);
    if (end !== 'GOODBYE') {
      this.#link.send({ kind: 'going-away', end, reconnectInMs: Math.ceil(retryAfterMs ?? 0) });
    }
    this.#link.close(end, retryAfterMs);
    this.#release();
  }

  #release(): void {
    clearTimeout(this.#holdTimer);
    this.#heldFrames = noFrames;
    this.#access.leave();
    this.#subscription?.close();
    this.#subscription = undefined;
    this.#waiting = undefined;
    this.#outbox.drop();
    const held = this.#held;
    this.#held = undefined;
    if (held) this.#host.connections.close(held, this.#saidGoodbye).catch((error) => this.#host.bug(error));
  }

  /** Tells the client to be elsewhere by then. */
  announceDrain(reconnectInMs: number): void {
    if (this.#isEnded) return;
    if (this.#isOpen) this.#outbox.tell({ kind: 'going-away', end: 'DRAINING', reconnectInMs });
    else this.end('DRAINING');
  }

  /** Does what is due. Answers when to ask again, by the host's clock. */
  check(nowMs: number): number {
    const { helloTimeoutMs } = this.#host.options;
    if (!this.#isOpen) {
      // A hello that came waits for the engine or a directory, which have deadlines of their own.
      if (this.#isBusy) return nowMs + helloTimeoutMs;
      if (nowMs >= this.#openedMs + helloTimeoutMs) this.end('HELLO_TIMEOUT');
      return this.#openedMs + helloTimeoutMs;
    }
    const tokenMs = this.#checkToken(nowMs);
    if (this.#isEnded) return nowMs;
    const lifeMs = this.#checkLife(nowMs);
    if (this.#isEnded) return nowMs;
    this.#idleIfSilent(nowMs);
    return Math.min(lifeMs, this.#idleAtMs(), tokenMs);
  }

  /** Pings, and ends the session of a client that is not there. Answers when to look again. */
  #checkLife(nowMs: number): number {
    const { pingIntervalMs, pongTimeoutMs } = this.#host.options;
    if (this.#outbox.isFull) {
      // Nothing gets through, and nothing is read: no ping can tell more.
      const giveUpMs = this.#outbox.fullSinceMs + pingIntervalMs + pongTimeoutMs;
      if (nowMs >= giveUpMs) this.end('TOO_SLOW');
      return giveUpMs;
    }
    const task = this.#liveness.check(nowMs, this.#host.options, !this.#isPaused);
    if (task === 'end') this.end('PING_TIMEOUT');
    else if (task === 'ping-frame') this.#outbox.tell(pingMessage);
    else if (task === 'transport-ping') this.#link.ping();
    return this.#liveness.nextMs(this.#host.options);
  }

  /** Tells of a token that is about to expire, ends the session of one that has. Answers when to look again. */
  #checkToken(nowMs: number): number {
    const { expiresAtMs, toleranceMs } = this.#access;
    if (expiresAtMs === Number.POSITIVE_INFINITY) return expiresAtMs;
    const expiresInMs = expiresAtMs - Date.now();
    if (expiresInMs + toleranceMs <= 0) {
      this.end('TOKEN_EXPIRED');
      return nowMs;
    }
    if (this.#toldExpiryOfMs !== expiresAtMs) {
      if (expiresInMs > tokenNoticeMs) return nowMs + expiresInMs - tokenNoticeMs;
      this.#toldExpiryOfMs = expiresAtMs;
      this.#outbox.tell({ kind: 'token-expiring', expiresInMs: Math.max(0, expiresInMs) });
    }
    return nowMs + expiresInMs + toleranceMs;
  }

  /** The turn is over: what was gathered leaves. */
  flush(): void {
    if (!this.#isEnded) this.#outbox.flush();
  }

  // ---- from the hub -----------------------------------------------------------------------------------

  send(event: WatchEvent): boolean {
    return this.#outbox.add(event);
  }

  revoked(error: PresenceError): void {
    if (this.#isEnded) return;
    this.#outbox.flush();
    this.#outbox.tell({ kind: 'error', requestId: 0, error });
  }

  // ---- requests ---------------------------------------------------------------------------------------

  async #workThrough(first: SessionRequest): Promise<void> {
    let request: SessionRequest | undefined = first;
    while (request !== undefined && !this.#isEnded) {
      // A client that does not read gets no more answers, however much it asks.
      while (this.#outbox.isFull && !this.#isEnded) await this.#outbox.progress();
      try {
        await this.#handle(request);
      } catch (error) {
        this.#fail(request.requestId, error);
        if (request.kind === 'hello' && !this.#isOpen)
          this.end(endOfHello(error), PresenceError.from(error).retryAfterMs);
      }
      request = this.#nextWaiting();
      // The link may hand over at once what it held back.
      if (!this.#waiting && !this.#outbox.isFull) this.#resume();
      request ??= this.#nextWaiting();
    }
    this.#isBusy = false;
  }

  #nextWaiting(): SessionRequest | undefined {
    const request = this.#waiting?.shift();
    if (this.#waiting?.length === 0) this.#waiting = undefined;
    return request;
  }

  async #handle(request: SessionRequest): Promise<void> {
    if (request.kind === 'hello') return this.#hello(request);
    if (!this.#isOpen) {
      this.#fail(request.requestId, PresenceError.invalidArgument('hello', 'must be the first frame'));
      this.end('BAD_FRAME');
      return;
    }
    if (request.kind === 'goodbye') {
      this.#saidGoodbye = true;
      this.end('GOODBYE');
      return;
    }
    this.#noteActive(request);
    const answer = await this.#answer(request);
    if (request.requestId !== 0 || answer.kind === 'states' || request.kind === 'watch')
      this.#outbox.tell(answer);
  }

  async #hello(request: Extract<SessionRequest, { kind: 'hello' }>): Promise<void> {
    if (this.#isOpen) {
      this.#fail(request.requestId, PresenceError.invalidArgument('hello', 'must be sent once'));
      return;
    }
    this.#host.greet(this);
    if (utf8Length(request.device) > maxDeviceBytes || hasForbiddenCharacter(request.device)) {
      throw PresenceError.invalidArgument(
        'device',
        `must have at most ${maxDeviceBytes} bytes and no control characters`,
      );
    }
    await this.#access.enter(request.token, request.userId, () => this.end('WITHDRAWN'));
    if (this.#isEnded) return;
    const connected = request.userId === '' ? undefined : await this.#connect(request);
    const opened = connected?.opened;
    if (this.#isEnded) return;
    this.#isOpen = true;
    this.#liveness.begin(this.#host.nowMs(), request.answersPings);
    this.#outbox.tell({
      kind: 'welcome',
      requestId: request.requestId,
      sessionId: this.#held?.id ?? '',
      resumeToken: connected?.resumeToken ?? '',
      isResumed: opened?.replaced ?? false,
      serverTimeMs: opened?.nowMs ?? 0,
      state: opened?.state ?? null,
      pingIntervalMs: request.answersPings ? this.#host.options.pingIntervalMs : 0,
    });
    this.#host.planAnew(this);
  }

  async #connect(request: Extract<SessionRequest, { kind: 'hello' }>) {
    checkUserId(request.userId, 'user_id');
    this.#activity = request.activity ?? 'ACTIVE';
    const { connections } = this.#host;
    const { held, opened, resumeToken } = await connections.open(
      request.userId,
      'session',
      request.device,
      this.#activity,
      request.resumeToken === '' ? null : request.resumeToken,
      (reason) => this.end(reason),
    );
    if (this.#isEnded) await connections.close(held, this.#saidGoodbye);
    else this.#held = held;
    return { opened, resumeToken };
  }

  async #answer(request: SessionRequest): Promise<SessionMessage> {
    const { presence } = this.#access;
    const { requestId } = request;
    switch (request.kind) {
      case 'authenticate':
        await this.#access.renew(request.token);
        this.#host.planAnew(this);
        return { kind: 'ack', requestId, state: null };
      case 'set-status': {
        const { status, activity } = request;
        if (status === null && activity === null) {
          throw PresenceError.invalidArgument('set_status', 'must have a status or an activity');
        }
        if (status === 'OFFLINE' && activity !== null) {
          throw PresenceError.invalidArgument('activity', 'is only for status ONLINE');
        }
        let state: UserState | null = null;
        if (activity !== null) {
          this.#access.countUpdate();
          state = await this.#setActivity(activity);
        }
        if (status !== null) state = await presence.setStatus(this.#user.userId, status, null);
        return { kind: 'ack', requestId, state };
      }
      case 'set-custom-status':
        return {
          kind: 'ack',
          requestId,
          state: await presence.setCustomStatus(this.#user.userId, request.request),
        };
      case 'watch':
        await this.#watch(request);
        return { kind: 'ack', requestId, state: null };
      case 'unwatch':
        this.#subscription?.unwatch(request.userIds);
        return { kind: 'ack', requestId, state: null };
      case 'query':
        return { kind: 'states', requestId, states: await presence.getStatuses(request.userIds) };
      case 'heartbeat':
        if (request.activity !== null && request.activity !== this.#activity) {
          this.#access.countUpdate();
          await this.#setActivity(request.activity);
        }
        return { kind: 'ack', requestId, state: null };
      default:
        throw new Error(`no answer to ${request.kind}`);
    }
  }

  async #watch({ userIds, knownVersions }: Extract<SessionRequest, { kind: 'watch' }>): Promise<void> {
    if (knownVersions.length !== 0 && knownVersions.length !== userIds.length) {
      throw PresenceError.invalidArgument('known_versions', 'must be empty or as long as user_ids');
    }
    this.#subscription ??= this.#access.presence.subscribe(this);
    const known = new Map(knownVersions.map((version, index) => [userIds[index] as string, version]));
    await this.#access.presence.addWatched(this.#subscription, userIds, known);
    // The acknowledgement means that the snapshot was sent.
    while (!this.#isEnded && (this.#outbox.hasEvents || this.#subscription?.isBehind)) {
      await this.#outbox.progress();
    }
  }

  /** A heartbeat that asks for no answer and changes nothing, as it answers a ping: hearing it is all there is to do. */
  #isBareAnswer(request: SessionRequest): boolean {
    if (request.kind !== 'heartbeat' || request.requestId !== 0) return false;
    return request.activity === null || (request.activity === this.#activity && !this.#isBusy);
  }

  /** One second's frames, and a burst. */
  #mayPass(): boolean {
    const { maxFramesPerSecond } = this.#host.options;
    const nowMs = this.#host.nowMs();
    const refill = ((nowMs - this.#tokensAtMs) / 1000) * maxFramesPerSecond;
    this.#tokens = Math.min(maxFramesPerSecond * burstSeconds, this.#tokens + refill) - 1;
    this.#tokensAtMs = nowMs;
    if (this.#tokens >= 0) return true;
    this.end('RATE_LIMITED', frameRetryMs);
    return false;
  }

  #fail(requestId: number, error: unknown): void {
    const known = PresenceError.from(error);
    if (known.code === 'INTERNAL') this.#host.bug(error);
    this.#outbox.tell({ kind: 'error', requestId, error: known });
  }

  // ---- activity ---------------------------------------------------------------------------------------

  /** @throws PresenceError INVALID_ARGUMENT: who only looks on has no status */
  get #user(): HeldConnection {
    if (!this.#held)
      throw PresenceError.invalidArgument('user_id', 'of the hello was empty: it has no status');
    return this.#held;
  }

  /** Remembers when the user did something here. */
  #noteActive(request: SessionRequest): void {
    if (!saysSomething(request)) return;
    this.#activeMs = this.#host.nowMs();
    if (!this.#isAutoIdle) return;
    this.#isAutoIdle = false;
    if (request.kind === 'heartbeat' || (request.kind === 'set-status' && request.activity !== null)) return;
    this.#setActivity('ACTIVE').catch((error) => this.#host.later(error));
  }

  async #setActivity(activity: Activity): Promise<UserState> {
    const user = this.#user;
    this.#activity = activity;
    if (activity === 'ACTIVE') this.#host.planAnew(this);
    return this.#host.connections.setActivity(user, activity);
  }

  /** Only ACTIVE gives way: what the user said by hand stays. */
  #idleAtMs(): number {
    const { idleAfterMs } = this.#host.options;
    const canIdle = idleAfterMs > 0 && this.#held !== undefined && this.#activity === 'ACTIVE';
    return canIdle ? this.#activeMs + idleAfterMs : Number.POSITIVE_INFINITY;
  }

  #idleIfSilent(nowMs: number): void {
    if (nowMs < this.#idleAtMs()) return;
    this.#isAutoIdle = true;
    this.#setActivity('IDLE').catch((error) => this.#host.later(error));
  }

  // ---- for the outbox ----------------------------------------------------------------------------------------

  nowMs(): number {
    return this.#host.nowMs();
  }

  flushLater(): void {
    this.#host.flushLater(this);
  }

  linkFull(): void {
    this.#pause();
  }

  roomForEvents(): void {
    this.#subscription?.drained();
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#link.pause();
  }

  #resume(): void {
    if (!this.#isPaused || this.#heldFrames.length > 0) return;
    this.#isPaused = false;
    this.#link.resume();
  }
}

interface HeldFrame {
  readonly bytes: number;
  readonly read: () => void;
}

/** Of all sessions that hold none: never changed. */
const noFrames: HeldFrame[] = [];
const pingMessage: SessionMessage = { kind: 'ping' };
/** A client that was away for a while may say at once what gathered. */
const burstSeconds = 4;
/** When a client that sent too many frames may come back, ms. */
const frameRetryMs = 1000;

/** Whether a frame tells that somebody is at the device. */
function saysSomething(request: SessionRequest): boolean {
  if (request.kind === 'heartbeat') return request.activity !== null;
  return request.kind !== 'authenticate';
}

function endOfHello(error: unknown): SessionEnd {
  const { code } = PresenceError.from(error);
  if (code === 'INVALID_ARGUMENT') return 'BAD_HELLO';
  if (code === 'UNAUTHORIZED') return 'UNAUTHORIZED';
  if (code === 'USER_NOT_FOUND') return 'USER_NOT_FOUND';
  if (code === 'RATE_LIMITED') return 'LIMITED';
  return code === 'REDIS_ERROR' ? 'ENGINE_AWAY' : 'INTERNAL';
}
