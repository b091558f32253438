import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Requests of one connection that wait for their answer: more were sent without reading any. */
const maxPipelined = 100;
/** How long an event stream that somebody does not read is kept: its own bound is shorter. */
const streamStallMs = 60_000;
/** Answers that go on for as long as somebody reads them. */
const streamPaths = /^\/(?:v1\/events|presence\.v1\.PresenceService\/SubscribeStatusUpdates)(?:\?|$)/;

/** What one connection makes us hold for it. */
interface Held {
  unanswered: number;
  streams: number;
  /** Bytes that the client has taken, and since when no more. */
  takenBytes: number;
  stalledSinceMs: number;
}

/**
 * Bounds what a client makes the server hold that sends requests and does not read: how many wait for their answer on one
 * connection, and how long an answer waits.
 */
export class SocketGuard {
  readonly #sockets = new Map<Socket, Held>();
  readonly #stallMs: number;
  #timer: NodeJS.Timeout | undefined;

  /** @param stallMs how long an answer may wait for a client that takes nothing */
  constructor(server: Server, stallMs: number) {
    this.#stallMs = stallMs;
    const secure = 'setSecureContext' in server;
    server.on(secure ? 'secureConnection' : 'connection', (socket: Socket) => this.#watch(socket));
    // Before the framework: what it makes of a request is most of what a request costs.
    const handlers = server.listeners('request') as ((
      request: IncomingMessage,
      response: ServerResponse,
    ) => void)[];
    server.removeAllListeners('request');
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      if (this.#mayPass(request, response))
        for (const handler of handlers) handler.call(server, request, response);
    });
    // A session has bounds of its own.
    server.on('upgrade', ({ socket }: IncomingMessage) => this.#sockets.delete(socket));
  }

  start(): void {
    this.#timer = setInterval(() => this.check(performance.now()), Math.min(1000, this.#stallMs / 4));
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Ends the connections whose clients have taken nothing for too long. */
  check(nowMs: number): void {
    for (const [socket, held] of this.#sockets) {
      const takenBytes = socket.bytesWritten - socket.writableLength;
      if (socket.writableLength === 0 || takenBytes !== held.takenBytes) {
        held.takenBytes = takenBytes;
        held.stalledSinceMs = nowMs;
      } else if (nowMs - held.stalledSinceMs >= (held.streams > 0 ? streamStallMs : this.#stallMs)) {
        socket.destroy();
      }
    }
  }

  #watch(socket: Socket): void {
    this.#sockets.set(socket, {
      unanswered: 0,
      streams: 0,
      takenBytes: 0,
      stalledSinceMs: performance.now(),
    });
    socket.once('close', () => this.#sockets.delete(socket));
  }

  #mayPass({ socket, url = '' }: IncomingMessage, response: ServerResponse): boolean {
    const held = this.#sockets.get(socket);
    // The connection has ended; what it sent before is still being parsed.
    if (!held || socket.destroyed) return false;
    if (held.unanswered >= maxPipelined) {
      socket.destroy();
      return false;
    }
    const isStream = streamPaths.test(url);
    held.unanswered++;
    if (isStream) held.streams++;
    response.once('close', () => {
      held.unanswered--;
      if (isStream) held.streams--;
    });
    return true;
  }
}
