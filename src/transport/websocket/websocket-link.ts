import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import type { Session } from '../../presence/session.ts';
import { type SessionEnd, sessionEnds } from '../../presence/session-ends.ts';
import type { SessionLink, SessionMessage } from '../../presence/session-messages.ts';
import type { FrameFormat } from '../session/formats.ts';

/** Bytes that a socket may hold back before it counts as full. */
const fullBytes = 65_536;

/** A session's way over a WebSocket. */
export class WebSocketLink implements SessionLink {
  readonly canPing = true;
  session: Session | undefined;
  readonly #webSocket: WebSocket;
  readonly #socket: Socket;
  readonly #format: FrameFormat;
  #awaitsDrain = false;

  constructor(webSocket: WebSocket, socket: Socket, format: FrameFormat) {
    this.#webSocket = webSocket;
    this.#socket = socket;
    this.#format = format;
  }

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
    // The client's close frame must be read; its other frames mean nothing any more.
    this.#webSocket.resume();
    this.#webSocket.close(closeCode, reason + wait);
  }

  ping(): void {
    this.#webSocket.ping();
  }

  pause(): void {
    this.#webSocket.pause();
  }

  resume(): void {
    this.#webSocket.resume();
  }
}
