import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import type { Session } from '../../presence/session.ts';
import { type SessionEnd, sessionEnds } from '../../presence/session-ends.ts';
import type { SessionLink, SessionMessage } from '../../presence/session-messages.ts';
import { maxHelloBytes } from '../message-shape.ts';
import type { FrameFormat } from '../session/formats.ts';

/** Bytes that a socket may hold back before it counts as full. */
const fullBytes = 65_536;

/** Frames that may come after the hello before it is known whose session it is. */
const maxHeldFrames = 32;
const heldRetryMs = 1000;
/** What was under way when the session ended, before the client's close frame. */
const maxBytesAfterEnd = 1024 * 1024;

interface HeldFrame {
  readonly data: Buffer;
  readonly isBinary: boolean;
}

/** A session's way over a WebSocket. */
export class WebSocketLink implements SessionLink {
  readonly canPing = true;
  session: Session | undefined;
  readonly #webSocket: WebSocket;
  readonly #socket: Socket;
  readonly #format: FrameFormat;
  #awaitsDrain = false;
  /** Frames that had come when reading was paused before it was known whose session it is: not decoded yet. */
  #held: HeldFrame[] | undefined;
  #isPaused = false;
  readonly #deliver: (data: Buffer, isBinary: boolean) => void;
  /** Bytes that came before the first frame, or after the end. */
  #unasked = 0;

  /** @param deliver where frames go that were held */
  constructor(
    webSocket: WebSocket,
    socket: Socket,
    format: FrameFormat,
    deliver: (data: Buffer, isBinary: boolean) => void,
  ) {
    this.#deliver = deliver;
    this.#webSocket = webSocket;
    this.#socket = socket;
    this.#format = format;
    // Before the library's own listener.
    socket.prependListener('data', this.#countBeforeHello);
  }

  /** The first frame has come. */
  began(): void {
    this.#socket.off('data', this.#countBeforeHello);
  }

  /** Keeps a frame as it is while reading is paused before the welcome. false: it is to be read now. */
  hold(data: Buffer, isBinary: boolean): boolean {
    if (!this.#isPaused || this.session?.isOpen) return false;
    this.#held ??= [];
    this.#held.push({ data, isBinary });
    if (this.#held.length > maxHeldFrames) this.session?.end('RATE_LIMITED', heldRetryMs);
    return true;
  }

  readonly #countBeforeHello = (chunk: Buffer): void => {
    if (this.#unasked > maxHelloBytes) this.session?.end('FRAME_TOO_LARGE');
    else this.#unasked += chunk.length;
  };

  readonly #countAfterEnd = (chunk: Buffer): void => {
    this.#unasked += chunk.length;
    if (this.#unasked > maxBytesAfterEnd) this.#socket.destroy();
  };

  send(message: SessionMessage): boolean {
    const webSocket = this.#webSocket;
    if (webSocket.readyState !== webSocket.OPEN) return true;
    webSocket.send(this.#format.encode(message), { binary: this.#format.isBinary });
    if (this.#socket.writableLength <= fullBytes) return true;
    if (!this.#awaitsDrain) {
      this.#awaitsDrain = true;
      this.#socket.once('drain', () => {
        this.#awaitsDrain = false;
        this.session?.drained();
      });
    }
    return false;
  }

  close(end: SessionEnd, retryAfterMs?: number): void {
    const { closeCode, reason } = sessionEnds[end];
    const wait = retryAfterMs === undefined ? '' : `; retry after ${Math.ceil(retryAfterMs)} ms`;
    this.#held = undefined;
    this.#unasked = 0;
    this.#socket.off('data', this.#countBeforeHello);
    this.#socket.prependListener('data', this.#countAfterEnd);
    // The client's close frame must be read; its other frames mean nothing any more.
    this.#webSocket.resume();
    this.#webSocket.close(closeCode, reason + wait);
  }

  ping(): void {
    this.#webSocket.ping();
  }

  pause(): void {
    this.#isPaused = true;
    this.#webSocket.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#webSocket.resume();
    const held = this.#held;
    this.#held = undefined;
    for (const { data, isBinary } of held ?? []) this.#deliver(data, isBinary);
  }
}
