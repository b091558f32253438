import type { BlockList, Server, Socket } from 'node:net';
import { clientAddress, type ForwardedHeader, forwardedScheme, isWithin } from './client-address.ts';
import { readPreamble } from './proxy-protocol.ts';

export interface ClientAddressesOptions {
  /** Networks of the proxies that are believed; undefined: none is. */
  readonly trustedProxies: BlockList | undefined;
  /** The one header that these proxies write. */
  readonly forwardedHeader: ForwardedHeader;
  /** Whether connections of these proxies begin with a PROXY preamble. */
  readonly proxyProtocol: boolean;
  /** How long a preamble may take to come. */
  readonly requestTimeoutMs: number;
  /** Connections that may wait for theirs at once. */
  readonly maxConnections: number;
}

const believeNobody: ClientAddressesOptions = {
  trustedProxies: undefined,
  forwardedHeader: 'x-forwarded-for',
  proxyProtocol: false,
  requestTimeoutMs: 0,
  maxConnections: 0,
};

type ConnectionListener = (socket: Socket) => void;

/** Where calls and connections come from, on both ports: trusted proxies are believed, and nobody else. */
export class ClientAddresses {
  readonly #options: ClientAddressesOptions;
  /** Of connections that a preamble told of, by the address and port of their other end. */
  readonly #told = new Map<string, string>();
  readonly #waiting = new Set<Socket>();

  /** @param options default: no proxy is believed */
  constructor(options: ClientAddressesOptions = believeNobody) {
    this.#options = options;
  }

  /** The other end of a connection, or whom its preamble names. */
  ofConnection(remoteAddress: string, remotePort: number | undefined): string {
    if (this.#told.size === 0) return remoteAddress;
    return this.#told.get(`${remoteAddress}:${remotePort}`) ?? remoteAddress;
  }

  /** Who made a call over a connection. */
  ofCall(
    remoteAddress: string,
    remotePort: number | undefined,
    header?: (name: string) => string | undefined,
  ): string {
    const { trustedProxies, forwardedHeader } = this.#options;
    if (!trustedProxies) return remoteAddress;
    const peer = this.ofConnection(remoteAddress, remotePort);
    return clientAddress(trustedProxies, forwardedHeader, peer, header?.(forwardedHeader));
  }

  /** The scheme by which a client reached a trusted proxy; undefined: no such proxy tells of one. */
  schemeOfCall(
    remoteAddress: string,
    remotePort: number | undefined,
    header: (name: string) => string | undefined,
  ): 'http' | 'https' | undefined {
    if (!this.isTrusted(this.ofConnection(remoteAddress, remotePort))) return undefined;
    return forwardedScheme(this.#options.forwardedHeader, header);
  }

  isTrusted(address: string): boolean {
    const { trustedProxies } = this.#options;
    return trustedProxies !== undefined && isWithin(trustedProxies, address);
  }

  /** Has a server see the connections of trusted proxies only after their preamble. Before it listens. */
  readPreambles(server: Server): void {
    if (!this.#options.proxyProtocol) return;
    const listeners = server.listeners('connection') as ConnectionListener[];
    server.removeAllListeners('connection');
    server.on('connection', (socket: Socket) => {
      const serve = () => {
        for (const listener of listeners) listener.call(server, socket);
      };
      if (this.isTrusted(socket.remoteAddress ?? '')) this.#awaitPreamble(socket, serve);
      else serve();
    });
  }

  /** Ends the connections whose preamble has not come. */
  stop(): void {
    for (const socket of this.#waiting) socket.destroy();
  }

  #awaitPreamble(socket: Socket, serve: () => void): void {
    if (this.#waiting.size >= this.#options.maxConnections) {
      socket.destroy();
      return;
    }
    this.#waiting.add(socket);
    let received = Buffer.alloc(0);
    const timer = setTimeout(() => socket.destroy(), this.#options.requestTimeoutMs);
    const onError = () => {};
    const finish = () => {
      clearTimeout(timer);
      this.#waiting.delete(socket);
      socket.off('readable', onReadable);
      socket.off('close', finish);
      socket.off('end', onEnd);
    };
    const onEnd = () => socket.destroy();
    const onReadable = () => {
      for (let chunk = socket.read() as Buffer | null; chunk; chunk = socket.read() as Buffer | null) {
        received = Buffer.concat([received, chunk]);
      }
      const preamble = readPreamble(received);
      if (preamble.kind === 'incomplete') return;
      finish();
      if (preamble.kind === 'malformed') {
        socket.destroy();
        return;
      }
      if (preamble.address !== undefined) this.#remember(socket, preamble.address);
      const rest = received.subarray(preamble.bytes);
      if (rest.length > 0) socket.unshift(rest);
      // A stream forgets within this turn that it was read by hand; only then can it flow.
      setImmediate(() => {
        socket.off('error', onError);
        if (!socket.destroyed) serve();
      });
    };
    socket.on('error', onError);
    socket.on('readable', onReadable);
    socket.once('close', finish);
    socket.once('end', onEnd);
  }

  #remember(socket: Socket, address: string): void {
    const key = `${socket.remoteAddress}:${socket.remotePort}`;
    this.#told.set(key, address);
    socket.once('close', () => this.#told.delete(key));
  }
}
