/** Pages whose name was pointed at this machine, and pages of the server's own name by another scheme. */
import assert from 'node:assert/strict';
import { type IncomingHttpHeaders, request } from 'node:http';
import { describe, it } from 'node:test';
import { readConfig } from '../../src/config.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { apiKeys, apiKeysFile } from './support/credentials.ts';

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** As a browser would send it, with the Host of its page. Only the head is awaited of a stream. */
function ask(
  server: TestServer,
  path: string,
  headers: Readonly<Record<string, string>>,
  method = 'GET',
  body = '',
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(server.httpUrl + path, { method, headers, agent: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      const status = answer.statusCode ?? 0;
      answer.on('data', (part: string) => {
        text += part;
      });
      const done = () => resolve({ status, headers: answer.headers, text });
      answer.on('end', done);
      if (answer.headers['content-type']?.startsWith('text/event-stream')) done();
      if (answer.headers['content-type']?.startsWith('text/event-stream')) sent.destroy();
    });
    sent.on('upgrade', ({ statusCode, headers: heads }, socket) => {
      socket.destroy();
      resolve({ status: statusCode ?? 0, headers: heads, text: '' });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

const json = { 'content-type': 'application/json' };
const webSocket = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  'sec-websocket-protocol': 'presence.v1.json',
};
const call = '/presence.v1.PresenceService/SetUserStatus';
/** Everything that a page can reach: method, path, headers, body. */
const surfaces: readonly (readonly [string, string, Record<string, string>, string])[] = [
  ['GET', '/', {}, ''],
  ['GET', '/v1/stats', {}, ''],
  ['GET', '/metrics', {}, ''],
  ['GET', '/openapi.json', {}, ''],
  ['GET', '/v1/users/ada/status', {}, ''],
  ['PUT', '/v1/users/ada/status', json, '{"status":"ONLINE"}'],
  ['POST', '/v1/users/ada/heartbeat', json, '{}'],
  ['GET', '/v1/events?watch=ada&user_id=ada', {}, ''],
  ['POST', call, json, '{"userId":"ada","status":"USER_STATUS_ONLINE"}'],
  ['POST', call, { 'content-type': 'application/grpc-web+proto' }, '\0\0\0\0\0'],
  ['GET', '/v1/connect', webSocket, ''],
];

async function statusBy(server: TestServer, host: string, headers = {}): Promise<number> {
  return (await ask(server, '/v1/users/ada/status', { host, ...headers })).status;
}

describe('names by which a server is reached', () => {
  it('without AUTH no page of another name gets anything, on any surface', async () => {
    const server = await startServer();
    const port = new URL(server.httpUrl).port;
    try {
      for (const host of [`rebind.evil.example:${port}`, 'localhost.evil.example', 'evil.example.']) {
        for (const [method, path, headers, body] of surfaces) {
          const name = `${method} ${path} of ${host}`;
          const page = { host, origin: `http://${host}`, ...headers };
          const answer = await ask(server, path, page, method, body);
          assert.equal(answer.status, 403, name);
          assert.match(
            answer.text,
            /not reached by the name .*; if it is yours, add it to ALLOWED_HOSTS/,
            name,
          );
        }
      }
      const { data } = await server.client.getUserStatus({ userId: 'ada' });
      assert.equal(data?.version, 0n, 'nobody set ada online');
    } finally {
      await server.stop();
    }
  });

  it('without AUTH loopback names pass, and no address of another machine', async () => {
    const server = await startServer();
    try {
      for (const host of [
        'localhost',
        'LOCALHOST:8080',
        'app.localhost:1',
        '127.0.0.1',
        '127.9.9.9:80',
        '[::1]:80',
      ]) {
        assert.equal(await statusBy(server, host), 200, host);
      }
      for (const host of [
        '192.0.2.1',
        '[2001:db8::1]:80',
        '127.0.0.1.evil.example',
        '127.1',
        '0.0.0.0',
        'xlocalhost',
      ]) {
        assert.equal(await statusBy(server, host), 403, host);
      }
      for (const path of ['/livez', '/readyz?verbose']) {
        assert.equal((await ask(server, path, { host: 'any.probe' })).status, 200, path);
      }
    } finally {
      await server.stop();
    }
  });

  it('ALLOWED_HOSTS adds names, with or without a port, and all below one', async () => {
    const server = await startServer({ ALLOWED_HOSTS: 'Presence.example, *.internal, pilot:8080' });
    try {
      for (const host of [
        'presence.example:9',
        'a.b.internal',
        'pilot:8080',
        'presence.example.',
        'localhost',
      ]) {
        assert.equal(await statusBy(server, host), 200, host);
      }
      for (const host of ['internal', 'xinternal', 'pilot', 'pilot:8081', 'a.presence.example']) {
        assert.equal(await statusBy(server, host), 403, host);
      }
      for (const list of ['http://x', 'a b', 'x,,y', '*', 'a.*.b', 'x:y', '[::1']) {
        assert.throws(() => readConfig({ ALLOWED_HOSTS: list }), /ALLOWED_HOSTS must name hosts/, list);
      }
    } finally {
      await server.stop();
    }
  });

  it('where other machines reach it, addresses are no names that a page could be given', async () => {
    const server = await startServer({ HOST: '0.0.0.0', ALLOW_INSECURE: 'true' });
    try {
      for (const host of ['192.0.2.1:8080', '[2001:db8::1]', 'localhost']) {
        assert.equal(await statusBy(server, host), 200, host);
      }
      for (const host of ['evil.example', '192.0.2.1.evil.example', 'server-1:8080']) {
        assert.equal(await statusBy(server, host), 403, host);
      }
    } finally {
      await server.stop();
    }
  });

  it('with AUTH any name passes until ALLOWED_HOSTS says which', async () => {
    const keys = apiKeysFile();
    const auth = { AUTH: 'api-keys', AUTH_API_KEYS_FILE: keys.file };
    const bearer = { authorization: `Bearer ${apiKeys.read}` };
    const open = await startServer(auth);
    const narrow = await startServer({ ...auth, ALLOWED_HOSTS: 'presence.example' });
    try {
      assert.equal(await statusBy(open, 'any.example', bearer), 200);
      assert.equal(await statusBy(narrow, 'presence.example', bearer), 200);
      assert.equal(await statusBy(narrow, 'any.example', bearer), 403);
    } finally {
      await open.stop();
      await narrow.stop();
      keys.remove();
    }
  });
});

describe('the scheme of an origin', () => {
  const host = 'presence.example';
  const options = { ALLOWED_HOSTS: host };
  const byPage = (server: TestServer, scheme: string, headers: Record<string, string> = {}) =>
    statusBy(server, host, { origin: `${scheme}://${host}`, ...headers });
  const byWebSocket = async (server: TestServer, scheme: string, headers: Record<string, string> = {}) => {
    const all = { host, origin: `${scheme}://${host}`, ...webSocket, ...headers };
    return (await ask(server, '/v1/connect', all)).status;
  };

  it('is part of it', async () => {
    const server = await startServer(options);
    const forged = { 'x-forwarded-proto': 'https', forwarded: 'proto=https' };
    try {
      assert.equal(await byPage(server, 'http'), 200);
      assert.equal(await byPage(server, 'https'), 403);
      assert.equal(await byPage(server, 'https', forged), 403, 'nobody is a trusted proxy');
      assert.equal(await byWebSocket(server, 'http'), 101);
      assert.equal(await byWebSocket(server, 'https', forged), 403);
    } finally {
      await server.stop();
    }
  });

  it('is what a trusted proxy says', async () => {
    for (const [kind, header] of [
      ['x-forwarded-for', (scheme: string) => ({ 'x-forwarded-proto': scheme })],
      ['forwarded', (scheme: string) => ({ forwarded: `for=192.0.2.1;proto=${scheme}` })],
    ] as const) {
      const server = await startServer({ ...options, TRUSTED_PROXIES: '127.0.0.1', FORWARDED_HEADER: kind });
      try {
        assert.equal(await byPage(server, 'https', header('https')), 200, kind);
        assert.equal(await byPage(server, 'http', header('https')), 403, kind);
        assert.equal(await byPage(server, 'http', header('http')), 200, kind);
        assert.equal(await byWebSocket(server, 'https', header('HTTPS')), 101, kind);
        assert.equal(await byWebSocket(server, 'http', header('https')), 403, kind);
        assert.equal(await byPage(server, 'https', header('gopher')), 403, kind);
      } finally {
        await server.stop();
      }
    }
  });
});
