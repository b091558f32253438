/** The client against servers that do not keep the protocol. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type WebSocket, WebSocketServer } from 'ws';
import { waitFor } from '../../test/support/wait.ts';
import { PresenceClient, webSocketLink } from '../src/index.ts';

const welcome = (more: object = {}) => ({
  requestId: 0,
  welcome: {
    sessionId: 's',
    resumeToken: 't',
    heartbeatIntervalMs: '60000',
    pongTimeoutMs: '60000',
    maxFrameBytes: 65536,
    ...more,
  },
});
/** For the tests of silence; on a busy machine an answer may well be later. */
const hurried = { heartbeatIntervalMs: '100', pongTimeoutMs: '100' };
const event = (userId: string, status: string, version: number) => ({
  events: { events: [{ userId, status, version: String(version), snapshot: true }] },
});

interface Request {
  readonly requestId?: number;
  readonly hello?: { readonly resumeToken: string; readonly answersPings: boolean };
  readonly watch?: { readonly userIds: string[]; readonly knownVersions: string[] };
  readonly heartbeat?: object;
}

/** A server whose every answer a test makes up. */
class MadeUpServer {
  connections = 0;
  readonly requests: Request[] = [];
  readonly #server: WebSocketServer;

  constructor(answer: (request: Request, say: (frame: unknown) => void, socket: WebSocket) => void) {
    this.#server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    this.#server.on('connection', (socket) => {
      this.connections++;
      socket.on('message', (data: Buffer) => {
        const request = JSON.parse(data.toString()) as Request;
        this.requests.push(request);
        answer(
          request,
          (frame) => socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame)),
          socket,
        );
      });
    });
  }

  async client(): Promise<PresenceClient> {
    if (!this.#server.address()) await once(this.#server, 'listening');
    const { port } = this.#server.address() as AddressInfo;
    return new PresenceClient({
      connect: webSocketLink(`http://127.0.0.1:${port}`),
      backoff: { baseMs: 100, maxMs: 1000 },
      connectTimeoutMs: 300,
    });
  }

  stop(): void {
    for (const socket of this.#server.clients) socket.terminate();
    this.#server.close();
  }
}

describe('client against a server that lies', () => {
  let server: MadeUpServer;
  let client: PresenceClient;
  afterEach(() => {
    client.close();
    server.stop();
  });

  const nonsense: Readonly<Record<string, unknown>> = {
    'text that is no JSON': 'hello?',
    'JSON that is no frame': '[1, 2]',
    'a state without a user': event('', 'ONLINE', 1),
    'a status that is none': event('ada', 'PERHAPS', 1),
    'a version that is no number': {
      events: { events: [{ userId: 'ada', status: 'ONLINE', version: 'latest' }] },
    },
    'events that are no list': { events: { events: { userId: 'ada' } } },
  };
  for (const [name, frame] of Object.entries(nonsense)) {
    it(`never reconnects in a tight loop because of ${name}`, async () => {
      server = new MadeUpServer(({ hello }, say) => {
        if (!hello) return;
        say(welcome());
        say(frame);
      });
      client = await server.client();
      client.subscribe(['ada'], () => {});
      client.open();
      await waitFor('a second try', () => server.connections >= 2);
      await sleep(600);
      // 20 ms at least before each, and the bound doubles: 100, 200, 400 ...
      assert.ok(server.connections <= 12, `${server.connections} connections`);
      assert.equal(client.get('ada'), undefined);
    });
  }

  it('gives up on a connection that never welcomes it', async () => {
    server = new MadeUpServer(() => {});
    client = await server.client();
    client.open();
    await waitFor('a second try', () => server.connections >= 2);
    assert.equal(client.state, 'connecting');
  });

  it('gives up on a connection that answers no heartbeat', async () => {
    server = new MadeUpServer(({ hello }, say) => {
      if (hello) say(welcome(hurried));
    });
    client = await server.client();
    client.open();
    await waitFor('a second try', () => server.connections >= 2);
    assert.ok(server.requests.some(({ heartbeat }) => heartbeat));
  });

  it('answers every ping, and gives up on a server that falls silent', async () => {
    let pings = 0;
    server = new MadeUpServer(({ hello, heartbeat }, say) => {
      if (hello) say(welcome({ ...hurried, pingIntervalMs: '100' }));
      if (pings < 3 && (hello || heartbeat)) {
        pings++;
        setTimeout(() => say({ ping: {} }), 20);
      }
    });
    client = await server.client();
    const beganMs = performance.now();
    client.open();
    await waitFor('three answers', () => server.requests.filter(({ heartbeat }) => heartbeat).length === 3);
    assert.ok(server.requests.every(({ requestId, heartbeat }) => !heartbeat || !requestId));
    await waitFor('a second try', () => server.connections >= 2);
    assert.ok(performance.now() - beganMs >= 200, 'not before the silence was too long');
  });

  it('does not loop with a server that always sends it away', async () => {
    server = new MadeUpServer(({ hello }, say) => {
      if (!hello) return;
      say(welcome());
      say({ goingAway: { closeCode: 1012, reason: 'restart', reconnectInMs: '1' } });
    });
    client = await server.client();
    client.open();
    await waitFor('a third try', () => server.connections === 3);
    await sleep(600);
    assert.ok(server.connections <= 12, `${server.connections} connections`);
  });

  it('stays away when told by a close code, even one that it never heard of', async () => {
    server = new MadeUpServer((_request, _say, socket) => socket.close(4999, 'go away'));
    client = await server.client();
    client.open();
    await waitFor('the end', () => client.state === 'closed');
    assert.equal(client.error?.message, 'go away');
    assert.equal(server.connections, 1);
  });

  it('asks for everything anew after nonsense, so that no wrong view stays', async () => {
    server = new MadeUpServer(({ requestId, hello, watch }, say) => {
      const isLying = server.connections === 1;
      if (hello) say(welcome());
      if (!watch) return;
      const known = watch.knownVersions[0] === '7';
      // The same version, but another state: a client that trusted what it knew would never hear of it.
      if (isLying) say(event('ada', 'ONLINE', 7));
      else if (!known) say(event('ada', 'OFFLINE', 7));
      if (isLying) say('nonsense');
      else say({ requestId, ack: {} });
    });
    client = await server.client();
    client.subscribe(['ada'], () => {});
    client.open();
    await waitFor('the truth', () => client.get('ada')?.status === 'OFFLINE');
    assert.equal(server.connections, 2);
  });

  it('ignores frames and fields of a newer server', async () => {
    server = new MadeUpServer(({ requestId, hello, watch }, say) => {
      if (hello) say(welcome({ weather: 'fine' }));
      say({ requestId, novelty: { a: 1 } });
      if (watch) say({ ...event('ada', 'ONLINE', 1), mood: 'good' });
      say({ requestId, ack: {} });
    });
    client = await server.client();
    client.subscribe(['ada'], () => {});
    await client.open().ready();
    await waitFor('the state', () => client.get('ada')?.status === 'ONLINE');
    await sleep(300);
    assert.equal(server.connections, 1);
  });
});
