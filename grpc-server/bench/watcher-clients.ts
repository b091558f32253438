/**
 * Watching connections in a process of their own: `watcher-clients.ts <port> <count> <first 127.0.0.x>`. As
 * little of a client as will do: it sends prepared bytes, acknowledges SETTINGS, and notes when data arrives.
 */
import { connect, type Socket } from 'node:net';
import { CLIENT_PREFACE, Flag, FrameType, writeFrameHeader, writeWindowUpdate } from '../src/frames.ts';
import { encodeStateless } from '../src/hpack-encoder.ts';
import { encodeRequest, WATCH } from './codec.ts';

const CONNECTIONS_PER_ADDRESS = 20_000;
const BATCH = 200;
const REPORT_TIMEOUT_MS = 15_000;

const port = Number(process.argv[2]);
const count = Number(process.argv[3]);
const hostPart = Number(process.argv[4]);

function frame(type: number, flags: number, streamId: number, payload: Buffer): Buffer {
  const bytes = Buffer.alloc(9 + payload.length);
  payload.copy(bytes, writeFrameHeader(bytes, 0, payload.length, type, flags, streamId));
  return bytes;
}

function openingBytes(): Buffer {
  const block = encodeStateless([
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', WATCH.path],
    [':authority', '127.0.0.1'],
    ['te', 'trailers'],
    ['content-type', 'application/grpc'],
    ['user-agent', 'bench'],
  ]);
  const message = encodeRequest({ userId: 'user-42' });
  const prefix = Buffer.from([0, 0, 0, 0, message.length]);
  const windowUpdate = Buffer.alloc(13);
  writeWindowUpdate(windowUpdate, 0, 0, 1 << 20);
  return Buffer.concat([
    CLIENT_PREFACE,
    frame(FrameType.SETTINGS, 0, 0, Buffer.from([0, 4, 0, 0x10, 0, 0])),
    frame(FrameType.SETTINGS, Flag.ACK, 0, Buffer.alloc(0)),
    windowUpdate,
    frame(FrameType.HEADERS, Flag.END_HEADERS, 1, block),
    frame(FrameType.DATA, Flag.END_STREAM, 1, Buffer.concat([prefix, message])),
  ]);
}

const OPENING = openingBytes();
const RECEIVE_BUFFER = Buffer.alloc(65_536);
const arrivalsNs: bigint[] = [];
const sockets: Socket[] = [];
let measuring = false;
let ready = 0;
let reportTimer: NodeJS.Timeout | undefined;

function report(): void {
  clearTimeout(reportTimer);
  measuring = false;
  process.send?.({ arrivalsNs: arrivalsNs.map(String) });
}

function open(index: number): Promise<void> {
  const localAddress = `127.0.0.${hostPart + Math.floor(index / CONNECTIONS_PER_ADDRESS)}`;
  return new Promise((resolve, reject) => {
    let heardBytes = 0;
    const onRead = (bytes: number): boolean => {
      if (measuring) {
        arrivalsNs.push(process.hrtime.bigint());
        if (arrivalsNs.length === count) report();
        return true;
      }
      heardBytes += bytes;
      // SETTINGS, its ACK, HEADERS and the first message: more than 80 bytes on every server.
      if (heardBytes > 80) {
        ready++;
        heardBytes = Number.NEGATIVE_INFINITY;
        resolve();
      }
      return true;
    };
    // One buffer for all: the client must cost as little as possible beside the server.
    const onread = { buffer: RECEIVE_BUFFER, callback: onRead };
    const socket = connect({ host: '127.0.0.1', port, localAddress, noDelay: true, onread });
    sockets.push(socket);
    socket.on('error', reject);
    socket.on('connect', () => socket.write(OPENING));
  });
}

for (let i = 0; i < count; i += BATCH) {
  await Promise.all(Array.from({ length: Math.min(BATCH, count - i) }, (_, j) => open(i + j)));
}
// Whatever is still under way (window updates, late settings) must not be taken for a broadcast.
await new Promise((resolve) => setTimeout(resolve, 500));

process.on('message', () => {
  arrivalsNs.length = 0;
  measuring = true;
  reportTimer = setTimeout(report, REPORT_TIMEOUT_MS);
});
process.on('disconnect', () => process.exit(0));
process.send?.({ ready });
