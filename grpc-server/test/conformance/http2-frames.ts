import assert from 'node:assert/strict';
import {
  Code,
  continuation,
  data,
  Flag,
  frame,
  goaway,
  headers,
  ping,
  priority,
  rstStream,
  Setting,
  settings,
  Type,
  uint32,
  windowUpdate,
} from '../support/frames.ts';
import { encode, literal } from '../support/hpack.ts';
import type { RawClient } from '../support/raw-client.ts';
import { get, plainFields, post, request } from '../support/requests.ts';
import { type Case, connectionError, pingAnswered, streamError, streamReset, thenPing } from './case.ts';

const END = Flag.END_HEADERS | Flag.END_STREAM;
const BLOCK = encode(plainFields());
const LONG = 'x'.repeat(4000);
const MAX_WINDOW = 0x7fffffff;

/** The first DATA frame on stream 1 carries one byte. */
async function oneByte(client: RawClient): Promise<void> {
  assert.equal((await client.expectData(1)).payload.length, 1);
  await client.expectAlive();
}

/** h2spec's group "http2", sections 6.1 to 6.10: the rules of each frame type (RFC 9113 section 6). */
export const frameCases: readonly Case[] = [
  {
    id: 'http2/6.1/1',
    title: 'DATA on stream 0',
    send: data(0, 'test', Flag.END_STREAM),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.1/2',
    title: 'DATA on a stream that is not open',
    send: Buffer.concat([request(1, plainFields('POST')), data(1, 'test')]),
    expect: streamError(1, Code.STREAM_CLOSED),
  },
  {
    id: 'http2/6.1/3',
    title: 'DATA with more padding than payload',
    send: Buffer.concat([
      post(1, [['content-length', '4']]),
      frame(Type.DATA, Flag.PADDED | Flag.END_STREAM, 1, Buffer.from('\x06test')),
    ]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },

  {
    id: 'http2/6.2/1',
    title: 'HEADERS without END_HEADERS, then PRIORITY',
    send: Buffer.concat([headers(1, BLOCK, Flag.END_STREAM), priority(1, 0, 255)]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.2/2',
    title: 'HEADERS without END_HEADERS, then HEADERS on another stream',
    send: Buffer.concat([headers(1, BLOCK, Flag.END_STREAM), get(3)]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.2/3',
    title: 'HEADERS on stream 0',
    send: headers(0, BLOCK, END),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.2/4',
    title: 'HEADERS with a Pad Length beyond the payload',
    send: headers(1, Buffer.concat([Buffer.from([BLOCK.length + 1]), BLOCK]), END | Flag.PADDED),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },

  {
    id: 'http2/6.3/1',
    title: 'PRIORITY on stream 0',
    send: priority(0, 0, 255),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.3/2',
    title: 'PRIORITY of four bytes',
    send: Buffer.concat([post(1), frame(Type.PRIORITY, 0, 1, Buffer.from([0x80, 0, 0, 1]))]),
    expect: streamError(1, Code.FRAME_SIZE_ERROR),
  },

  {
    id: 'http2/6.4/1',
    title: 'RST_STREAM on stream 0',
    send: rstStream(0, Code.CANCEL),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.4/2',
    title: 'RST_STREAM on an idle stream',
    send: rstStream(1, Code.CANCEL),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.4/3',
    title: 'RST_STREAM of three bytes',
    send: Buffer.concat([post(1), frame(Type.RST_STREAM, 0, 1, Buffer.from([0, 0, 0]))]),
    expect: connectionError(Code.FRAME_SIZE_ERROR),
  },

  {
    id: 'http2/6.5/1',
    title: 'SETTINGS ACK with a payload',
    send: frame(Type.SETTINGS, Flag.ACK, 0, Buffer.from([0])),
    expect: connectionError(Code.FRAME_SIZE_ERROR),
  },
  {
    id: 'http2/6.5/2',
    title: 'SETTINGS on stream 1',
    send: frame(Type.SETTINGS, 0, 1, Buffer.from([0, 3, 0, 0, 0, 100])),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.5/3',
    title: 'SETTINGS of three bytes',
    send: frame(Type.SETTINGS, 0, 0, Buffer.from([0, 3, 0])),
    expect: connectionError(Code.FRAME_SIZE_ERROR),
  },

  {
    id: 'http2/6.5.2/1',
    title: 'ENABLE_PUSH of 2',
    send: settings([[Setting.ENABLE_PUSH, 2]]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.5.2/2',
    title: 'INITIAL_WINDOW_SIZE above the maximum',
    send: settings([[Setting.INITIAL_WINDOW_SIZE, 2 ** 31]]),
    expect: connectionError(Code.FLOW_CONTROL_ERROR),
  },
  {
    id: 'http2/6.5.2/3',
    title: 'MAX_FRAME_SIZE below its initial value',
    send: settings([[Setting.MAX_FRAME_SIZE, 16_383]]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.5.2/4',
    title: 'MAX_FRAME_SIZE above the maximum',
    send: settings([[Setting.MAX_FRAME_SIZE, 2 ** 24]]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.5.2/5',
    title: 'an unknown setting',
    send: thenPing(settings([[0xff, 1]])),
    expect: pingAnswered('h2spec!!'),
  },

  {
    id: 'http2/6.5.3/1',
    title: 'one SETTINGS frame with the same setting twice: the last one holds',
    send: Buffer.concat([
      settings([
        [Setting.INITIAL_WINDOW_SIZE, 100],
        [Setting.INITIAL_WINDOW_SIZE, 1],
      ]),
      get(1),
    ]),
    expect: oneByte,
  },
  {
    id: 'http2/6.5.3/2',
    title: 'SETTINGS is acknowledged',
    send: settings([[Setting.ENABLE_PUSH, 0]]),
    expect: async (client) => {
      await client.expectSettingsAck();
      await client.expectAlive();
    },
  },

  {
    id: 'http2/6.7/1',
    title: 'a PING is answered',
    send: ping('h2spec\0\0'),
    expect: pingAnswered('h2spec\0\0'),
  },
  {
    id: 'http2/6.7/2',
    title: 'a PING ACK is not answered',
    send: Buffer.concat([ping('invalid\0', Flag.ACK), ping('h2spec\0\0')]),
    expect: pingAnswered('h2spec\0\0'),
  },
  {
    id: 'http2/6.7/3',
    title: 'PING on stream 1',
    send: ping('h2spec\0\0', 0, 1),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.7/4',
    title: 'PING of six bytes',
    send: ping('h2spec'),
    expect: connectionError(Code.FRAME_SIZE_ERROR),
  },

  {
    id: 'http2/6.8/1',
    title: 'GOAWAY on stream 1',
    send: frame(Type.GOAWAY, 0, 1, goaway(0, Code.NO_ERROR, 'h2spec').subarray(9)),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },

  {
    id: 'http2/6.9/1',
    title: 'WINDOW_UPDATE of 0 on the connection',
    send: windowUpdate(0, 0),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.9/2',
    title: 'WINDOW_UPDATE of 0 on a stream',
    send: Buffer.concat([post(1), windowUpdate(1, 0)]),
    expect: streamError(1, Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.9/3',
    title: 'WINDOW_UPDATE of three bytes',
    send: frame(Type.WINDOW_UPDATE, 0, 0, Buffer.from([0, 0, 1])),
    expect: connectionError(Code.FRAME_SIZE_ERROR),
  },

  {
    id: 'http2/6.9.1/1',
    title: 'DATA is cut to the window',
    send: async (client) => {
      client.sendSettings([[Setting.INITIAL_WINDOW_SIZE, 1]]);
      await client.expectSettingsAck();
      client.send(get(1));
    },
    expect: oneByte,
  },
  {
    id: 'http2/6.9.1/2',
    title: 'the connection window above 2^31-1',
    send: Buffer.concat([windowUpdate(0, MAX_WINDOW), windowUpdate(0, MAX_WINDOW)]),
    expect: connectionError(Code.FLOW_CONTROL_ERROR),
  },
  {
    id: 'http2/6.9.1/3',
    title: 'a stream window above 2^31-1',
    send: Buffer.concat([post(1), windowUpdate(1, MAX_WINDOW), windowUpdate(1, MAX_WINDOW)]),
    expect: streamReset(1, Code.FLOW_CONTROL_ERROR),
  },

  {
    id: 'http2/6.9.2/1',
    title: 'INITIAL_WINDOW_SIZE changed after HEADERS',
    connect: { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
    send: Buffer.concat([get(1), settings([[Setting.INITIAL_WINDOW_SIZE, 1]])]),
    expect: oneByte,
  },
  {
    id: 'http2/6.9.2/2',
    title: 'a window made negative by SETTINGS',
    connect: { settings: [[Setting.INITIAL_WINDOW_SIZE, 3]] },
    send: async (client) => {
      client.send(get(1));
      assert.equal((await client.expectData(1)).payload.length, 3);
      client.sendSettings([[Setting.INITIAL_WINDOW_SIZE, 2]]);
      await client.expectSettingsAck();
      client.send(windowUpdate(1, 2));
    },
    expect: oneByte,
  },
  {
    id: 'http2/6.9.2/3',
    title: 'INITIAL_WINDOW_SIZE above the maximum, as raw bytes',
    send: frame(Type.SETTINGS, 0, 0, Buffer.concat([Buffer.from([0, 4]), uint32(0x80000000)])),
    expect: connectionError(Code.FLOW_CONTROL_ERROR),
  },

  {
    id: 'http2/6.10/1',
    title: 'CONTINUATION frames with 8,259 bytes of header list are answered',
    send: Buffer.concat([
      headers(1, BLOCK, Flag.END_STREAM),
      continuation(1, literal('x-dummy1', LONG)),
      continuation(1, literal('x-dummy2', LONG), Flag.END_HEADERS),
    ]),
    expect: async (client) => {
      const { fields } = await client.expectHeaders(1);
      assert.equal(fields[0]?.[0], ':status');
      await client.expectAlive();
    },
  },
  {
    id: 'http2/6.10/2',
    title: 'CONTINUATION without END_HEADERS, then DATA',
    send: Buffer.concat([headers(1, BLOCK, 0), continuation(1, literal('x-dummy1', LONG)), data(1, 'test')]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.10/3',
    title: 'CONTINUATION on stream 0',
    send: Buffer.concat([
      headers(1, BLOCK, Flag.END_STREAM),
      continuation(0, literal('x', 'y'), Flag.END_HEADERS),
    ]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.10/4',
    title: 'CONTINUATION after HEADERS with END_HEADERS',
    send: Buffer.concat([post(1), continuation(1, literal('x-dummy1', LONG), Flag.END_HEADERS)]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.10/5',
    title: 'CONTINUATION after CONTINUATION with END_HEADERS',
    send: Buffer.concat([
      headers(1, BLOCK, 0),
      continuation(1, literal('x-dummy1', 'x'), Flag.END_HEADERS),
      continuation(1, literal('x-dummy2', 'x'), Flag.END_HEADERS),
    ]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
  {
    id: 'http2/6.10/6',
    title: 'HEADERS without END_HEADERS, then DATA and CONTINUATION',
    send: Buffer.concat([
      headers(1, BLOCK, 0),
      data(1, 'test'),
      continuation(1, literal('x-dummy1', 'x'), Flag.END_HEADERS),
    ]),
    expect: connectionError(Code.PROTOCOL_ERROR),
  },
];
