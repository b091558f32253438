import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Code, continuation, data, Flag, headers, message, Setting, settings } from '../support/frames.ts';
import { encode, type Field, huffmanEncode, integer, literalIndexed, string } from '../support/hpack.ts';
import type { RawClient } from '../support/raw-client.ts';
import { call, get, grpcFields, plainFields } from '../support/requests.ts';
import { Suite } from '../support/suite.ts';
import { bytesMethod, readAnswer, value } from '../support/test-server.ts';
import { answered } from './case.ts';

const END = Flag.END_HEADERS | Flag.END_STREAM;
const BLOCK = encode(plainFields());
const ECHO = '/test.Metadata/Echo';
const FIRST_DYNAMIC = 62;

/** Answers with what the request had in `x-echo`. */
const suite = new Suite({}, (server) => {
  server.unary(bytesMethod(ECHO, 'unary'), (_request, one) =>
    Buffer.from(one.metadata.get('x-echo') ?? 'none', 'latin1'),
  );
});

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(' ', ''), 'hex');
}

async function expectCompressionError(block: Uint8Array): Promise<void> {
  await suite.use(async (client) => {
    client.send(headers(1, block, END));
    await client.expectGoaway(Code.COMPRESSION_ERROR);
  });
}

function sendCall(client: RawClient, streamId: number, ...block: readonly Uint8Array[]): void {
  client.send(headers(streamId, Buffer.concat(block)), data(streamId, message(), Flag.END_STREAM));
}

async function expectEcho(client: RawClient, streamId: number, echoed: string): Promise<void> {
  const answer = await readAnswer(client, streamId);
  assert.equal(answer.status, 0, `${answer.message}`);
  assert.equal(answer.messages[0]?.bytes.toString('latin1'), echoed);
}

test('x/29 integers that are too long or too large', async () => {
  for (const bad of [
    'ff 80 80 80 80 80 80 01',
    'ff ff ff ff ff ff ff 7f',
    'ff ff ff ff ff 1f',
    `ff ${'80'.repeat(12_000)}`,
    '40 7f 80 80 80 80 80 80 00',
    '3f ff ff ff ff ff 7f',
  ]) {
    await expectCompressionError(bad.startsWith('3f') ? hex(bad) : Buffer.concat([BLOCK, hex(bad)]));
  }
});

test('x/30 a string longer than the rest of the block', async () => {
  for (const bad of [
    '40 05 61',
    '40 7f ff ff ff 07 61',
    '00 01 61 7f 80 80 80 01',
    '40 ff ff ff ff 07',
    '00 01 61 ff',
  ]) {
    await expectCompressionError(Buffer.concat([BLOCK, hex(bad)]));
  }
});

test('x/31 Huffman: every symbol a value may have, the empty string, bad padding', async () => {
  let text = '';
  for (let byte = 0x20; byte <= 0xff; byte++) if (byte !== 0x7f) text += String.fromCharCode(byte);
  text = `[${text}\t]`;
  await suite.use(async (client) => {
    const ascii = text.slice(0, 0x60);
    sendCall(client, 1, encode(grpcFields(ECHO)), hex('00'), string('x-echo'), huffmanString(ascii));
    await expectEcho(client, 1, ascii);
    client.send(headers(3, Buffer.concat([BLOCK, hex('00'), string('x-echo'), huffmanString(text)]), END));
    const { fields } = await client.expectHeaders(3);
    assert.ok(value(fields, ':status'), 'a value with every symbol decodes');
    sendCall(client, 5, encode(grpcFields(ECHO)), hex('00'), string('x-echo'), hex('80'));
    await expectEcho(client, 5, '');
    await client.expectAlive();
  });
  for (const bad of ['81 ff', '82 1f ff', '81 00', '84 ff ff ff ff', '84 ff ff ff fc']) {
    await expectCompressionError(Buffer.concat([BLOCK, hex('00 01 61'), hex(bad)]));
  }
});

function huffmanString(text: string): Buffer {
  const bytes = huffmanEncode(text);
  return Buffer.concat([integer(bytes.length, 7, 0x80), bytes]);
}

test('x/32 the dynamic table: resizing, eviction order, entries that do not fit', async () => {
  const echo = encode(grpcFields(ECHO));
  await suite.use(async (client) => {
    // Two entries, the later one has the lower index.
    sendCall(client, 1, echo, literalIndexed('x-other', 'no'), literalIndexed('x-echo', 'one'));
    await expectEcho(client, 1, 'one');
    sendCall(client, 3, echo, integer(FIRST_DYNAMIC, 7, 0x80));
    await expectEcho(client, 3, 'one');
    // Room for one entry of 9 + 32 bytes: the older one is evicted.
    sendCall(client, 5, integer(41, 5, 0x20), echo, integer(FIRST_DYNAMIC, 7, 0x80));
    await expectEcho(client, 5, 'one');
    // To nothing and back: the table is empty, then takes new entries.
    sendCall(client, 7, integer(0, 5, 0x20), integer(4096, 5, 0x20), echo, literalIndexed('x-echo', 'two'));
    await expectEcho(client, 7, 'two');
    sendCall(client, 9, echo, integer(FIRST_DYNAMIC, 7, 0x80));
    await expectEcho(client, 9, 'two');
    client.send(headers(11, Buffer.concat([echo, integer(FIRST_DYNAMIC + 1, 7, 0x80)]), END));
    await client.expectGoaway(Code.COMPRESSION_ERROR);
  });
  const three = Buffer.concat([0, 100, 4096].map((size) => integer(size, 5, 0x20)));
  await expectCompressionError(Buffer.concat([three, BLOCK]));
  await suite.use(async (client) => {
    // An entry larger than the table empties it and is not an error.
    sendCall(client, 1, integer(64, 5, 0x20), echo, literalIndexed('x-echo', 'kept'));
    await expectEcho(client, 1, 'kept');
    sendCall(client, 3, echo, literalIndexed('x-large', 'x'.repeat(100)));
    await readAnswer(client, 3);
    client.send(headers(5, Buffer.concat([echo, integer(FIRST_DYNAMIC, 7, 0x80)]), END));
    await client.expectGoaway(Code.COMPRESSION_ERROR);
  });
  await suite.use(async (client) => {
    // A new name taken from an entry that this very insertion evicts (RFC 7541 section 4.4).
    sendCall(client, 1, integer(60, 5, 0x20), echo, literalIndexed('x-echo', 'old'));
    await expectEcho(client, 1, 'old');
    sendCall(client, 3, echo, integer(FIRST_DYNAMIC, 6, 0x40), string('the new value'));
    await expectEcho(client, 3, 'the new value');
    sendCall(client, 5, echo, integer(FIRST_DYNAMIC, 7, 0x80));
    await expectEcho(client, 5, 'the new value');
  });
});

test('x/33 the server keeps the default table size, so that no block ever owes an update', async () => {
  // RFC 9113 section 4.3.1 has a rule for peers of a server that lowers it. Ours must not do so silently.
  await suite.use(async (client) => {
    assert.equal(client.serverSettings.get(Setting.HEADER_TABLE_SIZE) ?? 4096, 4096);
    client.send(headers(1, Buffer.concat([integer(4096, 5, 0x20), BLOCK]), END), get(3));
    await answered(1)(client);
    await answered(3)(client);
  });
});

test('x/34 after the client has lowered the table size, our next block begins with an update', async () => {
  await suite.use(async (client) => {
    client.send(call(1, ECHO), call(3, ECHO));
    await readAnswer(client, 3);
    for (const [i, size] of [0, 4096, 100, 64, 8192, 0].entries()) {
      client.send(settings([[Setting.HEADER_TABLE_SIZE, size]]));
      await client.expectSettingsAck();
      client.send(call(5 + i * 2, ECHO));
      assert.equal((await readAnswer(client, 5 + i * 2)).status, 0, `table of ${size}`);
    }
    // Lowered and raised within one round trip: both, the smallest first (RFC 7541 section 4.2).
    client.send(settings([[Setting.HEADER_TABLE_SIZE, 4096]]), call(101, ECHO));
    await readAnswer(client, 101);
    client.send(
      settings([[Setting.HEADER_TABLE_SIZE, 0]]),
      settings([[Setting.HEADER_TABLE_SIZE, 4096]]),
      call(103, ECHO),
    );
    assert.equal((await readAnswer(client, 103)).status, 0);
    const block = client.on(103).find((f) => f.block)?.block;
    assert.equal(block?.[0], 0x20, 'the update to 0 comes first');
  });
});

test('x/35 the decoder survives calls that were refused, malformed or too large', async () => {
  const tooMany: Field[] = Array.from({ length: 150 }, (_, i) => [`x-${i}`, 'v'] as const);
  const bad: [string, Buffer][] = [
    ['malformed', encode(plainFields('GET', [['X-UPPER', 'v']]))],
    ['unknown method', encode(grpcFields('/no.Such/Method'))],
    ['too many fields', encode(grpcFields(ECHO, tooMany))],
    [
      'too large',
      encode(
        grpcFields(ECHO, [
          ['x-large', 'x'.repeat(15_000)],
          ['x-more', 'y'.repeat(1_000)],
        ]),
      ),
    ],
    ['wrong content type', encode(plainFields('POST', [['content-type', 'text/plain']]))],
  ];
  for (const [what, block] of bad) {
    await suite.use(async (client) => {
      const whole = Buffer.concat([block, literalIndexed('x-echo', what)]);
      client.send(headers(1, whole.subarray(0, 16_000), whole.length > 16_000 ? Flag.END_STREAM : END));
      if (whole.length > 16_000) client.send(continuation(1, whole.subarray(16_000), Flag.END_HEADERS));
      sendCall(client, 3, encode(grpcFields(ECHO)), integer(FIRST_DYNAMIC, 7, 0x80));
      await expectEcho(client, 3, what);
      await client.expectAlive();
    });
  }
});

test('x/36 a block split at every byte over HEADERS and CONTINUATION', async () => {
  await suite.use(
    async (client) => {
      const block = Buffer.concat([
        encode(grpcFields(ECHO)),
        hex('00'),
        string('x-echo'),
        huffmanString('split'),
      ]);
      for (let at = 0; at <= block.length; at++) {
        const streamId = at * 2 + 1;
        client.send(headers(streamId, block.subarray(0, at), 0));
        await new Promise((resolve) => setImmediate(resolve));
        client.send(continuation(streamId, block.subarray(at), Flag.END_HEADERS));
        client.send(data(streamId, message(), Flag.END_STREAM));
        await expectEcho(client, streamId, 'split');
      }
    },
    { returnCredit: true },
  );
});

test('the Huffman code of this test support is the one of RFC 7541', () => {
  assert.equal(huffmanEncode('www.example.com').toString('hex'), 'f1e3c2e5f23a6ba0ab90f4ff');
});
