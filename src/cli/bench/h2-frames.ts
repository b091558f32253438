/** As much of HTTP/2 (RFC 9113) and HPACK (RFC 7541) as a load generator needs: prebuilt requests, frames read by hand. */

export const frameType = {
  data: 0x0,
  headers: 0x1,
  rstStream: 0x3,
  settings: 0x4,
  ping: 0x6,
  goaway: 0x7,
  windowUpdate: 0x8,
  continuation: 0x9,
} as const;

export const flagAck = 0x1;
export const flagEndStream = 0x1;
export const flagEndHeaders = 0x4;

export const frameHeaderBytes = 9;
/** What a peer takes unless it says otherwise (§4.2, §6.9.2). */
export const defaultMaxFrameBytes = 16_384;
export const defaultWindowBytes = 65_535;
const maxWindowBytes = 0x7fff_ffff;
/** Connection window left, below which it is opened again. */
const windowRefillBytes = 1 << 30;

export function writeFrameHeader(
  target: Buffer,
  at: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): void {
  target.writeUIntBE(length, at, 3);
  target[at + 3] = type;
  target[at + 4] = flags;
  target.writeUInt32BE(streamId, at + 5);
}

export function makeFrame(type: number, flags: number, streamId: number, payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(frameHeaderBytes + payload.length);
  writeFrameHeader(frame, 0, payload.length, type, flags, streamId);
  frame.set(payload, frameHeaderBytes);
  return frame;
}

function windowUpdate(increment: number): Buffer {
  const payload = Buffer.allocUnsafe(4);
  payload.writeUInt32BE(increment);
  return makeFrame(frameType.windowUpdate, 0, 0, payload);
}

export const windowRefill = windowUpdate(windowRefillBytes);
export { windowRefillBytes };

function setting(id: number, value: number): Buffer {
  const bytes = Buffer.allocUnsafe(6);
  bytes.writeUInt16BE(id);
  bytes.writeUInt32BE(value, 2);
  return bytes;
}

const settingInitialWindow = 4;
export const settingMaxConcurrentStreams = 3;
export const settingInitialWindowSize = settingInitialWindow;

/**
 * What a client says first: windows as large as they get, so that the server never waits for the load generator, and no
 * dynamic table, so that a response's head needs no state.
 */
export const clientOpening = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1'),
  makeFrame(
    frameType.settings,
    0,
    0,
    Buffer.concat([setting(1, 0), setting(2, 0), setting(settingInitialWindow, maxWindowBytes)]),
  ),
  windowUpdate(maxWindowBytes - defaultWindowBytes),
]);

export const settingsAck = makeFrame(frameType.settings, flagAck, 0, Buffer.alloc(0));

/** Index of a name in HPACK's static table. */
const staticNames: Readonly<Record<string, number>> = {
  ':authority': 1,
  ':path': 4,
  'content-type': 31,
  'user-agent': 58,
  authorization: 23,
};
/** `:method: POST` and `:scheme: http`, whole entries of the static table. */
const methodPost = 0x83;
const schemeHttp = 0x86;

/** RFC 7541 §5.1, with no bits before the prefix. */
function integer(value: number, prefixBits: number): number[] {
  const mask = (1 << prefixBits) - 1;
  if (value < mask) return [value];
  const bytes = [mask];
  let rest = value - mask;
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return bytes;
}

function plainString(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from(integer(bytes.length, 7)), bytes]);
}

/** A literal without indexing (RFC 7541 §6.2.2): right on every connection, at any time. */
function literal(name: string, value: string): Buffer {
  const index = staticNames[name];
  const head =
    index === undefined
      ? Buffer.concat([Buffer.from([0]), plainString(name)])
      : Buffer.from(integer(index, 4));
  return Buffer.concat([head, plainString(value)]);
}

/** The header block of a gRPC request; made once, sent with every call. */
export function requestHead(
  path: string,
  authority: string,
  metadata: readonly (readonly [string, string])[] = [],
): Buffer {
  return Buffer.concat([
    Buffer.from([methodPost, schemeHttp]),
    literal(':path', path),
    literal(':authority', authority),
    literal('te', 'trailers'),
    literal('content-type', 'application/grpc'),
    literal('user-agent', 'pilotlight-bench'),
    ...metadata.map(([name, value]) => literal(name, value)),
  ]);
}
