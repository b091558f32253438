import assert from 'node:assert/strict';
import {
  Code,
  continuation,
  data,
  Flag,
  frame,
  goaway,
  headers,
  PREFACE,
  ping,
  priority,
  priorityFields,
  rstStream,
  Setting,
  settings,
  Type,
  windowUpdate,
} from '../support/frames.ts';
import { encode, type Field, literal } from '../support/hpack.ts';
import type { RawClient } from '../support/raw-client.ts';
import { get, plainFields, post, request } from '../support/requests.ts';
import { answered, type Case, connectionError, pingAnswered, streamError, thenPing } from './case.ts';

const END = Flag.END_HEADERS | Flag.END_STREAM;
const BLOCK = encode(plainFields());
const UNKNOWN_FRAME = frame(0x16, 0, 0, Buffer.alloc(8));

/** GET, its whole answer, then the frame: the stream was closed by END_STREAM from both sides. */
function afterAnswer(last: Uint8Array): Case['send'] {
  return async (client) => {
    client.send(get(1));
    await client.expectEndStream(1);
    client.send(last);
  };
}

/** An open request, reset by the client, then the frame. */
function afterReset(last: Uint8Array): Buffer {
  return Buffer.concat([post(1), rstStream(1, Code.CANCEL), last]);
}

async function refusesOneTooMany(client: RawClient): Promise<void> {
  const limit = client.serverSettings.get(Setting.MAX_CONCURRENT_STREAMS);
  assert.ok(limit !== undefined && limit >= 100, `MAX_CONCURRENT_STREAMS is ${limit}`);
  const last = limit * 2 + 1;
  await client.expectRst(last, Code.REFUSED_STREAM);
  const resets = client.frames.filter((f) => f.type === Type.RST_STREAM);
  assert.equal(resets.length, 1, 'only the one stream too many is refused');
  await client.expectAlive();
}

function malformed(fields: readonly Field[]): Pick<Case, 'send' | 'expect'> {
  return { send: request(1, fields), expect: streamError(1, Code.PROTOCOL_ERROR) };
}

/** h2spec's group "http2" without the frame definitions of section 6. */
export const streamCases: readonly Case[] = [
  {
    id: 'http2/3.5/1',
    title: 'the server preface is SETTINGS',
    connect: { handshake: false },
    send: Buffer.concat([PREFACE, settings()]),
    expect: async (client) => {
      await client.expectSettings();
      assert.equal(client.frames[0]?.type, Type.SETTINGS);
      assert.equal(client.frames[0]?.flags, 0);
    },
  },
  {
    id: 'http2/3.5/2',
    title: 'an invalid preface',
    connect: { handshake: false },
    send: Buffer.from('INVALID CONNECTION PREFACE\r\n\r\n'),
    expect: async (client) => {
      await client.expectClosedWithin(1_000);
      assert.equal(client.socketError, undefined, 'a clean end, not a reset');
    },
  },

  {
    id: 'http2/4.1/1',
    title: 'an unknown frame type',
    send: thenPing(UNKNOWN_FRAME),
    expect: pingAnswered('h2spec!!'),
  },
  {
    id: 'http2/4.1/2',
    title: 'undefined flags',
    send: ping('h2spec\0\0', 0x16),
    expect: pingAnswered('h2spec\0\0'),
  },
  {
    id: 'http2/4.1/3',
    title: 'the reserved bit of the stream id',
    send: frame(Type.PING, 0, 0x80000000, Buffer.from('h2spec\0\0')),
    expect: pingAnswered('h2spec\0\0'),
  },

  {
    id: 'http2/4.2/1',
    title: 'DATA of exactly MAX_FRAME_SIZE',
    send: (client) => {
      const max = client.serverSettings.get(Setting.MAX_FRAME_SIZE) ?? 16_384;
      client.send(post(1), data(1, Buffer.alloc(max, 'x'), Flag.END_STREAM));
    },
    expect: answered(1),
  },
  {
    id: 'http2/4.2/2',
    title: 'DATA above MAX_FRAME_SIZE',
    send: (client) => {
      const max = client.serverSettings.get(Setting.MAX_FRAME_SIZE) ?? 16_384;
      client.send(post(1), data(1, Buffer.alloc(max + 1, 'x'), Flag.END_STREAM));
    },
    expect: streamError(1, Code.FRAME_SIZE_ERROR),
  },
  {
    id: 'http2/4.2/3',
    title: 'HEADERS above MAX_FRAME_SIZE',
    send: (client) => {
      const max = client.serverSettings.get(Setting.MAX_FRAME_SIZE) ?? 16_384;
      const long = Array.from({ length: Math.ceil(max / 4000) }, (_, i) =>
        literal(`x-dummy${i}`, 'x'.repeat(4000)),
      );
      client.send(headers(1, Buffer.concat([BLOCK, ...long]), END));
    },
    expect: connectionError(Code.FRAME_SIZE_ERROR),
  },

  {
    id: 'http2/4.3/1',
    title: 'a truncated header block',
    send: headers(1, Buffer.from([0x40]), END),
    expect: connectionError(Code.COMPRESSION_ERROR),
  },
  {
    id: 'http2/4.3/2',
    title: 'PRIORITY inside a header block',
    send: Buffer.concat([
      headers(1, BLOCK, Flag.END_STREAM),
      priority(1, 0, 255),
      continuation(1, literal('x', 'y'), Flag.END_HEADERS),
    ]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/4.3/3',
    title: 'another stream inside a header block',
    send: Buffer.concat([
      headers(1, BLOCK, Flag.END_STREAM),
      get(3),
      continuation(1, literal('x', 'y'), Flag.END_HEADERS),
    ]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },

  {
    id: 'http2/5.1/1',
    title: 'idle: DATA',
    send: data(1, 'test', Flag.END_STREAM),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/5.1/2',
    title: 'idle: RST_STREAM',
    send: rstStream(1, Code.CANCEL),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/5.1/3',
    title: 'idle: WINDOW_UPDATE',
    send: windowUpdate(1, 100),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/5.1/4',
    title: 'idle: CONTINUATION',
    send: continuation(1, BLOCK, Flag.END_HEADERS),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/5.1/5',
    title: 'half-closed (remote): DATA',
    send: Buffer.concat([get(1), data(1, 'test', Flag.END_STREAM)]),
    expect: streamError(1, Code.STREAM_CLOSED),
  },
  {
    id: 'http2/5.1/6',
    title: 'half-closed (remote): HEADERS',
    send: Buffer.concat([get(1), get(1)]),
    expect: streamError(1, Code.STREAM_CLOSED),
  },
  {
    id: 'http2/5.1/7',
    title: 'half-closed (remote): CONTINUATION',
    send: Buffer.concat([get(1), continuation(1, BLOCK, Flag.END_HEADERS)]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/5.1/8',
    title: 'closed by RST_STREAM: DATA',
    send: afterReset(data(1, 'test', Flag.END_STREAM)),
    expect: streamError(1, Code.STREAM_CLOSED),
  },
  {
    id: 'http2/5.1/9',
    title: 'closed by RST_STREAM: HEADERS',
    send: afterReset(get(1)),
    expect: streamError(1, Code.STREAM_CLOSED),
  },
  {
    id: 'http2/5.1/10',
    title: 'closed by RST_STREAM: CONTINUATION',
    send: afterReset(continuation(1, BLOCK, Flag.END_HEADERS)),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/5.1/11',
    title: 'closed by END_STREAM: DATA',
    send: afterAnswer(data(1, 'test', Flag.END_STREAM)),
    expect: streamError(1, Code.STREAM_CLOSED),
  },
  {
    id: 'http2/5.1/12',
    title: 'closed by END_STREAM: HEADERS',
    send: afterAnswer(get(1)),
    expect: connectionError(Code.STREAM_CLOSED),
  },
  {
    id: 'http2/5.1/13',
    title: 'closed by END_STREAM: CONTINUATION',
    send: afterAnswer(continuation(1, BLOCK, Flag.END_HEADERS)),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },

  {
    id: 'http2/5.1.1/1',
    title: 'an even stream id',
    send: get(2),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/5.1.1/2',
    title: 'a stream id below an earlier one',
    send: Buffer.concat([get(5), get(3)]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/5.1.2/1',
    title: 'more streams than MAX_CONCURRENT_STREAMS',
    connect: { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
    send: (client) => {
      const limit = client.serverSettings.get(Setting.MAX_CONCURRENT_STREAMS) ?? 0;
      for (let i = 0; i <= limit; i++) client.send(get(i * 2 + 1));
    },
    expect: refusesOneTooMany,
  },

  {
    id: 'http2/5.3.1/1',
    title: 'HEADERS depending on its own stream',
    send: headers(1, Buffer.concat([priorityFields(1, 255), BLOCK]), END | Flag.PRIORITY),
    expect: streamError(1, Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/5.3.1/2',
    title: 'PRIORITY depending on its own stream',
    send: priority(1, 1, 255),
    expect: streamError(1, Code.PROTOCOL_ERROR),
  },

  {
    id: 'http2/5.4.1/1',
    title: 'a connection error closes the connection',
    send: ping('h2spec\0\0', 0, 3),
    expect: (client) => client.expectClosedWithin(2_000),
  },
  {
    id: 'http2/5.4.1/2',
    title: 'GOAWAY is seen before the close',
    send: Buffer.concat([get(1), ping('h2spec\0\0', 0, 3)]),
    expect: async (client) => {
      const found = await client.expectGoaway(Code.PROTOCOL_ERROR);
      assert.equal(found.payload.readUInt32BE(0), 1, 'the last stream id is the last one processed');
    },
  },

  {
    id: 'http2/5.5/1',
    title: 'an unknown extension frame',
    send: thenPing(UNKNOWN_FRAME),
    expect: pingAnswered('h2spec!!'),
  },
  {
    id: 'http2/5.5/2',
    title: 'an unknown extension frame inside a header block',
    send: Buffer.concat([
      headers(1, BLOCK, Flag.END_STREAM),
      UNKNOWN_FRAME,
      continuation(1, literal('x', 'y'), Flag.END_HEADERS),
    ]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },

  {
    id: 'http2/7/1',
    title: 'GOAWAY with an unknown error code',
    send: thenPing(goaway(0, 0xff)),
    expect: async (client) => {
      await client.expectPingAck('h2spec!!').catch(() => client.expectClosedWithin(2_000));
      assert.equal(client.goaway(), undefined);
    },
  },
  {
    id: 'http2/7/2',
    title: 'RST_STREAM with an unknown error code',
    send: thenPing(post(1), rstStream(1, 0xff)),
    expect: pingAnswered('h2spec!!'),
  },

  {
    id: 'http2/8.1/1',
    title: 'trailers without END_STREAM',
    send: Buffer.concat([
      post(1, [['trailer', 'x-test']]),
      data(1, 'test'),
      headers(1, encode([['x-test', 'ok']]), Flag.END_HEADERS),
    ]),
    expect: streamError(1, Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/8.1.2/1',
    title: 'an uppercase field name',
    ...malformed(plainFields('GET', [['X-TEST', 'ok']])),
  },

  {
    id: 'http2/8.1.2.1/1',
    title: 'an unknown pseudo field',
    ...malformed([...plainFields(), [':test', 'ok']]),
  },
  {
    id: 'http2/8.1.2.1/2',
    title: 'a response pseudo field in a request',
    ...malformed([...plainFields(), [':status', '200']]),
  },
  {
    id: 'http2/8.1.2.1/3',
    title: 'a pseudo field in trailers',
    send: Buffer.concat([
      post(1, [['trailer', 'x-test']]),
      data(1, 'test'),
      headers(
        1,
        encode([
          ['x-test', 'ok'],
          [':method', 'GET'],
        ]),
        END,
      ),
    ]),
    expect: streamError(1, Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/8.1.2.1/4',
    title: 'a pseudo field after a regular one',
    ...malformed([['x-test', 'ok'], ...plainFields()]),
  },

  {
    id: 'http2/8.1.2.2/1',
    title: 'a connection-specific field',
    ...malformed(plainFields('GET', [['connection', 'keep-alive']])),
  },
  {
    id: 'http2/8.1.2.2/2',
    title: 'te with more than trailers',
    ...malformed(plainFields('GET', [['te', 'trailers, deflate']])),
  },

  {
    id: 'http2/8.1.2.3/1',
    title: 'an empty :path',
    ...malformed([
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', ''],
      [':authority', '127.0.0.1'],
    ]),
  },
  {
    id: 'http2/8.1.2.3/2',
    title: 'no :method',
    ...malformed([
      [':path', '/'],
      [':authority', '127.0.0.1'],
    ]),
  },
  {
    id: 'http2/8.1.2.3/3',
    title: 'no :scheme',
    ...malformed([
      [':method', 'GET'],
      [':path', '/'],
      [':authority', '127.0.0.1'],
    ]),
  },
  {
    id: 'http2/8.1.2.3/4',
    title: 'no :path',
    ...malformed([
      [':method', 'GET'],
      [':scheme', 'http'],
      [':authority', '127.0.0.1'],
    ]),
  },
  { id: 'http2/8.1.2.3/5', title: ':method twice', ...malformed([...plainFields(), [':method', 'GET']]) },
  { id: 'http2/8.1.2.3/6', title: ':scheme twice', ...malformed([...plainFields(), [':scheme', 'http']]) },
  { id: 'http2/8.1.2.3/7', title: ':path twice', ...malformed([...plainFields(), [':path', '/']]) },

  {
    id: 'http2/8.1.2.6/1',
    title: 'a body that is not as long as content-length',
    send: Buffer.concat([post(1, [['content-length', '1']]), data(1, 'test', Flag.END_STREAM)]),
    expect: streamError(1, Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/8.1.2.6/2',
    title: 'a body of two frames that is not as long as content-length',
    send: Buffer.concat([
      post(1, [['content-length', '1']]),
      data(1, 'test'),
      data(1, 'test', Flag.END_STREAM),
    ]),
    expect: streamError(1, Code.PROTOCOL_ERROR),
  },

  {
    id: 'http2/8.2/1',
    title: 'PUSH_PROMISE from a client',
    send: Buffer.concat([
      post(1),
      frame(Type.PUSH_PROMISE, Flag.END_HEADERS, 1, Buffer.concat([Buffer.from([0, 0, 0, 3]), BLOCK])),
    ]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
];
