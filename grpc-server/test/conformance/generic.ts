import assert from 'node:assert/strict';
import {
  Code,
  continuation,
  data,
  Flag,
  goaway,
  headers,
  PREFACE,
  padded,
  paddedData,
  ping,
  priority,
  priorityFields,
  rstStream,
  Setting,
  settings,
  windowUpdate,
} from '../support/frames.ts';
import { encode } from '../support/hpack.ts';
import type { RawClient } from '../support/raw-client.ts';
import { get, plainFields, post, request } from '../support/requests.ts';
import { answered, type Case, pingAnswered, thenPing } from './case.ts';

const END = Flag.END_HEADERS | Flag.END_STREAM;
const GET_BLOCK = encode(plainFields());

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(' ', ''), 'hex');
}

/** A GET whose block is the plain request followed by raw HPACK bytes. */
function getWith(...raw: readonly Uint8Array[]): Buffer {
  return headers(1, Buffer.concat([GET_BLOCK, ...raw]), END);
}

/** A GET whose block starts with raw HPACK bytes. */
function getAfter(...raw: readonly Uint8Array[]): Buffer {
  return headers(1, Buffer.concat([...raw, GET_BLOCK]), END);
}

async function oneByteOfData(client: RawClient): Promise<void> {
  const received = await client.expectData(1);
  assert.equal(received.payload.length, 1);
  await client.expectAlive();
}

const USER_AGENT = Buffer.concat([hex('0a'), Buffer.from('user-agent')]);
const USER_AGENT_HUFFMAN = hex('87 b505b161cc5a93');
const X_TEST = Buffer.concat([hex('06'), Buffer.from('x-test')]);
const X_TEST_HUFFMAN = hex('85 f2b24a84ff');
const H2SPEC = Buffer.concat([hex('06'), Buffer.from('h2spec')]);
const H2SPEC_HUFFMAN = hex('84 9c48aca4');

/** h2spec's group "generic": what must simply work. */
export const genericCases: readonly Case[] = [
  {
    id: 'generic/1/1',
    title: 'the first frame back is SETTINGS without ACK',
    connect: { handshake: false },
    send: Buffer.concat([PREFACE, settings([[Setting.INITIAL_WINDOW_SIZE, 65_535]])]),
    expect: async (client) => {
      await client.expectSettings();
      await client.expectSettingsAck();
      assert.equal(client.frames[0]?.flags, 0);
    },
  },

  {
    id: 'generic/2/1',
    title: 'PRIORITY on an idle stream',
    send: thenPing(priority(1, 0, 255)),
    expect: pingAnswered('h2spec!!'),
  },
  {
    id: 'generic/2/2',
    title: 'WINDOW_UPDATE on a half-closed (remote) stream',
    connect: { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
    send: Buffer.concat([get(1), windowUpdate(1, 1)]),
    expect: oneByteOfData,
  },
  {
    id: 'generic/2/3',
    title: 'PRIORITY on a half-closed (remote) stream',
    connect: { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
    send: Buffer.concat([get(1), priority(1, 0, 255), windowUpdate(1, 1)]),
    expect: oneByteOfData,
  },
  {
    id: 'generic/2/4',
    title: 'RST_STREAM on a half-closed (remote) stream',
    send: thenPing(get(1), rstStream(1, Code.CANCEL)),
    expect: pingAnswered('h2spec!!'),
  },
  {
    id: 'generic/2/5',
    title: 'PRIORITY on a closed stream',
    send: async (client) => {
      client.send(get(1));
      await client.expectEndStream(1);
      client.send(thenPing(priority(1, 0, 255)));
    },
    expect: pingAnswered('h2spec!!'),
  },

  {
    id: 'generic/3.1/1',
    title: 'a DATA frame',
    send: Buffer.concat([post(1), data(1, 'test', Flag.END_STREAM)]),
    expect: answered(1),
  },
  {
    id: 'generic/3.1/2',
    title: 'several DATA frames',
    send: Buffer.concat([post(1), data(1, 'test'), data(1, 'test', Flag.END_STREAM)]),
    expect: answered(1),
  },
  {
    id: 'generic/3.1/3',
    title: 'a DATA frame with padding',
    send: Buffer.concat([post(1), paddedData(1, 'test', 5, Flag.END_STREAM)]),
    expect: answered(1),
  },

  { id: 'generic/3.2/1', title: 'a HEADERS frame', send: get(1), expect: answered(1) },
  {
    id: 'generic/3.2/2',
    title: 'a HEADERS frame with padding',
    send: headers(1, padded(GET_BLOCK, 8), END | Flag.PADDED),
    expect: answered(1),
  },
  {
    id: 'generic/3.2/3',
    title: 'a HEADERS frame with priority',
    send: headers(1, Buffer.concat([priorityFields(0, 255), GET_BLOCK]), END | Flag.PRIORITY),
    expect: answered(1),
  },

  {
    id: 'generic/3.3/1',
    title: 'PRIORITY of weight 1',
    send: Buffer.concat([priority(1, 0, 0), get(1)]),
    expect: answered(1),
  },
  {
    id: 'generic/3.3/2',
    title: 'PRIORITY of weight 256',
    send: Buffer.concat([priority(1, 0, 255), get(1)]),
    expect: answered(1),
  },
  {
    id: 'generic/3.3/3',
    title: 'PRIORITY with a dependency',
    send: Buffer.concat([priority(3, 1, 255), get(1)]),
    expect: answered(1),
  },
  {
    id: 'generic/3.3/4',
    title: 'PRIORITY with the exclusive flag',
    send: Buffer.concat([priority(1, 0, 255, true), get(1)]),
    expect: answered(1),
  },
  {
    id: 'generic/3.3/5',
    title: 'PRIORITY on an idle stream does not close lower ones',
    send: Buffer.concat([priority(3, 0, 255), get(1)]),
    expect: answered(1),
  },

  {
    id: 'generic/3.4/1',
    title: 'a RST_STREAM frame',
    send: thenPing(request(1, plainFields(), false), rstStream(1, Code.CANCEL)),
    expect: async (client) => {
      await pingAnswered('h2spec!!')(client);
      assert.deepEqual(client.on(1), [], 'nothing may be sent on a stream that was reset');
    },
  },
  {
    id: 'generic/3.5/1',
    title: 'a SETTINGS frame with all six settings',
    send: settings([
      [Setting.HEADER_TABLE_SIZE, 4096],
      [Setting.ENABLE_PUSH, 1],
      [Setting.MAX_CONCURRENT_STREAMS, 100],
      [Setting.INITIAL_WINDOW_SIZE, 65_535],
      [Setting.MAX_FRAME_SIZE, 16_384],
      [Setting.MAX_HEADER_LIST_SIZE, 100],
    ]),
    expect: async (client) => {
      const ack = await client.expectSettingsAck();
      assert.equal(ack.payload.length, 0);
      await client.expectAlive();
    },
  },
  {
    id: 'generic/3.7/1',
    title: 'a PING frame',
    send: ping('h2spec\0\0'),
    expect: pingAnswered('h2spec\0\0'),
  },
  {
    id: 'generic/3.8/1',
    title: 'a GOAWAY frame',
    send: thenPing(goaway(0, Code.NO_ERROR, 'h2spec')),
    expect: async (client) => {
      // Nothing is open, so the server may also close at once, but only cleanly.
      await client.expectPingAck('h2spec!!').catch(() => client.expectClosedWithin(2_000));
      assert.equal(client.socketError, undefined);
      assert.equal(client.goaway(), undefined);
    },
  },
  {
    id: 'generic/3.9/1',
    title: 'WINDOW_UPDATE on the connection',
    send: thenPing(windowUpdate(0, 1)),
    expect: pingAnswered('h2spec!!'),
  },
  {
    id: 'generic/3.9/2',
    title: 'WINDOW_UPDATE on a stream',
    send: Buffer.concat([get(1), windowUpdate(1, 1)]),
    expect: answered(1),
  },
  {
    id: 'generic/3.10/1',
    title: 'a CONTINUATION frame',
    send: Buffer.concat([
      headers(1, GET_BLOCK.subarray(0, 5), Flag.END_STREAM),
      continuation(1, GET_BLOCK.subarray(5), Flag.END_HEADERS),
    ]),
    expect: answered(1),
  },
  {
    id: 'generic/3.10/2',
    title: 'several CONTINUATION frames',
    send: Buffer.concat([
      headers(1, GET_BLOCK.subarray(0, 5), Flag.END_STREAM),
      continuation(1, GET_BLOCK.subarray(5, 10)),
      continuation(1, GET_BLOCK.subarray(10), Flag.END_HEADERS),
    ]),
    expect: answered(1),
  },

  { id: 'generic/4/1', title: 'a GET request', send: get(1), expect: answered(1) },
  {
    id: 'generic/4/2',
    title: 'a HEAD request',
    send: request(1, plainFields('HEAD')),
    expect: async (client) => {
      await answered(1)(client);
      const bytes = client.on(1).reduce((sum, f) => sum + (f.fields ? 0 : f.payload.length), 0);
      assert.equal(bytes, 0, 'an answer to HEAD has no body');
    },
  },
  {
    id: 'generic/4/3',
    title: 'a POST request',
    send: Buffer.concat([post(1), data(1, 'test', Flag.END_STREAM)]),
    expect: answered(1),
  },
  {
    id: 'generic/4/4',
    title: 'a POST request with trailers',
    send: Buffer.concat([
      post(1, [['trailer', 'x-test']]),
      data(1, 'test'),
      headers(1, encode([['x-test', 'ok']]), END),
    ]),
    expect: answered(1),
  },

  { id: 'generic/5/1', title: 'an indexed field', send: getWith(hex('ba')), expect: answered(1) },
  {
    id: 'generic/5/2',
    title: 'a literal with incremental indexing, Huffman',
    send: getWith(hex('40'), USER_AGENT_HUFFMAN, H2SPEC_HUFFMAN),
    expect: answered(1),
  },
  {
    id: 'generic/5/3',
    title: 'a literal with incremental indexing, plain',
    send: getWith(hex('40'), USER_AGENT, H2SPEC),
    expect: answered(1),
  },
  {
    id: 'generic/5/4',
    title: 'a literal with incremental indexing, new name',
    send: getWith(hex('40'), X_TEST, H2SPEC),
    expect: answered(1),
  },
  {
    id: 'generic/5/5',
    title: 'a literal with incremental indexing, new name, Huffman',
    send: getWith(hex('40'), X_TEST_HUFFMAN, H2SPEC_HUFFMAN),
    expect: answered(1),
  },
  {
    id: 'generic/5/6',
    title: 'a literal without indexing, plain',
    send: getWith(hex('00'), USER_AGENT, H2SPEC),
    expect: answered(1),
  },
  {
    id: 'generic/5/7',
    title: 'a literal without indexing, Huffman',
    send: getWith(hex('00'), USER_AGENT_HUFFMAN, H2SPEC_HUFFMAN),
    expect: answered(1),
  },
  {
    id: 'generic/5/8',
    title: 'a literal without indexing, new name',
    send: getWith(hex('00'), X_TEST, H2SPEC),
    expect: answered(1),
  },
  {
    id: 'generic/5/9',
    title: 'a literal without indexing, new name, Huffman',
    send: getWith(hex('00'), X_TEST_HUFFMAN, H2SPEC_HUFFMAN),
    expect: answered(1),
  },
  {
    id: 'generic/5/10',
    title: 'a literal never indexed, plain',
    send: getWith(hex('10'), USER_AGENT, H2SPEC),
    expect: answered(1),
  },
  {
    id: 'generic/5/11',
    title: 'a literal never indexed, Huffman',
    send: getWith(hex('10'), USER_AGENT_HUFFMAN, H2SPEC_HUFFMAN),
    expect: answered(1),
  },
  {
    id: 'generic/5/12',
    title: 'a literal never indexed, new name',
    send: getWith(hex('10'), X_TEST, H2SPEC),
    expect: answered(1),
  },
  {
    id: 'generic/5/13',
    title: 'a literal never indexed, new name, Huffman',
    send: getWith(hex('10'), X_TEST_HUFFMAN, H2SPEC_HUFFMAN),
    expect: answered(1),
  },
  {
    id: 'generic/5/14',
    title: 'a dynamic table size update',
    send: getAfter(hex('3f 61')),
    expect: answered(1),
  },
  {
    id: 'generic/5/15',
    title: 'two dynamic table size updates',
    send: getAfter(hex('3f 61'), hex('3f e1 1f')),
    expect: answered(1),
  },
];
