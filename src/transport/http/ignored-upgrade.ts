import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';

/** What Node puts on a socket that HTTP is read from, as far as it is used here. */
interface Parser {
  /** The piece that is being parsed, copied. */
  getCurrentBuffer?(): Buffer | undefined;
  /** How much of a piece was parsed, if all of it is well. */
  execute(piece: Buffer): number | Error;
  readonly incoming?: { readonly upgrade?: boolean } | null;
  /** `kOnExecute`: told how much was parsed of a piece that was read past JavaScript. */
  [onExecute]: ((parsed: number | Error) => void) | null;
}
type ParsedSocket = Socket & { parser?: Parser | null };

const onExecute = 5;
const watched = new WeakSet<Socket>();

/**
 * Node's parser stops behind a request with an Upgrade, because another protocol may begin there, and forgets what came
 * in the same piece even if none does. Requests that a client sent along are put back, to be read next. The piece in
 * which the request ends may be this one or a later one.
 *
 * @param request whose Upgrade is ignored; its head was just parsed
 */
export function keepWhatFollows(request: IncomingMessage): void {
  const socket = request.socket as ParsedSocket;
  const { parser } = socket;
  if (!parser || watched.has(socket)) return;
  watched.add(socket);
  keepOfThisPiece(socket, parser);
  keepOfLaterPieces(socket, parser);
}

function keepOfThisPiece(socket: ParsedSocket, parser: Parser): void {
  const told = parser[onExecute];
  const piece = parser.getCurrentBuffer?.();
  if (!piece || !told) return;
  parser[onExecute] = (parsed) => {
    if (socket.parser === parser) parser[onExecute] = told;
    told(parsed);
    putBack(socket, parser, piece, parsed);
  };
}

/** From here on the parser is given what the stream has, rather than reading the socket itself. */
function keepOfLaterPieces(socket: ParsedSocket, parser: Parser): void {
  socket.on('data', ignore);
  const execute = parser.execute;
  const keeping = (piece: Buffer) => {
    const parsed = execute.call(parser, piece);
    putBack(socket, parser, piece, parsed);
    return parsed;
  };
  parser.execute = keeping;
  // Node uses its parsers again, for other sockets.
  socket.once('close', () => {
    if (parser.execute === keeping) parser.execute = execute;
  });
}

function putBack(socket: ParsedSocket, parser: Parser, piece: Buffer, parsed: number | Error): void {
  if (typeof parsed !== 'number' || parsed >= piece.length) return;
  if (socket.parser !== parser || parser.incoming?.upgrade) return;
  const rest = Buffer.from(piece.subarray(parsed));
  socket.pause();
  // It is still at work on this piece, and must not be called from within.
  setImmediate(() => {
    socket.unshift(rest);
    socket.resume();
  });
}

function ignore(): void {}
