import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface HttpTransportOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Why calls cannot be served now; null: they can. */
  readonly notReadyReason: () => string | null;
}

/** The HTTP face of the server: for now, what probes ask. */
export class HttpTransport {
  readonly #options: HttpTransportOptions;
  readonly #server: Server;

  constructor(options: HttpTransportOptions) {
    this.#options = options;
    this.#server = createServer({ requestTimeout: 5000, headersTimeout: 5000 }, (request, response) => {
      const [status, body] = this.#answer(request.url ?? '');
      response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`);
    });
  }

  async start(): Promise<{ host: string; port: number }> {
    this.#server.listen(this.#options.port, this.#options.host);
    await once(this.#server, 'listening');
    const { address, port } = this.#server.address() as AddressInfo;
    return { host: address, port };
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  #answer(url: string): [status: number, body: object] {
    if (url === '/livez') return [200, { status: 'alive' }];
    if (url === '/readyz') {
      const reason = this.#options.notReadyReason();
      return reason === null ? [200, { status: 'ready' }] : [503, { status: 'not ready', reason }];
    }
    return [404, { success: false, error: { code: 'INVALID_ARGUMENT', message: `there is no ${url}` } }];
  }
}
