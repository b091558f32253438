import assert from 'node:assert/strict';
import http2 from 'node:http2';
import { type AddressInfo, connect, createServer } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { ConnectionError } from './errors.ts';
import { CLIENT_PREFACE, Flag, FrameReader, FrameType, writeFrameHeader } from './frames.ts';
import { FieldList, HpackDecoder } from './hpack-decoder.ts';
import { encodeStateless, type HeaderPair, HpackEncoder } from './hpack-encoder.ts';
import { huffmanDecode, huffmanEncode, huffmanLength } from './huffman.ts';

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex');

function decode(decoder: HpackDecoder, block: Buffer, list = new FieldList(1 << 20, 1_000)): HeaderPair[] {
  decoder.decode(block, 0, block.length, list);
  return list.fields.map(({ name, value }): HeaderPair => [name, value]);
}

const REQUESTS: HeaderPair[][] = [
  [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'www.example.com'],
  ],
  [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'www.example.com'],
    ['cache-control', 'no-cache'],
  ],
  [
    [':method', 'GET'],
    [':scheme', 'https'],
    [':path', '/index.html'],
    [':authority', 'www.example.com'],
    ['custom-key', 'custom-value'],
  ],
];

const COOKIE = 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1';
const RESPONSES: HeaderPair[][] = [
  [
    [':status', '302'],
    ['cache-control', 'private'],
    ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
    ['location', 'https://www.example.com'],
  ],
  [
    [':status', '307'],
    ['cache-control', 'private'],
    ['date', 'Mon, 21 Oct 2013 20:13:21 GMT'],
    ['location', 'https://www.example.com'],
  ],
  [
    [':status', '200'],
    ['cache-control', 'private'],
    ['date', 'Mon, 21 Oct 2013 20:13:22 GMT'],
    ['location', 'https://www.example.com'],
    ['content-encoding', 'gzip'],
    ['set-cookie', COOKIE],
  ],
];

/** RFC 7541 C.3 to C.6: blocks, and the table's size after each. */
const SERIES = [
  {
    name: 'C.3 requests without Huffman',
    lists: REQUESTS,
    huffman: false,
    tableBytes: 4096,
    blocks: [
      '828684410f7777772e6578616d706c652e636f6d',
      '828684be58086e6f2d6361636865',
      '828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565',
    ],
    sizes: [57, 110, 164],
  },
  {
    name: 'C.4 requests with Huffman',
    lists: REQUESTS,
    huffman: true,
    tableBytes: 4096,
    blocks: [
      '828684418cf1e3c2e5f23a6ba0ab90f4ff',
      '828684be5886a8eb10649cbf',
      '828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf',
    ],
    sizes: [57, 110, 164],
  },
  {
    name: 'C.5 responses without Huffman',
    lists: RESPONSES,
    huffman: false,
    tableBytes: 256,
    blocks: [
      `4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470
       733a2f2f7777772e6578616d706c652e636f6d`,
      '4803333037c1c0bf',
      `88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d415344
       4a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31`,
    ],
    sizes: [222, 222, 215],
  },
  {
    name: 'C.6 responses with Huffman',
    lists: RESPONSES,
    huffman: true,
    tableBytes: 256,
    blocks: [
      `488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9
       ae82ae43d3`,
      '4883640effc1c0bf',
      `88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b39
       60d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007`,
    ],
    sizes: [222, 222, 215],
  },
];

for (const series of SERIES) {
  test(`RFC 7541 ${series.name}: decodes to the lists and the table sizes of the RFC`, () => {
    const decoder = new HpackDecoder(series.tableBytes);
    for (const [i, block] of series.blocks.entries()) {
      assert.deepEqual(decode(decoder, hex(block)), series.lists[i]);
      assert.equal(decoder.tableBytes, series.sizes[i]);
    }
  });
}

for (const series of SERIES) {
  test(`RFC 7541 ${series.name}: encodes to the bytes of the RFC`, () => {
    const encoder = new HpackEncoder({
      maxTableBytes: series.tableBytes,
      huffman: series.huffman,
      neverIndexed: new Set(),
    });
    for (const [i, block] of series.blocks.entries()) {
      assert.equal(
        encoder.encode(series.lists[i] as HeaderPair[]).toString('hex'),
        hex(block).toString('hex'),
      );
      assert.equal(encoder.tableBytes, series.sizes[i]);
    }
  });
}

test('cookies and credentials go out never indexed', () => {
  const encoder = new HpackEncoder();
  const block = encoder.encode([['set-cookie', 'a']]);
  assert.equal(block.toString('hex'), '1f28811f');
  assert.equal(encoder.tableBytes, 0);
});

test('RFC 7541 C.1: integers', () => {
  // As dynamic table size updates (5-bit prefix) and as string lengths (7-bit prefix).
  const decoder = new HpackDecoder(2_000);
  assert.deepEqual(decode(decoder, hex('2a')), [], 'C.1.1: 10');
  assert.deepEqual(decode(decoder, hex('3f9a0a')), [], 'C.1.2: 1337 fits a table of 2000');
  assert.throws(
    () => decode(new HpackDecoder(1_336), hex('3f9a0a')),
    /over the setting/,
    'and not one of 1336',
  );
  const value = 'v'.repeat(42);
  assert.deepEqual(
    decode(new HpackDecoder(0), Buffer.concat([hex('000161 2a'), Buffer.from(value)])),
    [['a', value]],
    'C.1.3: 42 at an octet boundary',
  );
});

test('RFC 7541 C.2: the four representations', () => {
  const decoder = new HpackDecoder(4096);
  assert.deepEqual(decode(decoder, hex('400a637573746f6d2d6b65790d637573746f6d2d686561646572')), [
    ['custom-key', 'custom-header'],
  ]);
  assert.equal(decoder.tableBytes, 55);
  assert.deepEqual(decode(decoder, hex('040c2f73616d706c652f70617468')), [[':path', '/sample/path']]);
  assert.deepEqual(decode(decoder, hex('100870617373776f726406736563726574')), [['password', 'secret']]);
  assert.deepEqual(decode(decoder, hex('82')), [[':method', 'GET']]);
  assert.equal(decoder.tableBytes, 55, 'only the first went into the table');
});

test('a literal seen before is decoded the same, indexed or not, on every connection', () => {
  const literal = hex('400a637573746f6d2d6b65790d637573746f6d2d686561646572');
  const first = new HpackDecoder(4096);
  const second = new HpackDecoder(4096);
  decode(first, literal);
  decode(second, hex('000a637573746f6d2d6b65790d637573746f6d2d686561646572'));
  assert.equal(second.tableBytes, 0, 'without indexing');
  assert.deepEqual(decode(second, literal), [['custom-key', 'custom-header']]);
  assert.equal(second.tableBytes, 55);
});

const BAD: readonly [string, string, string][] = [
  ['index 0', '80', 'index 0'],
  ['index beyond the table', 'be', 'beyond'],
  ['name index beyond the table', '7f0700', 'beyond'],
  ['truncated literal', '40', 'truncated'],
  ['string longer than the block', '0005616263', 'longer than the block'],
  ['integer with too many octets', `ff${'80'.repeat(5)}00`, 'too long'],
  ['integer over 32 bits', 'ffffffffff7f', '32 bits'],
  ['truncated integer', 'ff80', 'truncated'],
  ['size update over the setting', '3fe21f', 'over the setting'],
  ['size update after a field', '8220', 'after a field'],
  ['three size updates', '202020', 'too many'],
  ['Huffman with more than 7 bits of padding', '0001618449509fff', 'Huffman'],
  ['Huffman padded with zeros', '00016183495090', 'Huffman'],
  ['Huffman with EOS', '000161874951fffffffa7f', 'Huffman'],
];

for (const [name, block, message] of BAD) {
  test(`${name} is a COMPRESSION_ERROR`, () => {
    assert.throws(
      () => decode(new HpackDecoder(4096), hex(block)),
      (error: unknown) =>
        error instanceof ConnectionError && error.code === 9 && error.message.includes(message),
    );
  });
}

test('fields past the limits are counted, not kept, and the table stays right', () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder(4096);
  const list = new FieldList(1 << 20, 3);
  const many: HeaderPair[] = Array.from({ length: 6 }, (_, i): HeaderPair => [`name-${i}`, `value-${i}`]);
  const block = encoder.encode(many);
  decoder.decode(block, 0, block.length, list);
  assert.equal(list.count, 6);
  assert.equal(list.fields.length, 3);
  assert.equal(list.overLimit, true);
  assert.deepEqual(decode(decoder, encoder.encode(many)), many, 'all six are indexed now');
});

test('the limit on bytes holds at its value and not one beyond', () => {
  const block = encodeStateless([['abc', 'defgh']]);
  for (const [maxBytes, over] of [
    [40, false],
    [39, true],
  ] as const) {
    const list = new FieldList(maxBytes, 10);
    new HpackDecoder(0).decode(block, 0, block.length, list);
    assert.equal(list.overLimit, over);
  }
});

test('a resized encoder begins its next block with the smallest and the last size', () => {
  const encoder = new HpackEncoder();
  encoder.encode([['a', 'b']]);
  encoder.resize(0);
  encoder.resize(100);
  const decoder = new HpackDecoder(4096);
  const block = encoder.encode([['a', 'b']]);
  assert.equal(block[0], 0x20);
  assert.deepEqual(decode(decoder, block), [['a', 'b']]);
  assert.deepEqual(decode(decoder, encoder.encode([['a', 'b']])), [['a', 'b']]);
});

test('Huffman: every octet string comes back, in the length that was foretold', () => {
  const octets = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes).toString('latin1'));
  fc.assert(
    fc.property(octets, (text) => {
      const target = Buffer.alloc(4 * text.length + 8);
      const end = huffmanEncode(text, target, 0);
      assert.equal(end, huffmanLength(text));
      assert.equal(huffmanDecode(target, 0, end), text);
    }),
  );
  const all = Array.from({ length: 256 }, (_, i) => String.fromCharCode(i)).join('');
  const target = Buffer.alloc(2_000);
  assert.equal(huffmanDecode(target, 0, huffmanEncode(all, target, 0)), all);
});

// ---- against nghttp2, the codec inside node:http2 -----------------------------------------------------

const name = fc.stringMatching(/^x-[a-z0-9]{1,12}$/);
const value = fc.stringMatching(/^(?:[!-~](?:[ -~]{0,40}[!-~])?)?$/);
const headerLists = fc.array(fc.array(fc.tuple(name, value), { maxLength: 8 }), {
  minLength: 6,
  maxLength: 12,
});

function frame(type: number, flags: number, streamId: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(9 + payload.length);
  payload.copy(bytes, writeFrameHeader(bytes, 0, payload.length, type, flags, streamId));
  return bytes;
}

test('random header lists: what our encoder writes, nghttp2 reads', async () => {
  const heard: string[][] = [];
  const server = http2.createServer();
  server.on('stream', (stream: http2.ServerHttp2Stream, _headers, _flags, raw: string[]) => {
    heard.push([...raw]);
    stream.respond({ ':status': 200 }, { endStream: true });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const lists = fc.sample(headerLists, 10).flat();
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const encoder = new HpackEncoder();
  socket.write(Buffer.concat([CLIENT_PREFACE, frame(FrameType.SETTINGS, 0, 0, Buffer.alloc(0))]));
  const sent: HeaderPair[][] = [];
  for (const [i, list] of lists.entries()) {
    const fields: HeaderPair[] = [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'a'],
      ...list,
    ];
    sent.push(fields);
    const block = encoder.encode(fields);
    socket.write(frame(FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 2 * i + 1, block));
  }
  await waitFor(() => heard.length === lists.length);
  socket.destroy();
  server.close();
  assert.deepEqual(
    heard,
    sent.map((fields) => fields.flat()),
  );
});

test('random header lists: what nghttp2 writes, our decoder reads', async () => {
  const heard: HeaderPair[][] = [];
  const decoder = new HpackDecoder(4096);
  const server = createServer((socket) => {
    const reader = new FrameReader(16_384);
    let prefaceLeft = CLIENT_PREFACE.length;
    socket.on('error', () => {});
    socket.write(frame(FrameType.SETTINGS, 0, 0, hex('000300000fff')));
    socket.on('data', (chunk: Buffer) => {
      const start = Math.min(prefaceLeft, chunk.length);
      prefaceLeft -= start;
      reader.read(chunk, start, {
        closing: false,
        onFrame(type, flags, _streamId, bytes, from, to) {
          if (type !== FrameType.HEADERS) return;
          assert.equal(flags & Flag.END_HEADERS, Flag.END_HEADERS);
          const at = (flags & Flag.PRIORITY) !== 0 ? from + 5 : from;
          heard.push(decode(decoder, bytes.subarray(at, to)));
        },
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const port = (server.address() as AddressInfo).port;
  const client = http2.connect(`http://127.0.0.1:${port}`);
  client.on('error', () => {});
  const lists = fc.sample(headerLists, 10).flat();
  const sent: string[][] = [];
  for (const list of lists) {
    // node:http2 wants one entry per name.
    const headers = Object.fromEntries(list);
    sent.push(Object.entries(headers).flat());
    client.request(headers).on('error', () => {});
  }
  await waitFor(() => heard.length === lists.length);
  client.destroy();
  server.close();
  const own = heard.map((fields) => fields.filter(([field]) => field.startsWith('x-')).flat());
  assert.deepEqual(own, sent);
});

async function waitFor(condition: () => boolean): Promise<void> {
  const endMs = Date.now() + 4_000;
  while (!condition()) {
    assert.ok(Date.now() < endMs, 'waited 4 s');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
