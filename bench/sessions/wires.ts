/** The lightest clients that speak the session protocol: a load generator must not be what is measured. */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  ClientFrameSchema,
  type ServerFrame,
  ServerFrameSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';

export type FrameInit = MessageInitShape<typeof ClientFrameSchema>['frame'];

export interface BenchWire {
  send(frame: FrameInit): void;
  close(): void;
}

export interface BenchWireOptions {
  readonly port: number;
  /** So that one process may have more connections than there are ports. */
  readonly localAddress: string;
  readonly onFrame: (frame: ServerFrame) => void;
  readonly onClose: () => void;
}

const encode = (frame: FrameInit): Buffer =>
  Buffer.from(
    toBinary(ClientFrameSchema, create(ClientFrameSchema, { requestId: 1, frame: frame as never })),
  );

/** Resolves when frames can be sent. */
export function openWebSocket(options: BenchWireOptions): Promise<BenchWire> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: options.port, host: '127.0.0.1', localAddress: options.localAddress });
    socket.setNoDelay(true);
    socket.write(
      [
        'GET /v1/connect HTTP/1.1',
        `Host: 127.0.0.1:${options.port}`,
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
        'Sec-WebSocket-Protocol: presence.v1.proto',
        '\r\n',
      ].join('\r\n'),
    );
    let rest: Buffer = Buffer.alloc(0);
    let isOpen = false;
    socket.on('data', (chunk: Buffer) => {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      if (!isOpen) {
        const end = rest.indexOf('\r\n\r\n');
        if (end === -1) return;
        if (!rest.subarray(0, 12).toString().endsWith('101')) {
          reject(new Error(rest.subarray(0, end).toString()));
          socket.destroy();
          return;
        }
        isOpen = true;
        rest = rest.subarray(end + 4);
        resolve({
          send: (frame) => socket.write(maskedFrame(0x82, encode(frame))),
          close: () => socket.destroy(),
        });
      }
      rest = readWebSocketFrames(rest, socket, options.onFrame);
    });
    end(socket, options, reject);
  });
}

function readWebSocketFrames(bytes: Buffer, socket: Socket, onFrame: (frame: ServerFrame) => void): Buffer {
  let at = 0;
  for (;;) {
    if (bytes.length < at + 2) break;
    const opcode = (bytes[at] as number) & 0x0f;
    let length = (bytes[at + 1] as number) & 0x7f;
    let start = at + 2;
    if (length === 126) {
      if (bytes.length < at + 4) break;
      length = bytes.readUInt16BE(at + 2);
      start = at + 4;
    } else if (length === 127) {
      if (bytes.length < at + 10) break;
      length = Number(bytes.readBigUInt64BE(at + 2));
      start = at + 10;
    }
    if (bytes.length < start + length) break;
    const payload = bytes.subarray(start, start + length);
    if (opcode === 0x2) onFrame(fromBinary(ServerFrameSchema, payload));
    else if (opcode === 0x9) socket.write(maskedFrame(0x8a, payload));
    at = start + length;
  }
  return bytes.subarray(at);
}

/** With a mask of zeros, which the protocol allows and which costs nothing. */
function maskedFrame(firstByte: number, payload: Buffer): Buffer {
  const { length } = payload;
  const head =
    length < 126
      ? Buffer.from([firstByte, 0x80 | length, 0, 0, 0, 0])
      : Buffer.from([firstByte, 0x80 | 126, length >> 8, length & 0xff, 0, 0, 0, 0]);
  return Buffer.concat([head, payload]);
}

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const frameType = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
} as const;
const streamId = 1;

/** Resolves when frames can be sent. One connection for each session, as phones have. */
export function openGrpc(options: BenchWireOptions): Promise<BenchWire> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: options.port, host: '127.0.0.1', localAddress: options.localAddress });
    socket.setNoDelay(true);
    let rest: Buffer = Buffer.alloc(0);
    let messages: Buffer = Buffer.alloc(0);
    const onData = (payload: Buffer) => {
      messages = messages.length === 0 ? payload : Buffer.concat([messages, payload]);
      let at = 0;
      while (messages.length >= at + 5 && messages.length >= at + 5 + messages.readUInt32BE(at + 1)) {
        const end = at + 5 + messages.readUInt32BE(at + 1);
        options.onFrame(fromBinary(ServerFrameSchema, messages.subarray(at + 5, end)));
        at = end;
      }
      messages = messages.subarray(at);
      const credit = Buffer.alloc(4);
      credit.writeUInt32BE(payload.length);
      socket.write(
        Buffer.concat([
          http2Frame(frameType.windowUpdate, 0, 0, credit),
          http2Frame(frameType.windowUpdate, 0, streamId, credit),
        ]),
      );
    };
    socket.on('data', (chunk: Buffer) => {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let at = 0;
      while (rest.length >= at + 9 && rest.length >= at + 9 + rest.readUIntBE(at, 3)) {
        const length = rest.readUIntBE(at, 3);
        const [type, flags] = [rest[at + 3], rest[at + 4] as number];
        const payload = rest.subarray(at + 9, at + 9 + length);
        at += 9 + length;
        if (type === frameType.data && length > 0) onData(payload);
        else if (type === frameType.settings && (flags & 1) === 0) {
          socket.write(http2Frame(frameType.settings, 1, 0, Buffer.alloc(0)));
        } else if (type === frameType.ping && (flags & 1) === 0) {
          socket.write(http2Frame(frameType.ping, 1, 0, payload));
        } else if (type === frameType.reset || type === frameType.goAway) {
          socket.destroy();
        }
      }
      rest = rest.subarray(at);
    });
    socket.on('connect', () => {
      const headers = [
        [':method', 'POST'],
        [':scheme', 'http'],
        [':path', '/presence.v1.PresenceService/Connect'],
        [':authority', 'bench'],
        ['content-type', 'application/grpc'],
        ['te', 'trailers'],
      ].map(([name, value]) => literalField(name as string, value as string));
      socket.write(
        Buffer.concat([
          preface,
          http2Frame(frameType.settings, 0, 0, Buffer.alloc(0)),
          http2Frame(frameType.headers, 4, streamId, Buffer.concat(headers)),
        ]),
      );
      resolve({
        send: (frame) => {
          const message = encode(frame);
          const prefix = Buffer.alloc(5);
          prefix.writeUInt32BE(message.length, 1);
          socket.write(http2Frame(frameType.data, 0, streamId, Buffer.concat([prefix, message])));
        },
        close: () => socket.destroy(),
      });
    });
    end(socket, options, reject);
  });
}

function http2Frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** RFC 7541 section 6.2.2, names and values shorter than 127 bytes, as they are. */
function literalField(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]);
}

function end(socket: Socket, options: BenchWireOptions, reject: (error: Error) => void): void {
  socket.on('error', reject);
  socket.on('close', () => {
    reject(new Error('closed'));
    options.onClose();
  });
}
