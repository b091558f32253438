/** The server: listening, TLS, registration of methods, drain and close. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import {
  createServer as createTlsServer,
  type TLSSocket,
  type TlsOptions,
  Server as TlsServer,
} from 'node:tls';
import type {
  BidiHandler,
  ClientStreamHandler,
  MethodDefinition,
  MethodKind,
  ServerStreamHandler,
  UnaryHandler,
} from './api.ts';
import { type AnyDefinition, type AnyHandler, type CallPlan, planCall, type Route } from './call-plan.ts';
import { type CompressionOptions, DEFAULT_COMPRESSION } from './compression.ts';
import { CONNECTION, type ConnectedSocket, Connection, type ConnectionHost } from './connection.ts';
import type { GrpcError } from './errors.ts';
import { GrpcCall } from './grpc-call.ts';
import { FieldList } from './hpack-decoder.ts';
import { DEFAULT_KEEPALIVE, type KeepaliveOptions } from './keepalive.ts';
import { type Limits, resolveLimits } from './limits.ts';
import { Outbox } from './outbox.ts';
import { type Fallback, PlainExchange } from './plain-exchange.ts';
import { RefusalBlocks, RejectedCall, rejectionBlock } from './rejected-call.ts';
import type { RequestHead } from './request-head.ts';
import { makeGreeting } from './settings.ts';
import type { Stream } from './stream.ts';
import { TimerWheel } from './timer-wheel.ts';
import { secureTlsOptions } from './tls-options.ts';

export interface GrpcServerOptions {
  readonly limits?: Partial<Limits>;
  /** Key, certificate and so on for node:tls. ALPN `h2` and TLS 1.2 or newer are enforced. Default: plain h2c. */
  readonly tls?: TlsOptions | undefined;
  readonly keepalive?: Partial<KeepaliveOptions>;
  /** Connections are drained at this age, ±10 %. 0: never. Default 0. */
  readonly maxConnectionAgeMs?: number;
  /** Calls still open this long after the age are cut off. 0: never. Default 0. */
  readonly maxConnectionAgeGraceMs?: number;
  /** Connections without a call for this long are drained. 0: never. Default 0. */
  readonly maxConnectionIdleMs?: number;
  /** Gzip response messages for clients that accept it. Default off. */
  readonly compression?: boolean | Partial<CompressionOptions> | undefined;
  /** Monotonic milliseconds. Default `performance.now`. */
  readonly now?: () => number;
  /** Bugs: what handlers threw that is no GrpcError, and internal errors. Default: `console.error`. */
  readonly onError?: (error: unknown, context: string) => void;
  /** Answers what is not gRPC. Default: 405, 415 or UNIMPLEMENTED. */
  readonly fallback?: Fallback | undefined;
  /** Whether a client of this address may connect now; refused ones are closed unread. Default: all. */
  readonly accept?: (address: string, port: number) => boolean;
  /** Called with the listener before it listens, such as to read what a proxy sends before the client's bytes. */
  readonly prepareListener?: (listener: Server) => void;
  /**
   * Asked when the head of a call of this path has come: with an error the call is answered by it, and no handler sees it.
   * That is cheap, cheaper still with the same error object again. Default: none is refused.
   */
  readonly refuse?: (path: string) => GrpcError | undefined;
}

export interface ListenOptions {
  /** Default '127.0.0.1'. */
  readonly host?: string;
  /** 0: any free port. Default 0. */
  readonly port?: number;
  /** Length of the queue of connections not yet accepted. Default 511 (or what the system allows). */
  readonly backlog?: number;
}

/** Exact at the time of the call; the first four are zero when nothing is open. */
export interface ServerStats {
  readonly connections: number;
  /** Places taken by open streams, and by handlers still running after a reset. */
  readonly streams: number;
  /** Response bytes that wait in streams. */
  readonly queuedBytes: number;
  /** Control frames that wait for sockets. */
  readonly controlQueueItems: number;
  /** Request bytes held for incomplete messages. */
  readonly bufferedRequestBytes: number;
  /** Timers pending. */
  readonly timers: number;
  readonly acceptedConnections: number;
  readonly refusedConnections: number;
  readonly refusedStreams: number;
  /** Socket writes so far. */
  readonly writes: number;
}

/** A destroyed socket closes within a turn of the event loop; nothing may wait for one without end. */
const CLOSE_TIMEOUT_MS = 5_000;

export class GrpcServer implements ConnectionHost {
  readonly limits: Limits;
  readonly keepalive: KeepaliveOptions;
  readonly maxConnectionAgeMs: number;
  readonly maxConnectionAgeGraceMs: number;
  readonly maxConnectionIdleMs: number;
  readonly outbox: Outbox;
  readonly wheel: TimerWheel;
  readonly greeting: Buffer;
  readonly fieldList: FieldList;
  bufferedRequestBytes = 0;

  private readonly tls: TlsOptions | undefined;
  private readonly compression: CompressionOptions | undefined;
  private readonly now: () => number;
  private readonly errorListener: (error: unknown, context: string) => void;
  private readonly fallback: Fallback | undefined;
  private readonly mayConnect: (address: string, port: number) => boolean;
  private readonly prepareListener: ((listener: Server) => void) | undefined;
  private readonly refuse: ((path: string) => GrpcError | undefined) | undefined;
  private readonly refusalBlocks = new RefusalBlocks();
  private readonly routes = new Map<string, Route>();
  private readonly connections = new Set<Connection>();
  /** Those that hold request bytes. */
  private readonly holders = new Set<Connection>();
  /** Sockets whose TLS handshake is under way, by their endpoints. */
  private readonly handshakes = new Map<string, Socket>();
  private listener: Server | undefined;
  private draining = false;
  /** Called once, when the last connection is gone. */
  private emptyListeners: (() => void)[] = [];
  private acceptedConnections = 0;
  private refusedConnections = 0;
  private refusedStreams = 0;

  /** Throws RangeError or TypeError on options out of bounds. */
  constructor(options: GrpcServerOptions = {}) {
    this.limits = resolveLimits(options.limits);
    this.keepalive = Object.freeze({ ...DEFAULT_KEEPALIVE, ...options.keepalive });
    this.maxConnectionAgeMs = options.maxConnectionAgeMs ?? 0;
    this.maxConnectionAgeGraceMs = options.maxConnectionAgeGraceMs ?? 0;
    this.maxConnectionIdleMs = options.maxConnectionIdleMs ?? 0;
    this.tls = options.tls;
    this.compression = resolveCompression(options.compression);
    this.now = options.now ?? (() => performance.now());
    this.errorListener = options.onError ?? ((error, context) => console.error(context, error));
    this.fallback = options.fallback;
    this.mayConnect = options.accept ?? (() => true);
    this.prepareListener = options.prepareListener;
    this.refuse = options.refuse;
    this.outbox = new Outbox((error) => this.onError(error, 'flush'));
    this.wheel = new TimerWheel(
      () => this.nowMs(),
      (error) => this.onError(error, 'timer'),
    );
    this.greeting = makeGreeting(this.limits);
    this.fieldList = new FieldList(this.limits.maxHeaderListBytes, this.limits.maxHeaderFields);
  }

  // ---- methods ----------------------------------------------------------------------------------------

  unary<I, O>(definition: MethodDefinition<I, O>, handler: UnaryHandler<I, O>): void {
    this.register('unary', definition, handler);
  }

  serverStream<I, O>(definition: MethodDefinition<I, O>, handler: ServerStreamHandler<I, O>): void {
    this.register('server-stream', definition, handler);
  }

  clientStream<I, O>(definition: MethodDefinition<I, O>, handler: ClientStreamHandler<I, O>): void {
    this.register('client-stream', definition, handler);
  }

  bidi<I, O>(definition: MethodDefinition<I, O>, handler: BidiHandler<I, O>): void {
    this.register('bidi', definition, handler);
  }

  /** Paths of all methods, for reflection. */
  get methodPaths(): string[] {
    return [...this.routes.keys()];
  }

  private register<I, O>(kind: MethodKind, definition: MethodDefinition<I, O>, handler: unknown): void {
    if (definition.kind !== kind)
      throw new TypeError(`${definition.path} is ${definition.kind}, not ${kind}`);
    if (!/^\/[^/]+\/[^/]+$/.test(definition.path)) throw new TypeError(`bad method path ${definition.path}`);
    if (this.routes.has(definition.path)) throw new TypeError(`${definition.path} is already registered`);
    this.routes.set(definition.path, {
      definition: definition as unknown as AnyDefinition,
      handler: handler as AnyHandler,
    });
  }

  // ---- life -------------------------------------------------------------------------------------------

  /** Rejects when the address cannot be had, or when the server already listens. */
  listen(options: ListenOptions = {}): Promise<{ host: string; port: number }> {
    if (this.listener !== undefined) return Promise.reject(new Error('the server already listens'));
    const { host = '127.0.0.1', port = 0, backlog = 511 } = options;
    const listener = this.tls === undefined ? this.createPlain() : this.createSecure(this.tls);
    this.listener = listener;
    this.prepareListener?.(listener);
    return new Promise((resolve, reject) => {
      listener.once('error', (error) => {
        this.listener = undefined;
        reject(error);
      });
      listener.listen({ host, port, backlog }, () => {
        listener.removeAllListeners('error');
        listener.on('error', (error) => this.onError(error, 'listener'));
        const address = listener.address() as AddressInfo;
        resolve({ host: address.address, port: address.port });
      });
    });
  }

  /** Takes another key and certificate for connections to come. Throws on what is no such thing. */
  renewTls(tls: TlsOptions): void {
    if (this.listener instanceof TlsServer) {
      this.listener.setSecureContext(secureTlsOptions(tls, this.limits.handshakeTimeoutMs));
    }
  }

  /**
   * Stops accepting, tells every client by GOAWAY in two steps, and waits until all calls are done. What is
   * left after `timeoutMs` is closed.
   */
  async drain(timeoutMs: number): Promise<void> {
    this.draining = true;
    this.stopListening();
    for (const connection of [...this.connections]) connection.drain('server is shutting down');
    await this.untilEmpty(timeoutMs);
    await this.close();
  }

  /** Closes the listener and every connection at once; resolves when all sockets are gone. */
  async close(): Promise<void> {
    this.draining = true;
    this.stopListening();
    for (const socket of this.handshakes.values()) socket.destroy();
    for (const connection of [...this.connections]) connection.destroy();
    await this.untilEmpty(CLOSE_TIMEOUT_MS);
    this.wheel.stop();
  }

  private untilEmpty(timeoutMs: number): Promise<void> {
    if (this.connections.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.emptyListeners.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /**
   * Serves a connected socket that came another way than by `listen`: of a listener of one's own, from another
   * process, or a stand-in for tests. Its client speaks HTTP/2 from the first byte; of a TLS socket the handshake is
   * done and ALPN said `h2`. The socket belongs to the server from here on. False: refused (draining, or
   * `maxConnections`) and destroyed.
   */
  accept(socket: Socket): boolean {
    if (!this.mayAccept(socket)) return false;
    this.serve(socket);
    return true;
  }

  stats(): ServerStats {
    let streams = 0;
    let queuedBytes = 0;
    let controlQueueItems = 0;
    for (const connection of this.connections) {
      streams += connection.streams.active;
      controlQueueItems += connection.sender.control.items;
      for (const stream of connection.streams) queuedBytes += stream.queuedBytes;
    }
    return {
      connections: this.connections.size,
      streams,
      queuedBytes,
      controlQueueItems,
      bufferedRequestBytes: this.bufferedRequestBytes,
      timers: this.wheel.size,
      acceptedConnections: this.acceptedConnections,
      refusedConnections: this.refusedConnections,
      refusedStreams: this.refusedStreams,
      writes: this.outbox.writes,
    };
  }

  // ---- sockets ----------------------------------------------------------------------------------------

  private createPlain(): Server {
    return createServer({ noDelay: true }, (socket) => this.accept(socket));
  }

  private createSecure(tls: TlsOptions): Server {
    const listener = createTlsServer(secureTlsOptions(tls, this.limits.handshakeTimeoutMs));
    listener.on('connection', (socket: Socket) => {
      if (!this.mayAccept(socket)) return;
      const key = endpointsOf(socket);
      this.handshakes.set(key, socket);
      socket.once('close', () => {
        if (this.handshakes.get(key) === socket) this.handshakes.delete(key);
      });
    });
    listener.on('tlsClientError', (_error, socket) => socket.destroy());
    listener.on('secureConnection', (socket: TLSSocket) => {
      this.handshakes.delete(endpointsOf(socket));
      // Without ALPN there is no agreement on HTTP/2 (RFC 9113 §3.2).
      if (socket.alpnProtocol !== 'h2' || this.draining) {
        socket.on('error', ignoreError);
        socket.destroy();
        return;
      }
      this.serve(socket);
    });
    return listener;
  }

  private mayAccept(socket: Socket): boolean {
    const hasRoom = this.connections.size + this.handshakes.size < this.limits.maxConnections;
    if (!this.draining && hasRoom && this.mayConnect(socket.remoteAddress ?? '', socket.remotePort ?? 0))
      return true;
    this.refusedConnections++;
    socket.on('error', ignoreError);
    socket.destroy();
    return false;
  }

  private serve(socket: ConnectedSocket): void {
    this.acceptedConnections++;
    socket.setNoDelay(true);
    socket.on('error', ignoreError);
    socket.on('data', onSocketData);
    socket.on('end', onSocketEnd);
    socket.on('close', onSocketClose);
    const connection = new Connection(this, socket);
    socket[CONNECTION] = connection;
    this.connections.add(connection);
  }

  private stopListening(): void {
    this.listener?.close();
    this.listener = undefined;
  }

  // ---- ConnectionHost ---------------------------------------------------------------------------------

  nowMs(): number {
    return Math.floor(this.now());
  }

  makeRoom(connection: Connection, bytes: number): boolean {
    while (this.bufferedRequestBytes + bytes > this.limits.maxBufferedRequestBytesPerServer) {
      let largest = connection;
      let most = connection.bufferedBytes + bytes;
      for (const holder of this.holders) {
        if (holder.bufferedBytes <= most) continue;
        largest = holder;
        most = holder.bufferedBytes;
      }
      if (largest === connection) return false;
      const before = this.bufferedRequestBytes;
      largest.yieldMemory();
      if (this.bufferedRequestBytes >= before) return false;
    }
    return true;
  }

  onHolding(connection: Connection, holds: boolean): void {
    if (holds) this.holders.add(connection);
    else this.holders.delete(connection);
  }

  refusalOf(head: RequestHead): Buffer | undefined {
    if (this.refuse === undefined) return undefined;
    const plan = this.planOf(head);
    if (plan.rejection !== undefined || plan.plain) return undefined;
    const refusal = this.refuse(head.path);
    return refusal === undefined ? undefined : this.refusalBlocks.of(refusal, plan.contentType);
  }

  open(connection: Connection, id: number, head: RequestHead): Stream {
    const plan = this.planOf(head);
    if (plan.rejection !== undefined) {
      return new RejectedCall(connection, id, head, rejectionBlock(plan.rejection, plan.contentType));
    }
    if (plan.plain) return new PlainExchange(connection, id, head, this.fallback as Fallback);
    return new GrpcCall(connection, id, head, plan, this.compression);
  }

  onConnectionClosed(connection: Connection): void {
    this.connections.delete(connection);
    if (this.connections.size > 0) return;
    for (const listener of this.emptyListeners.splice(0)) listener();
  }

  onError(error: unknown, context: string): void {
    this.errorListener(error, context);
  }

  countRefused(): void {
    this.refusedStreams++;
  }

  private planOf(head: RequestHead): CallPlan {
    let plan = head.route as CallPlan | undefined;
    if (plan === undefined) {
      plan = planCall(head, this.routes, this.fallback !== undefined);
      head.route = plan;
    }
    return plan;
  }
}

function resolveCompression(given: GrpcServerOptions['compression']): CompressionOptions | undefined {
  if (given === undefined || given === false) return undefined;
  return given === true ? DEFAULT_COMPRESSION : { ...DEFAULT_COMPRESSION, ...given };
}

/** The same for a TLS socket and the TCP socket under it, which node:tls keeps to itself. */
function endpointsOf(socket: Socket): string {
  return `${socket.localAddress} ${socket.remoteAddress} ${socket.remotePort}`;
}

// Shared by all sockets: a listener each would cost every idle connection its closures.

function onSocketData(this: ConnectedSocket, chunk: Buffer): void {
  this[CONNECTION]?.receive(chunk);
}

/** The client's FIN. A half-closed client cannot finish a call: it cannot even acknowledge SETTINGS. */
function onSocketEnd(this: ConnectedSocket): void {
  this[CONNECTION]?.destroy();
}

function onSocketClose(this: ConnectedSocket): void {
  this[CONNECTION]?.onSocketClosed();
}

/** 'close' follows, and is where things are cleaned up. */
function ignoreError(): void {}
