import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** A way between client and server that can fail in every way that a way can. */
export class TcpProxy {
  /** Where new connections go; null: they are refused. */
  target: number | null;
  connections = 0;
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  readonly #delayMs: number;
  #isPaused = false;

  private constructor(target: number, delayMs: number) {
    this.target = target;
    this.#delayMs = delayMs;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** @param delayMs how long everything takes at least, each way; default 0 */
  static async start(target: number, delayMs = 0): Promise<TcpProxy> {
    const proxy = new TcpProxy(target, delayMs);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** Nothing gets through, and nobody is told: as when a cable is cut. */
  pause(): void {
    this.#isPaused = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  resume(): void {
    this.#isPaused = false;
    for (const pair of this.#pairs) for (const socket of pair) socket.resume();
  }

  /** Ends all connections. */
  cut(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  stop(): void {
    this.#server.close();
    this.cut();
  }

  #accept(client: Socket): void {
    this.connections++;
    client.on('error', () => {});
    if (this.target === null) {
      client.destroy();
      return;
    }
    const server = connect(this.target, '127.0.0.1');
    server.on('error', () => client.destroy());
    const pair = [client, server] as const;
    this.#pairs.add(pair);
    this.#join(client, server);
    this.#join(server, client);
    const close = () => {
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    client.on('close', close);
    server.on('close', close);
    if (this.#isPaused) for (const socket of pair) socket.pause();
  }

  #join(from: Socket, to: Socket): void {
    if (this.#delayMs === 0) {
      from.pipe(to);
      return;
    }
    from.setNoDelay(true);
    // Timers of one length run in order.
    from.on('data', (data) => setTimeout(() => to.write(data), this.#delayMs));
    from.on('end', () => setTimeout(() => to.end(), this.#delayMs));
  }
}
