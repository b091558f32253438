/** Who calls behind proxies: by headers and PROXY preambles, on every interface, from proxies that are trusted and nobody else. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { type RequestOptions, request as requestHttp } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { request as requestHttps } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { Code } from '@connectrpc/connect';
import { WebSocket } from 'ws';
import { makeAuthority, makeCertificate } from '../support/certificates.ts';
import { endProcess, startProcess, temporaryFolder } from '../support/child-process.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { freePort } from '../support/redis-server.ts';
import { waitFor } from '../support/wait.ts';
import { apiKeys, apiKeysFile } from './support/credentials.ts';

/** Bad tokens that an address may send before the next is answered RATE_LIMITED. */
const failures = 2;
const bad = { authorization: 'Bearer nobody-knows-this' };
const keys = apiKeysFile();
after(() => keys.remove());

const start = (environment: Record<string, string>) =>
  startServer({
    AUTH: 'api-keys',
    AUTH_API_KEYS_FILE: keys.file,
    RATE_LIMIT_AUTH_FAILURES: String(failures),
    REQUEST_TIMEOUT: '1s',
    ...environment,
  });

/** Sends one bad token. true: too many came from where it came from. */
type Guess = () => Promise<boolean>;

async function guessesBeforeRefusal(guess: Guess): Promise<number> {
  for (let guesses = 0; guesses < 10; guesses++) if (await guess()) return guesses;
  return 10;
}

function statusOf(options: RequestOptions, isSecure = false): Promise<number> {
  return new Promise((resolve, reject) => {
    const call = isSecure ? requestHttps : requestHttp;
    const sent = call({ ...options, agent: false, rejectUnauthorized: false } as RequestOptions, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
    sent.on('error', reject);
    sent.end();
  });
}

const guessHttp =
  (port: number, headers: Record<string, string> = {}, localAddress = '127.0.0.1', isSecure = false): Guess =>
  async () =>
    (await statusOf(
      { host: '127.0.0.1', port, localAddress, path: '/v1/users/x/status', headers: { ...bad, ...headers } },
      isSecure,
    )) === 429;

/** A unary call over a connection of its own; only its grpc-status is looked at. */
function grpcStatus(
  port: number,
  headers: Record<string, string>,
  localAddress = '127.0.0.1',
  isSecure = false,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const session = connectHttp2(`${isSecure ? 'https' : 'http'}://127.0.0.1:${port}`, {
      createConnection: () => {
        const socket = connect({ host: '127.0.0.1', port, localAddress });
        return isSecure ? connectTls({ socket, ALPNProtocols: ['h2'], rejectUnauthorized: false }) : socket;
      },
    });
    session.on('error', reject);
    const stream = session.request({
      ':method': 'POST',
      ':path': '/presence.v1.PresenceService/GetUserStatus',
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    const take = (answer: Record<string, unknown>) => {
      if (answer['grpc-status'] === undefined) return;
      resolve(Number(answer['grpc-status']));
      session.destroy();
    };
    stream.on('response', take);
    stream.on('trailers', take);
    stream.on('error', reject);
    stream.end(Buffer.from([0, 0, 0, 0, 3, 0x0a, 1, 0x78]));
  });
}

const guessGrpc =
  (port: number, headers: Record<string, string> = {}, localAddress = '127.0.0.1', isSecure = false): Guess =>
  async () =>
    (await grpcStatus(port, { ...bad, ...headers }, localAddress, isSecure)) === Code.ResourceExhausted;

const httpPort = (server: TestServer) => Number(new URL(server.httpUrl).port);

/** The same call over each interface. */
function interfaces(server: TestServer): Record<string, (headers: Record<string, string>) => Guess> {
  return {
    http: (headers) => guessHttp(httpPort(server), headers),
    connect: (headers) => async () => {
      const response = await fetch(`${server.httpUrl}/presence.v1.PresenceService/GetUserStatus`, {
        method: 'POST',
        headers: { ...bad, ...headers, 'content-type': 'application/json' },
        body: '{"userId":"x"}',
      });
      await response.text();
      return response.status === 429;
    },
    grpc: (headers) => guessGrpc(server.grpcPort, headers),
    webSocket: (headers) => async () => {
      const socket = new WebSocket(`ws://127.0.0.1:${httpPort(server)}/v1/connect`, 'presence.v1.json', {
        headers: { ...bad, ...headers },
      });
      socket.on('open', () => socket.send('{"requestId":1,"hello":{}}'));
      const [code] = (await once(socket, 'close')) as [number];
      return code === 4006;
    },
  };
}

describe('bad tokens', () => {
  it('hold up no valid one of the same address, known before or not', async () => {
    const server = await start({});
    try {
      for (const [name, guess] of Object.entries(interfaces(server))) {
        for (let i = 0; i < 20; i++) await guess({})();
        const headers = { authorization: `Bearer ${apiKeys.admin}` };
        const options = { host: '127.0.0.1', port: httpPort(server), path: '/v1/users/x/status', headers };
        assert.equal(await statusOf(options), 200, name);
        assert.equal(await grpcStatus(server.grpcPort, { authorization: `Bearer ${apiKeys.read}` }), 0, name);
      }
    } finally {
      await server.stop();
    }
  });
});

describe('headers of proxies', () => {
  for (const [header, value] of [
    ['x-forwarded-for', (address: string) => `6.6.6.6, ${address}`],
    ['forwarded', (address: string) => `for=6.6.6.6, for="${address}";proto=https`],
  ] as const) {
    it(`tell who calls on every interface: ${header}`, async () => {
      const server = await start({ TRUSTED_PROXIES: '127.0.0.1', FORWARDED_HEADER: header });
      try {
        let client = 0;
        for (const [name, guess] of Object.entries(interfaces(server))) {
          const from = (address: string) => guess({ [header]: value(address) });
          const first = `192.0.2.${++client}`;
          assert.equal(await guessesBeforeRefusal(from(first)), failures, name);
          assert.equal(await from(`192.0.2.${++client}`)(), false, `${name}: another client`);
          // A header that these proxies do not write is the client's.
          const other = header === 'forwarded' ? 'x-forwarded-for' : 'forwarded';
          assert.equal(await guess({ [header]: value(first), [other]: 'for=9.9.9.9' })(), true, name);
        }
      } finally {
        await server.stop();
      }
    });
  }

  it('are believed from nobody else', async () => {
    const server = await start({ TRUSTED_PROXIES: '10.0.0.0/8, ::1' });
    try {
      let client = 0;
      const guess = interfaces(server);
      const refused: boolean[] = [];
      for (const name of ['http', 'grpc', 'connect', 'webSocket'] as const) {
        refused.push((await guess[name]?.({ 'x-forwarded-for': `192.0.2.${++client}` })()) as boolean);
      }
      assert.deepEqual(refused, [false, false, true, true]);
    } finally {
      await server.stop();
    }
  });
});

describe('PROXY preambles', () => {
  let server: TestServer;
  before(async () => {
    server = await start({ TRUSTED_PROXIES: '127.0.0.1', PROXY_PROTOCOL: 'true' });
  });
  after(() => server.stop());

  const statusLine = async (
    port: number,
    parts: readonly (string | Buffer)[],
    localAddress = '127.0.0.1',
  ) => {
    const socket = connect({ host: '127.0.0.1', port, localAddress });
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
    });
    socket.on('error', () => {});
    const closed = new Promise((resolve) => socket.once('close', resolve));
    for (const part of parts) {
      socket.write(part);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await closed;
    return text.split('\r\n', 1)[0];
  };
  const ask = 'GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n';

  it('may come in pieces, with the request or before it', async () => {
    const port = httpPort(server);
    const line = 'PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n';
    assert.equal(await statusLine(port, [line + ask]), 'HTTP/1.1 200 OK');
    assert.equal(await statusLine(port, [line, ask]), 'HTTP/1.1 200 OK');
    assert.equal(await statusLine(port, ['PRO', 'XY UNKNOWN\r', `\n${ask}`]), 'HTTP/1.1 200 OK');
  });

  it('are asked of trusted proxies, in time, and of a bounded length', async () => {
    for (const port of [httpPort(server), server.grpcPort]) {
      assert.equal(await statusLine(port, [ask]), '');
      assert.equal(await statusLine(port, ['']), '', 'silence');
      assert.equal(await statusLine(port, ['PROXY TCP4 192']), '', 'half a line');
      assert.equal(await statusLine(port, [`PROXY UNKNOWN ${'x'.repeat(1_000_000)}`]), '');
    }
  });

  it('of somebody else are a bad request', async () => {
    const line = 'PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n';
    assert.equal(await statusLine(httpPort(server), [line + ask], '127.0.0.9'), 'HTTP/1.1 400 Bad Request');
    assert.equal(await statusLine(httpPort(server), [ask], '127.0.0.9'), 'HTTP/1.1 200 OK');
    const answer = await statusLine(
      server.grpcPort,
      [`${line}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`],
      '127.0.0.9',
    );
    assert.doesNotMatch(answer ?? '', /grpc-status/);
  });
});

describe('a real proxy', () => {
  let folder: string;
  const running: { child: ReturnType<typeof startProcess>; server: TestServer }[] = [];
  before(() => {
    folder = temporaryFolder('proxies');
    const path = (name: string) => join(folder, name);
    makeAuthority(path, 'ca');
    makeCertificate(path, 'ca', 'server');
  });
  after(async () => {
    for (const { child, server } of running) {
      await endProcess(child);
      await server.stop();
    }
    rmSync(folder, { recursive: true, force: true });
  });

  const run = async (
    server: TestServer,
    name: string,
    configuration: (http: number, grpc: number) => string,
    command: (file: string) => readonly [string, ...string[]],
  ) => {
    const [http, grpc] = [await freePort(), await freePort()];
    const file = join(folder, `${name}.conf`);
    writeFileSync(file, configuration(http, grpc));
    const [program, ...args] = command(file);
    const child = startProcess(program, args, {
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` },
    });
    running.push({ child, server });
    let said = '';
    child.stderr.on('data', (chunk) => {
      said += chunk;
    });
    const listens = async (port: number) => {
      const socket = connect(port, '127.0.0.1');
      const isOpen = await once(socket, 'connect').then(
        () => true,
        () => false,
      );
      socket.destroy();
      return isOpen;
    };
    await waitFor(
      () => `${name} to listen: ${said}`,
      async () => (await listens(http)) && (await listens(grpc)),
      30_000,
    );
    return { http, grpc };
  };

  const tellsClientsApart = async ({ http, grpc }: { http: number; grpc: number }, isSecure = false) => {
    assert.equal(await guessesBeforeRefusal(guessHttp(http, {}, '127.0.0.2', isSecure)), failures);
    assert.equal(await guessHttp(http, { 'x-forwarded-for': '127.0.0.3' }, '127.0.0.2', isSecure)(), true);
    assert.equal(await guessHttp(http, {}, '127.0.0.3', isSecure)(), false);
    assert.equal(await guessesBeforeRefusal(guessGrpc(grpc, {}, '127.0.0.4', isSecure)), failures);
    assert.equal(await guessGrpc(grpc, {}, '127.0.0.5', isSecure)(), false);
  };

  it('nginx tells clients apart by X-Forwarded-For', async () => {
    const server = await start({ TRUSTED_PROXIES: '127.0.0.1' });
    const ports = await run(
      server,
      'nginx',
      (http, grpc) => `
daemon off; worker_processes 1; pid ${folder}/pid; error_log stderr;
events { worker_connections 64; }
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder};`).join(' ')}
  server {
    listen 127.0.0.1:${http};
    location / {
      proxy_pass ${server.httpUrl};
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
  server {
    listen 127.0.0.1:${grpc} http2;
    location / { grpc_pass grpc://127.0.0.1:${server.grpcPort}; grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }
  }
}`,
      (file) => ['nginx', '-e', 'stderr', '-p', folder, '-c', file],
    );
    await tellsClientsApart(ports);
  });

  for (const version of ['send-proxy', 'send-proxy-v2']) {
    for (const isSecure of [false, true]) {
      it(`HAProxy tells clients apart by ${version}${isSecure ? ', before TLS' : ''}`, async () => {
        const server = await start({
          TRUSTED_PROXIES: '127.0.0.1',
          PROXY_PROTOCOL: 'true',
          ...(isSecure && { TLS_CERT: join(folder, 'server.pem'), TLS_KEY: join(folder, 'server.key') }),
        });
        const ports = await run(
          server,
          `haproxy-${version}-${isSecure}`,
          (http, grpc) => `
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen http
  bind 127.0.0.1:${http}
  server one 127.0.0.1:${httpPort(server)} ${version}
listen grpc
  bind 127.0.0.1:${grpc}
  server one 127.0.0.1:${server.grpcPort} ${version}
`,
          (file) => ['haproxy', '-db', '-f', file],
        );
        await tellsClientsApart(ports, isSecure);
      });
    }
  }
});
