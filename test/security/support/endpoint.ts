import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What an endpoint was asked. */
export interface Asked {
  readonly viewer?: { readonly kind: string; readonly id: string };
  readonly users: readonly string[];
}

type Behaviour = (response: ServerResponse, asked: Asked) => void;

/** Answers that are none, by what is wrong with them. */
export const wrongAnswers: Readonly<Record<string, Behaviour>> = {
  'none at all': () => {},
  'a closed connection': (response) => response.socket?.destroy(),
  'half an answer': (response) => {
    response.writeHead(200, { 'content-length': '1000' }).write('{"known":["ada');
  },
  'status 500': (response) => response.writeHead(500).end('{"known":[],"allowed":[]}'),
  'status 404': (response) => response.writeHead(404).end('{"known":[],"allowed":[]}'),
  'a redirect': (response) => response.writeHead(307, { location: 'http://127.0.0.1:1/' }).end(),
  'no JSON': (response) => response.end('<html>'),
  nothing: (response) => response.end(),
  null: (response) => response.end('null'),
  'a list': (response) => response.end('["ada"]'),
  'no field': (response) => response.end('{"users":["ada"]}'),
  'an object for a list': (response) => response.end('{"known":{"ada":true},"allowed":{"ada":true}}'),
  'true for a list': (response) => response.end('{"known":true,"allowed":true}'),
  'numbers for ids': (response) => response.end('{"known":[1],"allowed":[1]}'),
  'users who were not asked about': (response) =>
    response.end('{"known":["ada","bob","mallory"],"allowed":["ada","bob","mallory"]}'),
  'an answer that is too large': (response) =>
    response.end(`{"known":[],"allowed":[],"padding":"${'x'.repeat(2 * 1024 * 1024)}"}`),
};

/** A directory or a policy of the test's own, over HTTP. */
export class Endpoint {
  readonly asked: Asked[] = [];
  readonly headers: IncomingMessage['headers'][] = [];
  /** Who has a yes; of a policy, `viewer>user`. */
  yes = new Set<string>();
  /** Sent as Cache-Control; empty: none. */
  cacheControl = '';
  /** In place of the right answer; undefined: the right one. */
  behaviour: Behaviour | undefined;
  readonly #http: Server;
  readonly #field: 'known' | 'allowed';

  constructor(field: 'known' | 'allowed') {
    this.#field = field;
    this.#http = createServer((request, response) => void this.#take(request, response));
  }

  static async start(field: 'known' | 'allowed'): Promise<Endpoint> {
    const endpoint = new Endpoint(field);
    endpoint.#http.listen(0, '127.0.0.1');
    await once(endpoint.#http, 'listening');
    return endpoint;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}/ask`;
  }

  stop(): void {
    this.#http.closeAllConnections();
    this.#http.close();
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = '';
    for await (const chunk of request) text += chunk;
    const asked = JSON.parse(text) as Asked;
    this.asked.push(asked);
    this.headers.push(request.headers);
    if (this.behaviour) {
      this.behaviour(response, asked);
      return;
    }
    const { viewer, users } = asked;
    const start = viewer ? `${viewer.id}>` : '';
    if (this.cacheControl !== '') response.setHeader('cache-control', this.cacheControl);
    const yes = users.filter((userId) => this.yes.has(`${start}${userId}`));
    response.end(JSON.stringify({ [this.#field]: yes }));
  }
}
