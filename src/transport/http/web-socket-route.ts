import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { PresenceError } from '../../core/errors.ts';
import { answerError } from './http-errors.ts';
import { keepWhatFollows } from './ignored-upgrade.ts';

/** Why a handshake is refused. */
export interface HandshakeRefusal {
  readonly status: number;
  readonly error: PresenceError;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Whoever takes WebSockets. */
export interface WebSocketDoor {
  readonly path: string;
  /** null: the handshake is good, and is taken. Asked once for each. */
  refusal(request: IncomingMessage): HandshakeRefusal | null;
}

/** The route of WebSocket sessions for requests that become none, and the choice of those that do. */
export class WebSocketRoute {
  readonly #door: WebSocketDoor;
  readonly #refusals = new WeakMap<IncomingMessage, HandshakeRefusal>();

  constructor(door: WebSocketDoor) {
    this.#door = door;
  }

  /** Any other Upgrade is ignored, and the request served (RFC 9110, section 7.8). */
  readonly shouldUpgrade = (request: IncomingMessage): boolean => {
    if (this.#isWelcome(request)) return true;
    keepWhatFollows(request);
    return false;
  };

  #isWelcome(request: IncomingMessage): boolean {
    if (request.method !== 'GET' || request.url?.split('?', 1)[0] !== this.#door.path) return false;
    if (!asksForWebSocket(request)) return false;
    const refusal = this.#door.refusal(request);
    if (refusal) this.#refusals.set(request, refusal);
    return refusal === null;
  }

  register(app: FastifyInstance): void {
    app.get(this.#door.path, { schema: { hide: true } }, (request, reply) => {
      const { status, error, headers } = this.#refusals.get(request.raw) ?? noHandshake(request.raw);
      reply.headers({ ...headers });
      // A client that was refused has no other request for this connection.
      if (status !== 426) reply.header('connection', 'close');
      else if (!reply.raw.shouldKeepAlive) reply.header('connection', 'Upgrade, close');
      answerError(reply as FastifyReply, error, status);
    });
  }
}

function asksForWebSocket({ headers }: IncomingMessage): boolean {
  const protocols = headers.upgrade?.split(',') ?? [];
  return protocols.some((protocol) => protocol.trim().toLowerCase() === 'websocket');
}

function noHandshake(request: IncomingMessage): HandshakeRefusal {
  if (asksForWebSocket(request)) {
    return { status: 400, error: PresenceError.invalidArgument('Connection', 'must name Upgrade') };
  }
  return {
    status: 426,
    error: PresenceError.invalidArgument('Upgrade', 'must be websocket here'),
    headers: { upgrade: 'websocket', connection: 'Upgrade' },
  };
}
