import assert from 'node:assert/strict';
import { connect as connectHttp2, constants } from 'node:http2';
import { after, before, describe, test } from 'node:test';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { message } from '../support/frames.ts';
import { makeCertificate } from '../support/programs.ts';
import { deadline, RawClient } from '../support/raw-client.ts';
import { call, get } from '../support/requests.ts';
import {
  PLAIN_BODY,
  readAnswer,
  splitMessages,
  startServer,
  type TestServer,
  UNARY,
} from '../support/test-server.ts';

const tls = makeCertificate();

interface Response {
  readonly headers: Record<string, unknown>;
  readonly trailers: Record<string, unknown>;
  readonly body: Buffer;
}

for (const secure of [false, true]) {
  describe(`node:http2 (nghttp2) over ${secure ? 'TLS' : 'h2c'}`, () => {
    let server: TestServer;
    before(async () => {
      server = await startServer(secure ? { tls } : {});
    });
    after(() => server.close());

    async function exchange(
      requests: readonly { headers: Record<string, string>; body?: Uint8Array }[],
    ): Promise<Response[]> {
      const session = connectHttp2(`${secure ? 'https' : 'http'}://localhost:${server.port}`, {
        ca: tls.cert,
      });
      const failed = new Promise<never>((_, reject) => session.once('error', reject));
      try {
        const responses = requests.map(({ headers, body }) => {
          const stream = session.request(headers);
          stream.end(body);
          return new Promise<Response>((resolve, reject) => {
            const parts: Buffer[] = [];
            let head: Record<string, unknown> = {};
            let tail: Record<string, unknown> = {};
            stream.on('response', (received) => {
              head = received;
            });
            stream.on('trailers', (received) => {
              tail = received;
            });
            stream.on('data', (chunk: Buffer) => parts.push(chunk));
            stream.on('error', reject);
            stream.on('end', () => resolve({ headers: head, trailers: tail, body: Buffer.concat(parts) }));
          });
        });
        return await deadline(Promise.race([Promise.all(responses), failed]), 'the answers', 20_000);
      } finally {
        session.destroy();
      }
    }

    function grpc(
      body: Uint8Array,
      extra: Record<string, string> = {},
    ): { headers: Record<string, string>; body: Buffer } {
      return {
        headers: {
          ':method': 'POST',
          ':path': UNARY,
          'content-type': 'application/grpc',
          te: 'trailers',
          ...extra,
        },
        body: message(body),
      };
    }

    test('the plain route', async () => {
      const [one] = await exchange([{ headers: { ':path': '/' } }]);
      assert.equal(one?.headers[':status'], 200);
      assert.equal(one?.body.toString(), PLAIN_BODY);
    });

    test('a hundred unary calls at once, small and large', async () => {
      const bodies = Array.from({ length: 100 }, (_, i) => Buffer.alloc((i % 10) * 20_000 + i, i));
      const answers = await exchange(bodies.map((body) => grpc(body, { 'x-long': 'v'.repeat(3_000) })));
      for (const [i, answer] of answers.entries()) {
        assert.equal(answer.headers[':status'], 200);
        assert.equal(answer.trailers['grpc-status'], '0');
        assert.ok(splitMessages(answer.body)[0]?.bytes.equals(bodies[i] as Buffer));
      }
    });

    test('an unknown method is Trailers-Only', async () => {
      const [one] = await exchange([grpc(Buffer.alloc(0), { ':path': '/no.Such/Method' })]);
      assert.equal(one?.headers['grpc-status'], '12');
    });

    test('settings, a PING, a GOAWAY, as nghttp2 sees them', async () => {
      const session = connectHttp2(`${secure ? 'https' : 'http'}://localhost:${server.port}`, {
        ca: tls.cert,
      });
      try {
        await deadline(new Promise((resolve) => session.once('remoteSettings', resolve)), 'SETTINGS');
        assert.equal(session.remoteSettings.maxConcurrentStreams, server.server.limits.maxConcurrentStreams);
        const answer = await deadline(
          new Promise<Buffer>((resolve, reject) =>
            session.ping(Buffer.from('12345678'), (error, _ms, payload) =>
              error ? reject(error) : resolve(payload),
            ),
          ),
          'PING ACK',
        );
        assert.equal(answer.toString(), '12345678');
        session.settings({ headerTableSize: 0 });
        await deadline(new Promise((resolve) => session.once('localSettings', resolve)), 'SETTINGS ACK');
      } finally {
        session.goaway(constants.NGHTTP2_NO_ERROR);
        session.destroy();
      }
    });
  });
}

describe('TLS (RFC 9113 section 9.2)', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({ tls });
  });
  after(async () => {
    await server.close();
    assert.deepEqual(server.errors, [], 'a failed handshake is no internal error');
  });

  /** What a handshake with these options ends in: the protocol chosen, or nothing. */
  async function handshake(options: ConnectionOptions): Promise<string> {
    const socket = connectTls({
      host: '127.0.0.1',
      port: server.port,
      rejectUnauthorized: false,
      ...options,
    });
    try {
      return await deadline(
        new Promise<string>((resolve) => {
          socket.on('error', (error) => resolve(`error ${(error as NodeJS.ErrnoException).code}`));
          socket.on('end', () => resolve('end'));
          socket.on('close', () => resolve('close'));
          socket.on('data', () => resolve(`data after ${socket.alpnProtocol}`));
          socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0');
        }),
        'the end of the handshake',
      );
    } finally {
      socket.destroy();
    }
  }

  test('ALPN h2 is served, over TLS 1.2 and 1.3', async () => {
    assert.equal(await handshake({ ALPNProtocols: ['h2'] }), 'data after h2');
    assert.equal(await handshake({ ALPNProtocols: ['http/1.1', 'h2'] }), 'data after h2');
    assert.equal(
      await handshake({
        ALPNProtocols: ['h2'],
        maxVersion: 'TLSv1.2',
        ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256',
      }),
      'data after h2',
    );
  });

  test('without ALPN h2 there is no connection', async () => {
    for (const ALPNProtocols of [['h2c'], ['http/1.1'], []]) {
      assert.doesNotMatch(await handshake({ ALPNProtocols }), /^data/, `ALPN ${ALPNProtocols}`);
    }
  });

  test('TLS 1.1 and the prohibited cipher suites are refused', async () => {
    const old = { ALPNProtocols: ['h2'], minVersion: 'TLSv1', maxVersion: 'TLSv1.1' } as const;
    assert.doesNotMatch(await handshake({ ...old, ciphers: 'DEFAULT@SECLEVEL=0' }), /^data/);
    for (const ciphers of ['ECDHE-ECDSA-AES128-SHA256', 'ECDHE-ECDSA-AES256-SHA']) {
      assert.doesNotMatch(
        await handshake({ ALPNProtocols: ['h2'], maxVersion: 'TLSv1.2', ciphers }),
        /^data/,
        ciphers,
      );
    }
  });

  test('plain text on the TLS port, and a silent socket, harm nobody', async () => {
    const plain = await RawClient.connect(server.port, { handshake: false });
    plain.send(get(1));
    await plain.expectClosedWithin(5_000);
    const good = await RawClient.connect(server.port, { tls: {} });
    good.send(call(1, UNARY, 'x'));
    assert.equal((await readAnswer(good, 1)).status, 0);
    await good.close();
  });
});
