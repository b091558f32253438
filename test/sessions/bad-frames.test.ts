/** Frames that cannot be read: each costs its request, not the session. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { type ServerFrame, ServerFrameSchema } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { WebSocket } from 'ws';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { openConnectStream, prefixed } from './support/raw-session.ts';

interface JsonFrame {
  readonly requestId?: number;
  readonly error?: { readonly code: string; readonly message: string };
  readonly ack?: unknown;
}

const maxFrameBytes = 8192;

describe('a frame that cannot be read', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({ MAX_FRAME_BYTES: String(maxFrameBytes), DRAIN_TIMEOUT: '100ms' });
  });
  after(() => server.stop());

  async function open(protocol: string, hello: string | Buffer) {
    const socket = new WebSocket(`${server.httpUrl.replace('http', 'ws')}/v1/connect`, protocol);
    const answers: Buffer[] = [];
    const session = { socket, answers, closeCode: 0 };
    socket.on('error', () => {});
    socket.on('message', (data: Buffer) => answers.push(data));
    socket.on('close', (code) => {
      session.closeCode = code;
    });
    await once(socket, 'open');
    socket.send(hello);
    await waitFor('the welcome', () => answers.length === 1);
    return session;
  }

  const frames: readonly (readonly [what: string, frame: string | Buffer, id: number, message: RegExp])[] = [
    [
      'a number in a list of ids',
      '{"requestId":7,"watch":{"userIds":["a",7]}}',
      7,
      /^watch\.user_ids\[1\] must be a string/,
    ],
    ['null in a list of ids', '{"requestId":7,"query":{"userIds":[null]}}', 7, /^query\.user_ids\[0\] /],
    ['no list', '{"requestId":7,"watch":{"userIds":"a"}}', 7, /^watch\.user_ids must be a list/],
    ['no object', '{"requestId":7,"watch":"a"}', 7, /^watch must be an object/],
    [
      'a number where text belongs',
      '{"request_id":"7","setCustomStatus":{"text":5}}',
      7,
      /^set_custom_status\.text must be a string/,
    ],
    [
      'a number out of range',
      '{"requestId":7,"setCustomStatus":{"expiresInMs":"99999999999999999999"}}',
      7,
      /expires_in_ms/,
    ],
    [
      'an unknown activity',
      '{"requestId":7,"heartbeat":{"activity":"AWAY"}}',
      7,
      /^heartbeat\.activity must be one of ACTIVITY_/,
    ],
    [
      'an activity in lower case',
      '{"requestId":7,"setStatus":{"activity":"activity_away"}}',
      7,
      /^set_status\.activity must be one of/,
    ],
    ['an unknown number of an activity', '{"requestId":7,"setStatus":{"activity":99}}', 7, /activity/],
    [
      'an unknown status',
      '{"requestId":7,"setStatus":{"status":"AWAKE"}}',
      7,
      /^status must be ONLINE or OFFLINE/,
    ],
    ['two requests in one', '{"requestId":7,"heartbeat":{},"goodbye":{}}', 7, /ClientFrame/],
    ['an unknown kind', '{"requestId":7,"dance":{}}', 7, /^the frame must be one/],
    ['no request', '{"requestId":7}', 7, /^the frame must be one/],
    ['a lone surrogate', '{"requestId":7,"watch":{"userIds":["\\ud800"]}}', 7, /^watch\.user_ids\[0\] /],
    ['JSON that is broken', '{"requestId":7,"watch":{"userIds":["a",}}', 7, /ClientFrame/],
    ['JSON that nests too deep', `{"requestId":7,"watch":${'['.repeat(100)}`, 7, /nests deeper/],
    [
      'a list that is too long',
      `{"requestId":7,"watch":{"userIds":["${'x'.repeat(maxFrameBytes)}"]}}`,
      7,
      /at most 8192 bytes/,
    ],
    ['a binary frame', Buffer.from('{"requestId":7,"heartbeat":{}}'), 7, /must be text/],
    ['an id that is none', '{"requestId":-1,"heartbeat":{}}', 0, /^request_id must be a whole number/],
    ['nothing', '{}', 0, /^the frame must be one/],
  ];
  for (const [what, frame, id, message] of frames) {
    it(`is answered, and the session goes on: ${what}`, async () => {
      const { socket, answers } = await open('presence.v1.json', '{"requestId":1,"hello":{"userId":"json"}}');
      socket.send(frame);
      socket.send('{"requestId":8,"heartbeat":{"future":{"a":1}}}');
      await waitFor('two answers', () => answers.length >= 3);
      const [error, ack] = answers.slice(1).map((answer) => JSON.parse(answer.toString()) as JsonFrame);
      assert.equal(error?.requestId ?? 0, id);
      assert.match(error?.error?.code ?? '', /^INVALID_(ARGUMENT|STATUS)$/);
      assert.match(error?.error?.message ?? '', message);
      assert.equal(ack?.requestId, 8);
      assert.ok(ack?.ack, 'unknown fields are ignored');
      socket.terminate();
    });
  }

  const hello = Buffer.from([0x08, 1, 0x12, 5, 0x0a, 3, 0x61, 0x64, 0x61]);
  const beat = Buffer.from([0x08, 8, 0x42, 0]);
  const binary: readonly (readonly [what: string, frame: Buffer])[] = [
    ['bytes that are no UTF-8', Buffer.from([0x08, 7, 0x2a, 4, 0x0a, 2, 0xff, 0xfe])],
    ['a field that is cut off', Buffer.from([0x08, 7, 0x2a, 50, 0x0a])],
    ['garbage behind the id', Buffer.concat([Buffer.from([0x08, 7]), Buffer.alloc(40, 0xff)])],
    ['no request', Buffer.from([0x08, 7])],
  ];
  for (const [what, frame] of binary) {
    it(`is answered as protobuf, and the session goes on: ${what}`, async () => {
      const { socket, answers } = await open('presence.v1.proto', hello);
      socket.send(frame);
      socket.send(beat);
      await waitFor('two answers', () => answers.length >= 3);
      isErrorThenAck(answers.slice(1).map((answer) => fromBinary(ServerFrameSchema, answer)));
      socket.terminate();
    });

    it(`is answered over gRPC, and the session goes on: ${what}`, async () => {
      const { connection, stream } = openConnectStream(server);
      let rest = Buffer.alloc(0);
      stream.on('data', (chunk: Buffer) => {
        rest = Buffer.concat([rest, chunk]);
      });
      stream.write(prefixed(hello));
      const received = () => {
        const messages: ServerFrame[] = [];
        for (let at = 0; at + 5 <= rest.length && at + 5 + rest.readUInt32BE(at + 1) <= rest.length; ) {
          const end = at + 5 + rest.readUInt32BE(at + 1);
          messages.push(fromBinary(ServerFrameSchema, rest.subarray(at + 5, end)));
          at = end;
        }
        return messages;
      };
      await waitFor('the welcome', () => received().length === 1);
      for (const message of [frame, beat]) stream.write(prefixed(message));
      await waitFor(
        () => `three answers; there are ${received().map((it) => it.frame.case)}`,
        () => received().length >= 3,
      );
      const [, ...answers] = received().toSorted((a, b) => a.requestId - b.requestId);
      isErrorThenAck(answers);
      connection.destroy();
    });
  }

  it('ends the session with a code to come back after where nothing tells which request it was', async () => {
    for (const [protocol, first, frame, code] of [
      ['presence.v1.json', '{"requestId":1,"hello":{"userId":"end"}}', 'garbage', 4007],
      ['presence.v1.proto', hello, Buffer.alloc(20, 0xff), 4007],
      ['presence.v1.json', '{"requestId":1,"hello":{"userId":"end"}}', 'x'.repeat(maxFrameBytes + 1), 1009],
      ['presence.v1.json', '{"requestId":1,"hello":{"userId":"end"}}', 'x'.repeat(5 * maxFrameBytes), 1009],
    ] as const) {
      const session = await open(protocol, first);
      session.socket.send(frame);
      await waitFor('the end', () => session.closeCode === code);
    }
  });
});

function isErrorThenAck([error, ack]: readonly ServerFrame[]): void {
  assert.deepEqual([error?.requestId, error?.frame.case], [7, 'error']);
  assert.equal(error?.frame.case === 'error' && error.frame.value.code, 'INVALID_ARGUMENT');
  assert.deepEqual([ack?.requestId, ack?.frame.case], [8, 'ack']);
}
