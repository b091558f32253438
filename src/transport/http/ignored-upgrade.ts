import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

/** What Node puts on a socket that HTTP is read from, as far as it is used here. */
type ParsedSocket = Socket & { parser?: { getCurrentBuffer?(): Buffer | undefined } | null };

/**
 * Node's parser stops behind a request with an Upgrade, because another protocol may begin there, and forgets what came
 * in the same piece even if none does. Requests that a client sent along are put back, to be read next.
 *
 * @param request whose Upgrade is ignored; its head was just parsed
 */
export function keepWhatFollows(request: IncomingMessage): void {
  const socket = request.socket as ParsedSocket;
  const piece = socket.parser?.getCurrentBuffer?.();
  if (!piece) return;
  const end = endOfRequest(piece, request);
  if (end === undefined || end >= piece.length) return;
  const rest = piece.subarray(end);
  // From here on the parser is given what the stream has, rather than reading the socket itself.
  socket.on('data', ignore);
  socket.pause();
  // It is still at work on this piece, and must not be called from within.
  setImmediate(() => {
    socket.unshift(rest);
    socket.resume();
  });
}

/** Of the first request of a piece with an Upgrade, behind which the parser stopped; undefined: in another piece. */
function endOfRequest(piece: Buffer, { method, url }: IncomingMessage): number | undefined {
  for (let start = 0; ; ) {
    const headEnd = piece.indexOf('\r\n\r\n', start);
    if (headEnd < 0) return undefined;
    const head = piece.toString('latin1', start, headEnd + 2);
    if (!requestLine.test(head)) return undefined;
    const bodyStart = headEnd + 4;
    const end = /\r\ntransfer-encoding:/i.test(head)
      ? endOfChunks(piece, bodyStart)
      : bodyStart + Number(/\r\ncontent-length:[ \t]*(\d+)/i.exec(head)?.[1] ?? 0);
    if (end === undefined) return undefined;
    if (/\r\nupgrade:/i.test(head) && /\r\nconnection:[^\r]*upgrade/i.test(head)) {
      return head.startsWith(`${method} ${url} HTTP/`) ? end : undefined;
    }
    start = end;
  }
}

const requestLine = /^[A-Z-]+ \S+ HTTP\/1\.[01]\r\n/;

/** RFC 9112, section 7.1. */
function endOfChunks(piece: Buffer, start: number): number | undefined {
  for (let at = start; ; ) {
    const lineEnd = piece.indexOf('\r\n', at);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(piece.toString('latin1', at, lineEnd), 16);
    at = lineEnd + 2;
    if (size > 0) {
      at += size + 2;
      continue;
    }
    // Trailers, up to an empty line.
    if (piece.toString('latin1', at, at + 2) === '\r\n') return at + 2;
    const end = piece.indexOf('\r\n\r\n', at);
    return end < 0 ? undefined : end + 4;
  }
}

function ignore(): void {}
