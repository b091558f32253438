import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Code, data, Flag, headers, Type } from '../support/frames.ts';
import { encode, type Field } from '../support/hpack.ts';
import type { RawClient } from '../support/raw-client.ts';
import { callHeaders, get, grpcFields, plainFields, post, request } from '../support/requests.ts';
import { Suite } from '../support/suite.ts';
import { readAnswer, UNARY, value } from '../support/test-server.ts';
import { answered } from './case.ts';

const END = Flag.END_HEADERS | Flag.END_STREAM;
const suite = new Suite();

/** A request with these fields is malformed: stream error PROTOCOL_ERROR, and no call is started. */
async function expectMalformed(fields: readonly Field[], endStream = true): Promise<void> {
  await suite.use(async (client) => {
    client.send(request(1, fields, endStream));
    try {
      await client.expectStreamError(1, Code.PROTOCOL_ERROR);
    } catch (error) {
      throw new Error(`${JSON.stringify(fields.at(-1))} was not refused: ${(error as Error).message}`);
    }
  });
}

function withField(name: string, fieldValue: string): Field[] {
  return plainFields('GET', [[name, fieldValue]]);
}

/** 400, or INTERNAL, or PROTOCOL_ERROR: the three refusals that gRFC A41 names. */
async function expectRefused(client: RawClient, streamId: number): Promise<void> {
  const found = await client.next(
    (f) => f.streamId === streamId && (f.fields !== undefined || f.type === Type.RST_STREAM),
    `a refusal on ${streamId}`,
  );
  if (found.type === Type.RST_STREAM) assert.equal(found.payload.readUInt32BE(), Code.PROTOCOL_ERROR);
  else {
    const fields = found.fields ?? [];
    assert.ok(
      value(fields, ':status') === '400' || value(fields, 'grpc-status') === '13',
      JSON.stringify(fields),
    );
  }
  await client.expectAlive();
}

test('x/21 bytes that no field name may have', async () => {
  const bad: number[] = [];
  for (let byte = 0; byte <= 0x20; byte++) bad.push(byte);
  for (let byte = 0x41; byte <= 0x5a; byte++) bad.push(byte);
  for (let byte = 0x7f; byte <= 0xff; byte++) bad.push(byte);
  for (const byte of bad) await expectMalformed(withField(`x-${String.fromCharCode(byte)}y`, 'v'));
  await expectMalformed(withField('x:y', 'v'));
  await expectMalformed(withField('', 'v'));
});

test('x/22 bytes that no field value may have, and obs-text, which it may', async () => {
  for (const bad of ['a\0b', 'a\rb', 'a\nb', ' a', 'a ', '\ta', 'a\t', ' ', '\0']) {
    await expectMalformed(withField('x-test', bad));
  }
  await suite.use(async (client) => {
    client.send(request(1, withField('x-test', 'a\x80\xfe\xffb')), request(3, withField('x-test', 'a b\tc')));
    client.send(request(5, withField('x-empty', '')));
    for (const streamId of [1, 3, 5]) await answered(streamId)(client);
  });
});

test('x/23 connection-specific fields', async () => {
  for (const name of ['connection', 'proxy-connection', 'keep-alive', 'transfer-encoding', 'upgrade']) {
    await expectMalformed(withField(name, name === 'transfer-encoding' ? 'chunked' : 'x'));
    await expectMalformed(grpcFields(UNARY, [[name, 'x']]), false);
  }
  await expectMalformed(withField('te', 'gzip'));
  await suite.use(async (client) => {
    client.send(request(1, withField('te', 'trailers')));
    await answered(1)(client);
  });
});

test('x/24 :authority and Host that do not belong together', async () => {
  const grpc = grpcFields(UNARY);
  const withoutAuthority = grpc.filter(([name]) => name !== ':authority');
  const wrong: Field[][] = [
    grpc.map(([name, v]) => [name, name === ':authority' ? 'user@example.com' : v] as const),
    [...grpc, ['host', 'another.example']],
    [...withoutAuthority, ['host', 'a.example'], ['host', 'a.example']],
    [...withoutAuthority, ['host', 'a.example'], ['host', 'b.example']],
    [[':authority', 'a.example'], ...grpc],
  ];
  for (const fields of wrong) {
    await suite.use(async (client) => {
      client.send(request(1, fields, false));
      await expectRefused(client, 1);
    });
  }
  const right: Field[][] = [
    [...grpc, ['host', '127.0.0.1']],
    [...withoutAuthority, ['host', 'a.example']],
    withoutAuthority,
  ];
  for (const fields of right) {
    await suite.use(async (client) => {
      client.send(request(1, fields, false), data(1, Buffer.alloc(5), Flag.END_STREAM));
      assert.equal((await readAnswer(client, 1)).status, 0, JSON.stringify(fields));
    });
  }
});

test('x/25 CONNECT with a path, with a scheme, without an authority', async () => {
  await expectMalformed([
    [':method', 'CONNECT'],
    [':authority', 'a.example:1'],
    [':path', '/'],
  ]);
  await expectMalformed([
    [':method', 'CONNECT'],
    [':authority', 'a.example:1'],
    [':scheme', 'http'],
  ]);
  await expectMalformed([[':method', 'CONNECT']]);
});

test('x/26 content-length that is no length, or not this one', async () => {
  for (const bad of [
    '+1',
    '-0',
    '-1',
    '1,1',
    '1, 1',
    'abc',
    '',
    '0x1',
    '1.0',
    '99999999999999999999',
    '9007199254740993',
  ]) {
    await expectMalformed(plainFields('POST', [['content-length', bad]]), false);
  }
  await expectMalformed(
    plainFields('POST', [
      ['content-length', '4'],
      ['content-length', '5'],
    ]),
    false,
  );
  await expectMalformed(plainFields('POST', [['content-length', '4']]));
  await suite.use(async (client) => {
    client.send(post(1, [['content-length', '4']]), data(1, 'abc', Flag.END_STREAM));
    await client.expectStreamError(1, Code.PROTOCOL_ERROR);
  });
  await suite.use(async (client) => {
    client.send(get(1, [['content-length', '0']]), post(3, [['content-length', '4']]));
    client.send(data(3, 'ab'), data(3, 'cd', Flag.END_STREAM));
    await answered(1)(client);
    await answered(3)(client);
  });
});

test('x/27 trailers: twice, with DATA after them, legal', async () => {
  const trailers = headers(1, encode([['x-test', 'ok']]), END);
  for (const last of [trailers, data(1, 'late', Flag.END_STREAM)]) {
    await suite.use(async (client) => {
      client.send(post(1), data(1, 'test'), trailers, last);
      await client.expectStreamError(1, Code.STREAM_CLOSED);
    });
  }
  await suite.use(async (client) => {
    client.send(post(1), headers(1, encode([['X-Test', 'ok']]), END));
    await client.expectStreamError(1, Code.PROTOCOL_ERROR);
  });
  await suite.use(async (client) => {
    client.send(callHeaders(1, UNARY), data(1, Buffer.alloc(5)), trailers);
    assert.equal((await readAnswer(client, 1)).status, 0, 'request trailers are accepted and ignored');
  });
});

test('x/28 too many fields, too large a list, cookie crumbs: an answer, and the connection goes on', async () => {
  const crumbs = (n: number): Field[] => Array.from({ length: n }, () => ['cookie', 'a=b'] as const);
  const many = (n: number): Field[] => Array.from({ length: n }, (_, i) => [`x-${i}`, 'v'] as const);
  const large: Field[] = [1, 2, 3, 4, 5].map((i) => [`x-${i}`, 'x'.repeat(3_900)] as const);
  for (const extra of [many(150), crumbs(150), large]) {
    await suite.use(async (client) => {
      const block = encode(grpcFields(UNARY, extra));
      client.send(headers(1, block.subarray(0, 16_000), block.length > 16_000 ? 0 : Flag.END_HEADERS));
      if (block.length > 16_000) client.send(headersRest(block.subarray(16_000)));
      client.send(data(1, Buffer.alloc(5), Flag.END_STREAM));
      const { fields } = await client.expectHeaders(1);
      assert.ok(
        value(fields, ':status') === '431' || value(fields, 'grpc-status') === '8',
        JSON.stringify(fields),
      );
      client.send(get(3));
      await answered(3)(client);
    });
  }
  await suite.use(async (client) => {
    client.send(request(1, plainFields('GET', many(90))));
    await answered(1)(client);
  });
  await suite.use(async (client) => {
    const empty: Field[] = Array.from({ length: 1_500 }, () => ['a', ''] as const);
    client.send(request(1, plainFields('GET', empty)));
    await client.expectGoaway(Code.ENHANCE_YOUR_CALM);
  });
});

function headersRest(block: Uint8Array): Buffer {
  const out = headers(1, block, Flag.END_HEADERS);
  out[3] = Type.CONTINUATION;
  return out;
}
