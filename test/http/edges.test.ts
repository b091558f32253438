/** HTTP as it is on the wire: upgrades, answers before the body, methods, codings. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import { apiKeys, apiKeysFile, secureEnvironment } from '../security/support/credentials.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { type RawAnswer, RawHttp } from './support/raw-http.ts';

const rpc = '/presence.v1.PresenceService';
const json = 'content-type: application/json';
const big = 1_400_000;

describe('HTTP on the wire', () => {
  let server: TestServer;
  const open: RawHttp[] = [];

  before(async () => {
    server = await startServer({ USER_STATUS_TTL: '30s', MAX_BULK_USERS: '5', DRAIN_TIMEOUT: '100ms' });
  });
  after(async () => {
    for (const connection of open) connection.drop();
    await server.stop();
  });

  async function connection(): Promise<RawHttp> {
    const raw = await RawHttp.open(server.httpUrl);
    open.push(raw);
    return raw;
  }
  async function answerTo(lines: readonly string[], body: string | Uint8Array = ''): Promise<RawAnswer> {
    return (await connection()).ask(lines, body);
  }
  const withBody = (body: string | Uint8Array, ...lines: string[]) => [
    ...lines,
    `content-length: ${body.length}`,
  ];
  function isError({ status, body, headers }: RawAnswer, expected: number, what: string): void {
    assert.equal(status, expected, what);
    assert.match(headers['content-type'] ?? '', /^application\/json/, what);
    assert.equal((JSON.parse(body) as { success: boolean }).success, false, what);
  }

  describe('an Upgrade that is no WebSocket is ignored', () => {
    const upgrade = [
      'connection: Upgrade, HTTP2-Settings',
      'upgrade: h2c',
      'http2-settings: AAMAAABkAAQCAAAAAAIAAAAA',
    ];

    it('on every kind of route, and on the connection afterwards', async () => {
      const raw = await connection();
      for (const path of [
        '/livez',
        '/readyz',
        '/metrics',
        '/v1/stats',
        '/openapi.json',
        '/v1/users/a/status',
      ]) {
        assert.equal((await raw.ask([`GET ${path} HTTP/1.1`, ...upgrade])).status, 200, path);
      }
      const set = '{"status":"ONLINE"}';
      const put = await raw.ask(withBody(set, 'PUT /v1/users/up/status HTTP/1.1', json, ...upgrade), set);
      assert.equal(put.status, 200);
      const call = '{"userId":"up"}';
      const post = await raw.ask(
        withBody(call, `POST ${rpc}/GetUserStatus HTTP/1.1`, json, ...upgrade),
        call,
      );
      assert.match(post.body, /"ONLINE"/);
      isError(await raw.ask(['GET /nothing HTTP/1.1', ...upgrade]), 404, 'no path');
      assert.equal((await raw.ask(['GET /livez HTTP/1.1'])).status, 200);
    });

    it('with a body in chunks, and with requests that follow at once', async () => {
      const raw = await connection();
      const chunked = ['PUT /v1/users/up/status HTTP/1.1', json, ...upgrade, 'transfer-encoding: chunked'];
      raw.send(chunked, '13\r\n{"status":"ONLINE"}\r\n0\r\n\r\n');
      raw.send(['GET /v1/users/up/status HTTP/1.1', ...upgrade]);
      raw.send(['GET /livez HTTP/1.1']);
      assert.equal((await raw.answer()).status, 200);
      assert.match((await raw.answer()).body, /"ONLINE"/);
      assert.equal((await raw.answer()).body, '{"status":"alive"}');
      const heads = ['/livez', '/nothing', '/livez'].map(
        (path) => `GET ${path} HTTP/1.1\r\nhost: localhost\r\n${upgrade.join('\r\n')}\r\n\r\n`,
      );
      for (const head of [
        heads.join(''),
        `GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n${heads.join('')}`,
      ]) {
        raw.write(head);
        if (head.startsWith('GET /readyz')) assert.equal((await raw.answer()).status, 200);
        for (const status of [200, 404, 200]) assert.equal((await raw.answer()).status, status);
      }
    });

    it('with requests that follow, wherever the pieces end', async () => {
      const set = '{"status":"ONLINE"}';
      const lines = `host: localhost\r\n${upgrade.join('\r\n')}\r\n`;
      const sized = `PUT /v1/users/up/status HTTP/1.1\r\n${json}\r\n${lines}content-length: ${set.length}\r\n\r\n`;
      const chunked = `PUT /v1/users/up/status HTTP/1.1\r\n${json}\r\n${lines}transfer-encoding: chunked\r\n\r\n`;
      const get = `GET /livez HTTP/1.1\r\n${lines}\r\n`;
      const next = 'GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n';
      const cases: readonly (readonly string[])[] = [
        [sized, set + next],
        [sized, set.slice(0, 5), set.slice(5) + next],
        [sized.slice(0, 40), sized.slice(40) + set + next],
        [chunked, '13\r\n', set, '\r\n0\r\n', `\r\n${next}`],
        [get.slice(0, 30), get.slice(30) + next],
        [get.slice(0, -1), `\n${next}`],
        [get.slice(0, 30), get.slice(30) + get + sized, set + next],
      ];
      for (const pieces of cases) {
        const raw = await connection();
        raw.socket.setNoDelay(true);
        for (const piece of pieces) {
          raw.write(piece);
          // Long enough to be read alone; if it is not, the case is an easier one.
          await setTimeout(20);
        }
        await waitFor(
          () => `the answer to the last of ${JSON.stringify(pieces)}`,
          () => raw.pending.endsWith('{"status":"ready"}'),
        );
        raw.drop();
      }
    });

    it('on event streams', async () => {
      const raw = await connection();
      raw.send(['GET /v1/events?watch=up HTTP/1.1', ...upgrade]);
      await waitFor('the snapshot', () => raw.pending.includes('"snapshot":true'));
      assert.match(raw.pending, /^HTTP\/1\.1 200 /);
      raw.drop();
    });

    it('of whatever protocol', async () => {
      for (const protocol of ['TLS/1.0', 'foo', 'h2c, IRC/6.9', 'websocket']) {
        const answer = await answerTo(['GET /livez HTTP/1.1', 'connection: upgrade', `upgrade: ${protocol}`]);
        assert.equal(answer.status, 200, protocol);
      }
    });
  });

  describe('the path of WebSocket sessions', () => {
    const good: Readonly<Record<string, string>> = {
      host: 'localhost',
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      'sec-websocket-protocol': 'presence.v1.json',
    };
    const handshake = (
      change: Readonly<Record<string, string | null>> = {},
      line = 'GET /v1/connect HTTP/1.1',
    ) => [
      line,
      ...Object.entries({ ...good, ...change })
        .filter(([, value]) => value !== null)
        .map(([name, value]) => `${name}: ${value}`),
    ];
    const raw = async (lines: readonly string[]) => {
      const client = await connection();
      client.write(`${lines.join('\r\n')}\r\n\r\n`);
      return client.answer();
    };

    it('takes a handshake', async () => {
      assert.equal((await raw(handshake())).status, 101);
      assert.equal((await raw(handshake({ upgrade: 'h2c, WebSocket' }))).status, 101);
    });

    it('asks for the upgrade where there is none', async () => {
      for (const change of [{ upgrade: null, connection: null }, { upgrade: 'h2c' }, { upgrade: null }]) {
        const answer = await raw(handshake(change));
        isError(answer, 426, JSON.stringify(change));
        assert.equal(answer.headers.upgrade, 'websocket');
      }
    });

    it('names the version that it takes', async () => {
      for (const [version, status] of [
        ['8', 426],
        ['12', 426],
        ['14', 426],
        ['x', 400],
        [null, 400],
      ] as const) {
        const answer = await raw(handshake({ 'sec-websocket-version': version }));
        isError(answer, status, `version ${version}`);
        assert.equal(answer.headers['sec-websocket-version'], '13', `version ${version}`);
      }
    });

    it('refuses what is no handshake', async () => {
      const wrongs: [string, readonly string[]][] = [
        ['no Host', handshake({ host: null })],
        ['HTTP/1.0', handshake({}, 'GET /v1/connect HTTP/1.0')],
        ['no key', handshake({ 'sec-websocket-key': null })],
        ['a short key', handshake({ 'sec-websocket-key': 'c2hvcnQ=' })],
        ['no Connection', handshake({ connection: 'keep-alive' })],
        ['no subprotocol', handshake({ 'sec-websocket-protocol': null })],
        [
          'subprotocols that are none',
          handshake({ 'sec-websocket-protocol': 'presence.v1.json, presence.v1.json' }),
        ],
      ];
      for (const [what, lines] of wrongs) isError(await raw(lines), 400, what);
      const post = await raw(handshake({}, 'POST /v1/connect HTTP/1.1'));
      isError(post, 405, 'POST');
      assert.equal(post.headers.allow, 'GET, HEAD, OPTIONS');
      isError(await raw(handshake({}, 'GET /v1/other HTTP/1.1')), 404, 'another path');
      isError(await raw(handshake({ origin: 'https://evil.example' })), 403, 'another origin');
    });
  });

  describe('an answer before the body was read', () => {
    const cases: [what: string, lines: readonly string[], sent: string, status: number][] = [
      [
        'gRPC-Web, too large',
        [`POST ${rpc}/GetUserStatus HTTP/1.1`, 'content-type: application/grpc-web+proto'],
        grpcWeb(big),
        200,
      ],
      [
        'Connect, too large',
        [`POST ${rpc}/GetUserStatus HTTP/1.1`, json],
        `{"userId":"${'x'.repeat(big)}"}`,
        429,
      ],
      [
        'Connect, no such type',
        [`POST ${rpc}/GetUserStatus HTTP/1.1`, 'content-type: text/plain'],
        'x'.repeat(big),
        400,
      ],
      ['Connect, no such rpc', [`POST ${rpc}/Nothing HTTP/1.1`, json], 'x'.repeat(big), 404],
      ['Connect, another method', [`PUT ${rpc}/GetUserStatus HTTP/1.1`, json], 'x'.repeat(big), 405],
      ['REST, too large', ['POST /v1/users/status:batchGet HTTP/1.1', json], 'x'.repeat(big), 400],
      ['REST, no such path', ['POST /nothing HTTP/1.1', json], 'x'.repeat(big), 404],
      ['REST, another method', ['DELETE /v1/users/a/status HTTP/1.1', json], 'x'.repeat(big), 405],
      [
        'REST, no such coding',
        ['PUT /v1/users/a/status HTTP/1.1', json, 'content-encoding: zstd'],
        'x'.repeat(big),
        415,
      ],
      ['a path with no body', ['GET /livez HTTP/1.1'], 'x'.repeat(big), 200],
      [
        'another origin',
        ['PUT /v1/users/a/status HTTP/1.1', json, 'origin: https://evil.example'],
        'x'.repeat(big),
        403,
      ],
    ];
    for (const [what, lines, body, status] of cases) {
      it(`says that the connection ends, and ends it: ${what}`, async () => {
        const raw = await connection();
        const answer = await raw.ask(withBody(body, ...lines), body);
        assert.equal(answer.status, status);
        assert.equal(answer.headers.connection, 'close');
        await raw.closes();
        const chunked = await connection();
        const chunk = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
        const second = await chunked.ask([...lines, 'transfer-encoding: chunked'], chunk);
        assert.equal(second.status, status);
        assert.equal(second.headers.connection, 'close');
        await chunked.closes();
      });
    }

    it('reaches a client that never sends the body', async () => {
      const raw = await connection();
      const head = ['POST /v1/users/status:batchGet HTTP/1.1', json, `content-length: ${big}`];
      assert.equal((await raw.ask(head)).headers.connection, 'close');
      await raw.closes();
    });

    it('calls for no body that it would refuse', async () => {
      for (const path of ['/v1/users/status:batchGet', '/nothing']) {
        const raw = await connection();
        raw.send([`POST ${path} HTTP/1.1`, json, `content-length: ${big}`, 'expect: 100-continue']);
        await waitFor('the answer', () => raw.pending.includes('\r\n\r\n'));
        assert.match(raw.pending, /^HTTP\/1\.1 40[04] /);
        await raw.closes();
      }
      const raw = await connection();
      const body = '{"status":"ONLINE"}';
      raw.send(withBody(body, 'PUT /v1/users/expects/status HTTP/1.1', json, 'expect: 100-continue'));
      await waitFor('100', () => raw.pending.startsWith('HTTP/1.1 100 '));
      raw.write(body);
      assert.equal((await raw.answer()).status, 200);
      isError(await raw.ask(['GET /livez HTTP/1.1', 'expect: tea']), 417, 'another expectation');
    });

    it('keeps the connection where the rest is short', async () => {
      const raw = await connection();
      for (const [line, status] of [
        ['POST /nothing HTTP/1.1', 404],
        ['DELETE /v1/users/a/status HTTP/1.1', 405],
        [`POST ${rpc}/Nothing HTTP/1.1`, 404],
      ] as const) {
        assert.equal((await raw.ask(withBody('{}', line, json), '{}')).status, status);
      }
      assert.equal((await raw.ask(['GET /livez HTTP/1.1'])).status, 200);
    });
  });

  describe('methods', () => {
    const allowed: Readonly<Record<string, string>> = {
      '/livez': 'GET, HEAD, OPTIONS',
      '/readyz': 'GET, HEAD, OPTIONS',
      '/metrics': 'GET, HEAD, OPTIONS',
      '/openapi.json': 'GET, HEAD, OPTIONS',
      '/': 'GET, HEAD, OPTIONS',
      '/v1/stats': 'GET, HEAD, OPTIONS',
      '/v1/stats/live': 'GET, HEAD, OPTIONS',
      '/v1/events?watch=a': 'GET, HEAD, OPTIONS',
      '/v1/connect': 'GET, HEAD, OPTIONS',
      '/v1/users/a%2Fb/status': 'GET, HEAD, OPTIONS, PUT',
      '/v1/users/a/privacy': 'GET, HEAD, OPTIONS, PUT',
      '/v1/users/a/connections': 'GET, HEAD, OPTIONS',
      '/v1/users/a/heartbeat': 'OPTIONS, POST',
      '/v1/users/status:batchGet': 'OPTIONS, POST',
      '/v1/users/a': 'DELETE, OPTIONS',
      [`${rpc}/GetUserStatus`]: 'OPTIONS, POST',
      [`${rpc}/SubscribeStatusUpdates`]: 'OPTIONS, POST',
    };

    it('that a path does not have are 405, with those it has', async () => {
      const raw = await connection();
      for (const [path, methods] of Object.entries(allowed)) {
        for (const method of [
          'DELETE',
          'PATCH',
          'PROPFIND',
          'TRACE',
          methods.includes('GET') ? 'POST' : 'GET',
        ]) {
          if (methods.split(', ').includes(method)) continue;
          const answer = await raw.ask([`${method} ${path} HTTP/1.1`]);
          isError(answer, 405, `${method} ${path}`);
          assert.equal(answer.headers.allow, methods, `${method} ${path}`);
        }
      }
      isError(await answerTo(['BREW / HTTP/1.1']), 400, 'no method of HTTP');
      isError(await answerTo(['CONNECT test.example:80 HTTP/1.1']), 405, 'CONNECT');
    });

    it('are listed by OPTIONS', async () => {
      const raw = await connection();
      for (const [path, methods] of Object.entries(allowed)) {
        const answer = await raw.ask([`OPTIONS ${path} HTTP/1.1`]);
        assert.deepEqual([answer.status, answer.headers.allow], [204, methods], path);
      }
      const all = await raw.ask(['OPTIONS * HTTP/1.1']);
      assert.deepEqual([all.status, all.headers.allow], [204, 'DELETE, GET, HEAD, OPTIONS, POST, PUT']);
      isError(await raw.ask(['OPTIONS /nothing HTTP/1.1']), 404, 'no path');
    });

    it('HEAD is GET without the body, and ends at once', async () => {
      const raw = await connection();
      for (const [path, methods] of Object.entries(allowed)) {
        if (!methods.includes('HEAD') || path === '/v1/connect') continue;
        const answer = await raw.ask([`HEAD ${path} HTTP/1.1`]);
        assert.equal(answer.status, 200, path);
        const type = answer.headers['content-type'];
        if (/events|live$/.test(path)) assert.match(type ?? '', /^text\/event-stream/, path);
      }
      assert.equal((await raw.ask(['HEAD /v1/events HTTP/1.1'])).status, 400);
      assert.equal((await raw.ask(['HEAD /v1/events?watch=a&user_id=looker HTTP/1.1'])).status, 200);
      await waitFor('no stream to be left', () => server.server.stats().http.streams === 0);
      const { data } = await server.client.getUserStatus({ userId: 'looker' });
      assert.equal(data?.since, 0n, 'asking for a head connects nobody');
      assert.equal((await raw.ask(['GET /livez HTTP/1.1'])).status, 200);
    });
  });

  describe('a head', () => {
    it('needs a Host, but for HTTP/1.0', async () => {
      const raw = await connection();
      raw.write('GET /livez HTTP/1.1\r\n\r\n');
      isError(await raw.answer(), 400, 'no Host');
      for (const [line, body] of [
        ['GET /livez HTTP/1.0', ''],
        [`POST ${rpc}/GetUserStatus HTTP/1.0`, '{"userId":"old"}'],
      ] as const) {
        const old = await connection();
        old.write(`${line}\r\n${json}\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
        assert.equal((await old.answer()).status, 200, line);
      }
    });

    it('is answered when it is too long', async () => {
      const raw = await connection();
      raw.send(['GET /livez HTTP/1.1', `x-long: ${'x'.repeat(200_000)}`]);
      isError(await raw.answer(), 400, 'too long');
    });
  });

  describe('content codings', () => {
    const body = '{"status":"ONLINE"}';
    const put = (sent: Uint8Array, coding: string) =>
      answerTo(
        withBody(sent, 'PUT /v1/users/coded/status HTTP/1.1', json, `content-encoding: ${coding}`),
        sent,
      );

    it('are taken', async () => {
      for (const [coding, sent] of [
        ['gzip', gzipSync(body)],
        ['x-gzip', gzipSync(body)],
        ['GZIP', gzipSync(body)],
        ['deflate', deflateSync(body)],
        ['br', brotliCompressSync(body)],
        ['identity', Buffer.from(body)],
      ] as const) {
        assert.equal((await put(sent, coding)).status, 200, coding);
      }
    });

    it('that there are not are 415, with those that there are', async () => {
      for (const coding of ['zstd', 'compress', 'gzip, br', 'constructor']) {
        const answer = await put(gzipSync(body), coding);
        isError(answer, 415, coding);
        assert.equal(answer.headers['accept-encoding'], 'gzip, deflate, br', coding);
      }
    });

    it('are bounded by what comes out, and must be what they say', async () => {
      const bomb = ' '.repeat(10_000_000);
      isError(await put(gzipSync(bomb), 'gzip'), 400, 'a bomb');
      isError(await put(brotliCompressSync(bomb), 'br'), 400, 'a bomb of brotli');
      isError(await put(Buffer.from(body), 'gzip'), 400, 'no gzip');
      isError(await put(Buffer.from(body), 'br'), 400, 'no brotli');
      isError(await put(gzipSync(body).subarray(0, 20), 'gzip'), 400, 'half of a gzip');
    });
  });

  it('refuses a head that two programs may read in two ways', async () => {
    const set = '{"status":"ONLINE"}';
    const put = `PUT /v1/users/smuggled/status HTTP/1.1`;
    const chunks = `13\r\n${set}\r\n0\r\n\r\n`;
    for (const [what, lines, body] of [
      ['two hosts', ['GET /livez HTTP/1.1', 'host: localhost', 'host: other.example'], ''],
      ['one host twice', ['GET /livez HTTP/1.1', 'host: localhost', 'Host: localhost'], ''],
      ['two hosts of HTTP/1.0', ['GET /livez HTTP/1.0', 'host: localhost', 'host: b'], ''],
      ['another version', ['GET /livez HTTP/2.0'], ''],
      ['another coding', [put, json, 'transfer-encoding: gzip, chunked'], chunks],
      ['two codings', [put, json, 'transfer-encoding: gzip', 'transfer-encoding: chunked'], chunks],
      ['a length and chunks', [put, json, 'content-length: 3', 'transfer-encoding: chunked'], chunks],
      ['two lengths', [put, json, 'content-length: 19', 'content-length: 3'], set],
      [
        'two hosts of a handshake',
        [
          'GET /v1/connect HTTP/1.1',
          'host: localhost',
          'host: other.example',
          'connection: Upgrade',
          'upgrade: websocket',
          'sec-websocket-version: 13',
          'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==',
          'sec-websocket-protocol: presence.v1.json',
        ],
        '',
      ],
    ] as const) {
      isError(await answerTo(lines, body), 400, what);
    }
    const state = await answerTo(['GET /v1/users/smuggled/status HTTP/1.1']);
    assert.match(state.body, /"OFFLINE"/);
  });

  it('closes after 426 where that is asked for', async () => {
    for (const lines of [['GET /v1/connect HTTP/1.1', 'connection: close'], ['GET /v1/connect HTTP/1.0']]) {
      const raw = await connection();
      assert.equal((await raw.ask(lines)).status, 426);
      await raw.closes();
    }
  });

  it('takes no path with a route of its own for that of a user', async () => {
    const path = '/v1/users/status:batchGet';
    for (const written of [path, '/v1/users/st%61tus:batchGet', `${path}?x=1`]) {
      const answer = await answerTo([`DELETE ${written} HTTP/1.1`]);
      isError(answer, 405, written);
      assert.equal(answer.headers.allow, 'OPTIONS, POST', written);
    }
    const put = await answerTo(
      withBody('{"status":"ONLINE"}', 'PUT /v1/users/status%3AbatchGet/status HTTP/1.1', json),
      '{"status":"ONLINE"}',
    );
    assert.match(put.body, /"status:batchGet"/);
    assert.equal((await answerTo(['DELETE /v1/users/status%3AbatchGet HTTP/1.1'])).status, 200);
  });

  it('takes no bytes that are not UTF-8 for a user', async () => {
    for (const id of ['%ff', '%c3%28', '%ed%a0%80', '%zz']) {
      isError(await answerTo([`GET /v1/users/${id}/status HTTP/1.1`]), 400, `path ${id}`);
      isError(await answerTo([`GET /v1/events?watch=${id} HTTP/1.1`]), 400, `watch ${id}`);
      isError(await answerTo([`GET /v1/events?watch=a&user_id=${id} HTTP/1.1`]), 400, `user_id ${id}`);
    }
  });
});

describe('HTTP on the wire, with authentication', () => {
  let server: TestServer;
  let keys: { file: string; remove: () => void };
  before(async () => {
    keys = apiKeysFile();
    server = await startServer({ ...secureEnvironment(keys.file), DRAIN_TIMEOUT: '100ms' });
  });
  after(async () => {
    await server.stop();
    keys.remove();
  });

  it('closes after a refusal before a long body, and serves after one before a short body', async () => {
    const body = `{"userIds":["${'x'.repeat(100_000)}"]}`;
    const head = ['POST /v1/users/status:batchGet HTTP/1.1', json];
    const raw = await RawHttp.open(server.httpUrl);
    const short = '{"userIds":["a"]}';
    const refused = await raw.ask([...head, `content-length: ${short.length}`], short);
    assert.equal(refused.status, 401);
    const key = `authorization: Bearer ${apiKeys.admin}`;
    assert.equal((await raw.ask(['GET /v1/users/a/status HTTP/1.1', key])).status, 200);
    for (const path of ['/metrics', '/nothing']) {
      const other = await RawHttp.open(server.httpUrl);
      const answer = await other.ask([`POST ${path} HTTP/1.1`, `content-length: ${body.length}`], body);
      assert.equal(answer.status, path === '/metrics' ? 405 : 401, path);
      assert.equal(answer.headers.connection, 'close');
      await other.closes();
    }
    raw.drop();
  });

  it('asks nobody for credentials who asks for a session, or for methods', async () => {
    const raw = await RawHttp.open(server.httpUrl);
    assert.equal((await raw.ask(['GET /v1/connect HTTP/1.1'])).status, 426);
    assert.equal((await raw.ask(['DELETE /v1/users/a/status HTTP/1.1'])).status, 405);
    assert.equal((await raw.ask(['OPTIONS /metrics HTTP/1.1'])).status, 204);
    assert.equal((await raw.ask(['GET /metrics HTTP/1.1'])).status, 401);
    raw.drop();
  });
});

/** A message of GetUserStatus with an id of so many bytes. */
function grpcWeb(idBytes: number): string {
  const varint = (value: number): string =>
    value < 128 ? String.fromCharCode(value) : String.fromCharCode((value & 127) | 128) + varint(value >>> 7);
  const message = `\n${varint(idBytes)}${'x'.repeat(idBytes)}`;
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return prefix.toString('latin1') + message;
}
