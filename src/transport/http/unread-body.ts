import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** A body up to this size is read to its end, so that its connection can be used again. */
const maxDrainedBytes = 64 * 1024;
/** How long a closed connection is still read, so that the client can take the answer before a reset discards it. */
const lingerMs = 2000;

/**
 * An answer that may be given before the body was read. What is left of the body stands before the next request, so the
 * connection ends with the answer, unless the rest is known to be short.
 */
export class HttpResponse extends ServerResponse {
  override writeHead(...parameters: unknown[]): this {
    if (mustClose(this.req)) {
      this.setHeader('connection', 'close');
      // Node closes with this after the last answer of a connection.
      // A request that was given up has no socket any more.
      if (this.socket) this.socket.destroySoon = closeLingering;
    }
    return super.writeHead(...(parameters as Parameters<ServerResponse['writeHead']>));
  }
}

function mustClose(request: IncomingMessage): boolean {
  // Given up in the middle: what comes of it is neither read nor skipped by anyone.
  if (request.readableDidRead && !request.readableEnded) return true;
  if (request.complete) return false;
  const { 'content-length': length = '0', 'transfer-encoding': coding } = request.headers;
  return coding !== undefined || Number(length) > maxDrainedBytes;
}

/** Sends the end, and reads on for a while without looking (RFC 9112, section 9.6). */
export function closeLingering(this: Socket): void {
  if (this.destroyed) return;
  const timer = setTimeout(() => this.destroy(), lingerMs);
  this.once('close', () => clearTimeout(timer));
  // Nothing that follows is a request any more.
  this.removeAllListeners('data');
  this.on('data', () => {});
  this.resume();
  this.end();
}
