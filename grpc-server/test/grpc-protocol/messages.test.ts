import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { Code, data, Flag, headers, message, uint32 } from '../support/frames.ts';
import { encode } from '../support/hpack.ts';
import { call, callHeaders, grpcFields, request } from '../support/requests.ts';
import { Suite, useClient, useServer } from '../support/suite.ts';
import {
  BIDI,
  bytesMethod,
  CLIENT_STREAM,
  readAnswer,
  registerEcho,
  SERVER_STREAM,
  UNARY,
  value,
} from '../support/test-server.ts';

const GZIP = [['grpc-encoding', 'gzip']] as const;
const ACCEPTS_GZIP = [['grpc-accept-encoding', 'identity, gzip']] as const;
const suite = new Suite({}, registerEcho);

/** Sends a whole request body on stream 1 and reads the answer. */
async function answerTo(path: string, body: Uint8Array, extra: Parameters<typeof callHeaders>[2] = []) {
  let answer: Awaited<ReturnType<typeof readAnswer>> | undefined;
  await suite.use(async (client) => {
    client.send(callHeaders(1, path, extra));
    for (let at = 0; at < body.length; at += 16_384) client.send(data(1, body.subarray(at, at + 16_384)));
    client.send(data(1, '', Flag.END_STREAM));
    answer = await readAnswer(client, 1);
    await client.expectAlive();
  });
  assert.ok(answer);
  return answer;
}

test('M1 a message split at every byte over DATA frames', async () => {
  await suite.use(async (client) => {
    const body = message('split me');
    for (let at = 0; at <= body.length; at++) {
      const streamId = at * 2 + 1;
      client.send(callHeaders(streamId, UNARY), data(streamId, body.subarray(0, at)));
      await new Promise((resolve) => setImmediate(resolve));
      client.send(data(streamId, body.subarray(at), Flag.END_STREAM));
      assert.equal(
        (await readAnswer(client, streamId)).messages[0]?.bytes.toString(),
        'split me',
        `at ${at}`,
      );
    }
    client.send(callHeaders(101, UNARY));
    for (const byte of body) client.send(data(101, Buffer.from([byte])));
    client.send(data(101, '', Flag.END_STREAM));
    assert.equal((await readAnswer(client, 101)).messages[0]?.bytes.toString(), 'split me');
  });
});

test('M1 many messages in one DATA frame, and flags other than 0 and 1', async () => {
  const three = Buffer.concat([message('a'), message(''), message('ccc')]);
  const answer = await answerTo(BIDI, three);
  assert.deepEqual(
    answer.messages.map((m) => m.bytes.toString()),
    ['a', '', 'ccc'],
  );
  for (const flag of [2, 3, 0x80, 0xff]) {
    for (const path of [UNARY, BIDI])
      assert.equal((await answerTo(path, message('x', flag))).status, 13, `flag ${flag}`);
  }
});

test('M2 the size limit counts the declared length, before a byte of it has come', async () => {
  await useServer({ limits: { maxReceiveMessageBytes: 1_000 } }, async (server) => {
    for (const path of [UNARY, CLIENT_STREAM, BIDI]) {
      await useClient(server, async (client) => {
        client.send(callHeaders(1, path), data(1, Buffer.concat([Buffer.from([0]), uint32(1_001)])));
        assert.equal((await readAnswer(client, 1)).status, 8);
        client.send(call(3, UNARY, Buffer.alloc(1_000)));
        const exact = await readAnswer(client, 3);
        assert.equal(exact.status, 0, 'exactly the limit');
        client.send(callHeaders(5, UNARY), data(5, Buffer.from([0, 0xff, 0xff, 0xff, 0xff])));
        assert.equal((await readAnswer(client, 5)).status, 8);
        await client.expectAlive();
      });
    }
  });
});

test('M2 the size limit counts decompressed bytes', async () => {
  await useServer({ limits: { maxReceiveMessageBytes: 10_000 } }, async (server) => {
    await useClient(server, async (client) => {
      client.send(
        callHeaders(1, UNARY, GZIP),
        data(1, message(gzipSync(Buffer.alloc(10_001)), 1), Flag.END_STREAM),
      );
      assert.equal((await readAnswer(client, 1)).status, 8);
      client.send(
        callHeaders(3, UNARY, GZIP),
        data(3, message(gzipSync(Buffer.alloc(10_000)), 1), Flag.END_STREAM),
      );
      const exact = await readAnswer(client, 3);
      assert.equal(exact.status, 0);
      assert.equal(exact.messages[0]?.bytes.length, 10_000);
    });
  });
});

test('M2 a response above its limit is RESOURCE_EXHAUSTED', async () => {
  await useServer({ limits: { maxSendMessageBytes: 100 } }, async (server) => {
    await useClient(server, async (client) => {
      client.send(call(1, UNARY, Buffer.alloc(101)), call(3, UNARY, Buffer.alloc(100)));
      assert.equal((await readAnswer(client, 1)).status, 8);
      assert.equal((await readAnswer(client, 3)).status, 0);
    });
  });
});

test('M4 a compressed flag without an encoding is INTERNAL', async () => {
  assert.equal((await answerTo(UNARY, message(gzipSync('x'), 1))).status, 13);
  assert.equal(
    (await answerTo(UNARY, message(gzipSync('x'), 1), [['grpc-encoding', 'identity']])).status,
    13,
  );
});

test('M4 an unknown encoding is UNIMPLEMENTED with the list of ours', async () => {
  for (const unknown of ['snappy', 'GZIP2', 'x-gzip, gzip']) {
    const answer = await answerTo(UNARY, message('x', 1), [['grpc-encoding', unknown]]);
    assert.equal(answer.status, 12, unknown);
    const ours = value(answer.trailers, 'grpc-accept-encoding') ?? '';
    assert.match(ours, /gzip/);
    assert.ok(!ours.split(/, ?/).includes(unknown), ours);
  }
});

test('M4 corrupt data of a known encoding is INTERNAL', async () => {
  const good = gzipSync('some text that is long enough to break');
  const flipped = Buffer.from(good);
  flipped[15] = Number(flipped[15]) ^ 0xff;
  for (const bad of [Buffer.from('not gzip'), good.subarray(0, 20), flipped]) {
    assert.equal((await answerTo(UNARY, message(bad, 1), GZIP)).status, 13, bad.toString('hex'));
  }
});

test('M4 gzip is understood, compressed and plain messages may alternate', async () => {
  const body = Buffer.concat([message(gzipSync('one'), 1), message('two'), message(gzipSync(''), 1)]);
  const answer = await answerTo(CLIENT_STREAM, body, GZIP);
  assert.equal(answer.status, 0, `${answer.message}`);
  assert.equal(answer.messages[0]?.bytes.toString(), 'onetwo');
});

test('M5 answers are compressed only for a client that accepts it', async () => {
  await useServer({ compression: true }, async (server) => {
    const text = 'the same words again and again '.repeat(100);
    await useClient(
      server,
      async (client) => {
        client.send(
          call(1, UNARY, text, ACCEPTS_GZIP),
          call(3, UNARY, text),
          call(5, UNARY, '', ACCEPTS_GZIP),
        );
        const accepted = await readAnswer(client, 1);
        assert.equal(value(accepted.headers, 'grpc-encoding'), 'gzip');
        assert.equal(accepted.messages[0]?.flag, 1);
        assert.equal(gunzipSync(accepted.messages[0]?.bytes ?? Buffer.alloc(0)).toString(), text);
        const plain = await readAnswer(client, 3);
        assert.ok([undefined, 'identity'].includes(value(plain.headers, 'grpc-encoding')));
        assert.equal(plain.messages[0]?.flag, 0);
        assert.equal(plain.messages[0]?.bytes.toString(), text);
        assert.equal((await readAnswer(client, 5)).status, 0);
        for (const [i, list] of ['br', 'xgzip', '', 'identity'].entries()) {
          client.send(call(11 + 2 * i, UNARY, text, [['grpc-accept-encoding', list]]));
          const other = await readAnswer(client, 11 + 2 * i);
          assert.equal(other.status, 0);
          assert.equal(other.messages[0]?.flag, 0, `a client that accepts "${list}"`);
        }
      },
      { returnCredit: true },
    );
  });
});

test('M6 methods with one request get none, or two', async () => {
  for (const path of [UNARY, SERVER_STREAM]) {
    assert.equal((await answerTo(path, Buffer.alloc(0))).status, 12, `${path} without a message`);
    const two = await answerTo(path, Buffer.concat([message('\x01'), message('\x01')]));
    assert.equal(two.status, 12, `${path} with two messages`);
  }
  await suite.use(async (client) => {
    client.send(request(1, grpcFields(UNARY)));
    assert.equal((await readAnswer(client, 1)).status, 12, 'END_STREAM on HEADERS');
  });
});

test('M6 the end of the stream inside a message is INTERNAL', async () => {
  for (const path of [UNARY, CLIENT_STREAM, BIDI, SERVER_STREAM]) {
    for (const cut of [1, 4, 5, 7]) {
      const answer = await answerTo(path, message('whole').subarray(0, cut));
      assert.equal(answer.status, 13, `${path} cut after ${cut} bytes`);
    }
  }
});

test('M7 END_STREAM on HEADERS, on the last DATA, on an empty DATA', async () => {
  await suite.use(async (client) => {
    client.send(request(1, grpcFields(CLIENT_STREAM)), request(3, grpcFields(BIDI)));
    assert.equal((await readAnswer(client, 1)).status, 0);
    assert.equal((await readAnswer(client, 3)).status, 0);
    client.send(callHeaders(5, UNARY), data(5, message('x'), Flag.END_STREAM));
    client.send(callHeaders(7, UNARY), data(7, message('x')), data(7, '', Flag.END_STREAM));
    assert.equal((await readAnswer(client, 5)).status, 0);
    assert.equal((await readAnswer(client, 7)).status, 0);
  });
});

test('M8 request trailers are accepted, checked and ignored', async () => {
  await suite.use(async (client) => {
    const trailers = (id: number, name: string): Buffer =>
      headers(id, encode([[name, 'v']]), Flag.END_HEADERS | Flag.END_STREAM);
    client.send(callHeaders(1, UNARY), data(1, message('x')), trailers(1, 'x-trailer'));
    assert.equal((await readAnswer(client, 1)).status, 0);
    client.send(callHeaders(3, UNARY), data(3, message('x')), trailers(3, 'X-TRAILER'));
    await client.expectStreamError(3, Code.PROTOCOL_ERROR);
  });
});

test('a handler whose decode throws answers INTERNAL', async () => {
  await useServer(
    {},
    async (server) => {
      await useClient(server, async (client) => {
        client.send(call(1, '/test.Bad/Decode'));
        assert.equal((await readAnswer(client, 1)).status, 13);
        await client.expectAlive();
      });
      server.errors.length = 0;
    },
    (server) => {
      const method = bytesMethod('/test.Bad/Decode', 'unary');
      server.unary(
        {
          ...method,
          decode: () => {
            throw new Error('does not decode');
          },
        },
        (body) => body,
      );
    },
  );
});
