export interface LivenessTimings {
  /** How often a client is pinged. */
  readonly pingIntervalMs: number;
  /** How long its answer may take. */
  readonly pongTimeoutMs: number;
}

/** What is due: nothing, a ping by the transport's means, a ping frame, or the end of a client that did not answer. */
export type LivenessTask = 'nothing' | 'transport-ping' | 'ping-frame' | 'end';

/**
 * Whether the client of a session is there. What a proxy or a browser answers for a frozen client proves nothing, so a
 * client that said it answers ping frames is judged by its own frames alone.
 */
export class Liveness {
  readonly #canPing: boolean;
  #answersPings = false;
  #heardMs: number;
  /** When the last ping frame was sent. */
  #pingFrameMs: number;
  /** When the first ping was sent that is not answered yet; 0: none, or none that must be. */
  #pingedMs = 0;

  /** @param canPing whether the transport's own pings reach the client */
  constructor(nowMs: number, canPing: boolean) {
    this.#canPing = canPing;
    this.#heardMs = nowMs;
    this.#pingFrameMs = nowMs;
  }

  /** The hello was answered. */
  begin(nowMs: number, answersPings: boolean): void {
    this.#answersPings = answersPings;
    this.#pingFrameMs = nowMs;
  }

  /** The client sent a frame. */
  frameCame(nowMs: number): void {
    this.#heardMs = nowMs;
    this.#pingedMs = 0;
  }

  /** Something came that the client itself may not know of: a ping or a pong of the transport, room in the link. */
  transportShowedLife(nowMs: number): void {
    if (!this.#answersPings) this.frameCame(nowMs);
  }

  /** @param isRead whether the client is read from; where it is not, it cannot be heard */
  check(nowMs: number, timings: LivenessTimings, isRead: boolean): LivenessTask {
    if (!isRead) this.#pingedMs = 0;
    if (this.#pingedMs !== 0 && nowMs >= this.#pingedMs + timings.pongTimeoutMs) return 'end';
    if (nowMs < this.#pingAtMs(timings)) return 'nothing';
    const mustAnswer = this.#answersPings || !this.#usesFrames;
    if (mustAnswer && this.#pingedMs === 0) this.#pingedMs = nowMs;
    if (!this.#usesFrames) return 'transport-ping';
    this.#pingFrameMs = nowMs;
    return 'ping-frame';
  }

  /** When to check next. */
  nextMs(timings: LivenessTimings): number {
    const pingAtMs = this.#pingAtMs(timings);
    return this.#pingedMs === 0 ? pingAtMs : Math.min(pingAtMs, this.#pingedMs + timings.pongTimeoutMs);
  }

  /** A client that does not answer them gets ping frames where its stream would be quiet otherwise. */
  get #usesFrames(): boolean {
    return this.#answersPings || !this.#canPing;
  }

  /** Ping frames keep a rhythm, so that neither direction is ever quiet; the transport's pings are for silent clients. */
  #pingAtMs({ pingIntervalMs }: LivenessTimings): number {
    if (this.#usesFrames) return this.#pingFrameMs + pingIntervalMs;
    return this.#pingedMs === 0 ? this.#heardMs + pingIntervalMs : Number.POSITIVE_INFINITY;
  }
}
