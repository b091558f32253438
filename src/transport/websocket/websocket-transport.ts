import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type RawData, WebSocket, WebSocketServer } from 'ws';
import { PresenceError } from '../../core/errors.ts';
import type { Session } from '../../presence/session.ts';
import type { Sessions } from '../../presence/sessions.ts';
import type { Caller, Gate } from '../../security/gate.ts';
import { busy } from '../../security/limits.ts';
import { callerOfRequest } from '../http/caller.ts';
import { answerSocket } from '../http/http-errors.ts';
import type { PageRules } from '../http/origins.ts';
import type { HandshakeRefusal, WebSocketDoor } from '../http/web-socket-route.ts';
import { type ListBounds, maxHelloBytes, maxItems } from '../message-shape.ts';
import { BadFrame, receiveFrame } from '../session/bad-frame.ts';
import { type FrameFormat, JsonFormat, ProtoFormat } from '../session/formats.ts';
import type { WelcomeFacts } from '../session/frames.ts';
import { malformedHandshake } from './handshake.ts';
import { WebSocketLink } from './websocket-link.ts';

export interface WebSocketTransportOptions extends WelcomeFacts, ListBounds {
  readonly sessions: Sessions;
  readonly gate: Gate;
  readonly pages: PageRules;
}

export const webSocketPath = '/v1/connect';
export const jsonSubprotocol = 'presence.v1.json';
export const protoSubprotocol = 'presence.v1.proto';
/** A page cannot set headers; it offers its token as a subprotocol with this before it, which is never chosen. */
export const tokenSubprotocolPrefix = 'presence.bearer.';

/** A frame over the limit is still taken up to so many times of it, to be answered; a larger one ends the session. */
const hardLimitFactor = 4;
/** Pieces that a frame may come in: browsers and libraries send it in one. */
const maxFragments = 64;
/** Pieces of unfinished frames kept from the socket; they are 64 KiB each, or a client means ill. */
const maxBufferedChunks = 1024;
/** How long a client may take to answer a close frame before its socket is destroyed. */
const closeTimeoutMs = 2000;

/** A socket and the session on it; a field costs less than a closure for each listener. */
class SessionSocket extends WebSocket {
  session: Session | undefined;
  format: FrameFormat | undefined;
  maxFrameBytes = 0;
  link: WebSocketLink | undefined;
}

/** The WebSocket face of the server: sessions on `/v1/connect`, as JSON or protobuf by subprotocol. */
export class WebSocketTransport implements WebSocketDoor {
  readonly path = webSocketPath;
  readonly #options: WebSocketTransportOptions;
  readonly #formats: ReadonlyMap<string, FrameFormat>;
  readonly #sockets = new Set<SessionSocket>();
  readonly #server: WebSocketServer;

  constructor(options: WebSocketTransportOptions) {
    this.#options = options;
    this.#formats = new Map<string, FrameFormat>([
      [jsonSubprotocol, new JsonFormat(options, maxItems(options))],
      [protoSubprotocol, new ProtoFormat(options, maxItems(options))],
    ]);
    const limits = {
      maxPayload: hardLimitFactor * options.maxFrameBytes,
      maxFragments,
      maxBufferedChunks,
      closeTimeout: closeTimeoutMs,
    };
    this.#server = new WebSocketServer({
      ...limits,
      noServer: true,
      WebSocket: SessionSocket,
      clientTracking: false,
      // Answered here, so that a flood of pings is a flood of frames.
      autoPong: false,
      perMessageDeflate: false,
      handleProtocols: (offered) => this.#choose(offered) ?? false,
    });
    this.#server.on('wsClientError', (error, socket) =>
      answerSocket(
        socket as Socket,
        '400 Bad Request',
        PresenceError.invalidArgument('the handshake', `is not valid: ${error.message}`),
      ),
    );
  }

  /** Takes the upgrades of a server, which has asked `refusal` before. */
  attach(server: Server): void {
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      socket.on('error', ignoreError);
      // It may stand in a list of which nothing else is offered here.
      request.headers.upgrade = 'websocket';
      this.#server.handleUpgrade(request, socket, head, (webSocket) =>
        this.#accept(webSocket as SessionSocket, socket as Socket, callerOf(request)),
      );
    });
  }

  /** Closes what is left at once. */
  stop(): void {
    for (const socket of this.#sockets) socket.terminate();
  }

  /** Sizes of everything that could leak, for tests and metrics. */
  stats(): { connections: number; queuedBytes: number } {
    let queuedBytes = 0;
    for (const socket of this.#sockets) queuedBytes += socket.bufferedAmount;
    return { connections: this.#sockets.size, queuedBytes };
  }

  refusal(request: IncomingMessage): HandshakeRefusal | null {
    const malformed = malformedHandshake(request);
    if (malformed) return malformed;
    const { headers } = request;
    const { pages } = this.#options;
    const refused = pages.refusalOfHost(request) ?? pages.refusalOfOrigin(request);
    if (refused) return { status: 403, error: refused };
    const offered = headers['sec-websocket-protocol']?.split(',').map((name) => name.trim()) ?? [];
    if (this.#choose(offered) === undefined) {
      const problem = `must offer ${jsonSubprotocol} or ${protoSubprotocol}`;
      return { status: 400, error: PresenceError.invalidArgument('Sec-WebSocket-Protocol', problem) };
    }
    const { sessions, gate } = this.#options;
    const error = sessions.refusal() ?? (gate.limits.mayCome() ? null : busy());
    return error && { status: 503, error };
  }

  #choose(offered: Iterable<string>): string | undefined {
    for (const name of offered) if (this.#formats.has(name)) return name;
    return undefined;
  }

  #accept(webSocket: SessionSocket, socket: Socket, caller: Caller): void {
    const format = this.#formats.get(webSocket.protocol) as FrameFormat;
    const link = new WebSocketLink(webSocket, socket, format, (data, isBinary) =>
      takeFrame(webSocket, data, isBinary),
    );
    webSocket.format = format;
    webSocket.maxFrameBytes = this.#options.maxFrameBytes;
    webSocket.link = link;
    const { sessions, gate } = this.#options;
    const origin = { address: gate.networkOf(caller), connection: `${caller.address}:${caller.port}` };
    webSocket.session = sessions.open(link, gate.session(caller), origin);
    link.session = webSocket.session;
    this.#sockets.add(webSocket);
    webSocket.on('message', onMessage);
    webSocket.on('ping', onPing);
    webSocket.on('pong', onPong);
    webSocket.on('error', ignoreError);
    webSocket.on('close', this.#onClose);
  }

  readonly #onClose = ((transport: WebSocketTransport) =>
    function (this: WebSocket) {
      const socket = this as SessionSocket;
      transport.#sockets.delete(socket);
      socket.session?.closed();
    })(this);
}

function callerOf(request: IncomingMessage): Caller {
  const { headers } = request;
  if (headers.authorization !== undefined) return callerOfRequest(request, headers.authorization);
  const offered = headers['sec-websocket-protocol']?.split(',').map((name) => name.trim()) ?? [];
  const named = offered.find((name) => name.startsWith(tokenSubprotocolPrefix));
  return callerOfRequest(request, named && `Bearer ${named.slice(tokenSubprotocolPrefix.length)}`);
}

function onMessage(this: WebSocket, data: RawData, isBinary: boolean): void {
  const { session, link } = this as SessionSocket;
  if (!session || !link || session.isEnded) return;
  link.began();
  if (!link.hold(data as Buffer, isBinary)) takeFrame(this as SessionSocket, data as Buffer, isBinary);
}

/** Reads a frame now, or when its caller may send so much. */
function takeFrame(socket: SessionSocket, bytes: Buffer, isBinary: boolean): void {
  const session = socket.session as Session;
  if (session.takeBytes(bytes.length)) readFrame(socket, bytes, isBinary);
  else session.hold(bytes.length, () => readFrame(socket, bytes, isBinary));
}

function readFrame(
  { session, format, maxFrameBytes }: SessionSocket,
  bytes: Buffer,
  isBinary: boolean,
): void {
  // Nothing is decoded that comes after the end.
  if (!session || !format || session.isEnded) return;
  if (!session.isOpen && bytes.length > maxHelloBytes) {
    const error = PresenceError.invalidArgument('hello', `must have at most ${maxHelloBytes} bytes`);
    session.receiveInvalid(0, error, 'FRAME_TOO_LARGE');
  } else if (bytes.length > maxFrameBytes) {
    const error = PresenceError.invalidArgument('the frame', `must have at most ${maxFrameBytes} bytes`);
    const requestId = format.requestId(bytes);
    session.receiveInvalid(requestId, error, requestId === 0 ? 'FRAME_TOO_LARGE' : null);
  } else if (isBinary === format.isBinary) {
    receiveFrame(session, format.decode(bytes));
  } else {
    const error = PresenceError.invalidArgument(
      'the frame',
      format.isBinary ? 'must be binary' : 'must be text',
    );
    receiveFrame(session, new BadFrame(format.requestId(bytes), error));
  }
}

/** A ping or a pong is a sign of life, and counts as a frame: floods of them are floods. */
function onPing(this: WebSocket, data: Buffer): void {
  if ((this as SessionSocket).session?.receiveControl()) this.pong(data);
}

function onPong(this: WebSocket): void {
  (this as SessionSocket).session?.receiveControl();
}

/** 'close' follows, and is where things are cleaned up. */
function ignoreError(): void {}
