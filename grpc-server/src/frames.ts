/**
 * HTTP/2 frames (RFC 9113 §4 and §6) as bytes: a reader that cuts chunks into frames, and one writer per
 * frame type. Nothing here knows a socket or a stream.
 */
import { ConnectionError, H2Error } from './errors.ts';

export const FrameType = {
  DATA: 0x0,
  HEADERS: 0x1,
  PRIORITY: 0x2,
  RST_STREAM: 0x3,
  SETTINGS: 0x4,
  PUSH_PROMISE: 0x5,
  PING: 0x6,
  GOAWAY: 0x7,
  WINDOW_UPDATE: 0x8,
  CONTINUATION: 0x9,
} as const;

export const Flag = {
  ACK: 0x1,
  END_STREAM: 0x1,
  END_HEADERS: 0x4,
  PADDED: 0x8,
  PRIORITY: 0x20,
} as const;

export const Setting = {
  HEADER_TABLE_SIZE: 0x1,
  ENABLE_PUSH: 0x2,
  MAX_CONCURRENT_STREAMS: 0x3,
  INITIAL_WINDOW_SIZE: 0x4,
  MAX_FRAME_SIZE: 0x5,
  MAX_HEADER_LIST_SIZE: 0x6,
} as const;

export const FRAME_HEADER_BYTES = 9;
export const DEFAULT_MAX_FRAME_BYTES = 16_384;
export const LARGEST_MAX_FRAME_BYTES = 16_777_215;
export const DEFAULT_WINDOW_BYTES = 65_535;
export const MAX_WINDOW_BYTES = 0x7fff_ffff;
export const MAX_STREAM_ID = 0x7fff_ffff;
export const CLIENT_PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

export interface FrameSink {
  /** One complete frame; its payload is `bytes[start, end)`, valid only during the call. */
  onFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void;
  /** Asked before each frame: true makes the reader drop what follows. */
  readonly closing: boolean;
}

/** Cuts a byte stream into frames. Holds no more than one incomplete frame, and nothing between frames. */
export class FrameReader {
  private readonly maxFrameBytes: number;
  private partial: Buffer | undefined;
  private partialLength = 0;

  /** `maxFrameBytes` is our SETTINGS_MAX_FRAME_SIZE: a longer frame throws FRAME_SIZE_ERROR (§4.2). */
  constructor(maxFrameBytes: number) {
    this.maxFrameBytes = maxFrameBytes;
  }

  /** True in the middle of a frame. */
  get midFrame(): boolean {
    return this.partialLength > 0;
  }

  read(chunk: Buffer, start: number, sink: FrameSink): void {
    let at = start;
    if (this.partialLength > 0) at = this.completePartial(chunk, start, sink);
    const end = chunk.length;
    while (end - at >= FRAME_HEADER_BYTES) {
      const length = this.checkedLength(chunk, at);
      const next = at + FRAME_HEADER_BYTES + length;
      if (next > end) break;
      if (sink.closing) return;
      dispatch(chunk, at, next, sink);
      at = next;
    }
    if (at < end && !sink.closing) this.keep(chunk, at, end);
  }

  /** Drops what is held. */
  release(): void {
    this.partial = undefined;
    this.partialLength = 0;
  }

  private checkedLength(bytes: Buffer, at: number): number {
    const length =
      ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
    if (length > this.maxFrameBytes) {
      throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'frame over SETTINGS_MAX_FRAME_SIZE');
    }
    return length;
  }

  /** Feeds the held frame from the chunk; returns where in the chunk the next frame starts. */
  private completePartial(chunk: Buffer, start: number, sink: FrameSink): number {
    let at = start;
    if (this.partialLength < FRAME_HEADER_BYTES) {
      const headerEnd = Math.min(chunk.length, at + FRAME_HEADER_BYTES - this.partialLength);
      this.keep(chunk, at, headerEnd);
      at = headerEnd;
      if (this.partialLength < FRAME_HEADER_BYTES) return at;
    }
    const frameBytes = FRAME_HEADER_BYTES + this.checkedLength(this.partial as Buffer, 0);
    const frameEnd = Math.min(chunk.length, at + frameBytes - this.partialLength);
    this.keep(chunk, at, frameEnd);
    if (this.partialLength < frameBytes) return frameEnd;
    const frame = this.partial as Buffer;
    this.release();
    if (!sink.closing) dispatch(frame, 0, frameBytes, sink);
    return frameEnd;
  }

  /** Appends to the held frame, doubling: memory follows what was received, not what was declared. */
  private keep(chunk: Buffer, start: number, end: number): void {
    const needed = this.partialLength + end - start;
    if (this.partial === undefined) {
      this.partial = Buffer.allocUnsafeSlow(Math.max(needed, 32));
    } else if (this.partial.length < needed) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.partial.length));
      this.partial.copy(grown, 0, 0, this.partialLength);
      this.partial = grown;
    }
    chunk.copy(this.partial, this.partialLength, start, end);
    this.partialLength = needed;
  }
}

function dispatch(bytes: Buffer, at: number, end: number, sink: FrameSink): void {
  const streamId =
    (((bytes[at + 5] as number) & 0x7f) << 24) |
    ((bytes[at + 6] as number) << 16) |
    ((bytes[at + 7] as number) << 8) |
    (bytes[at + 8] as number);
  const type = bytes[at + 3] as number;
  sink.onFrame(type, bytes[at + 4] as number, streamId, bytes, at + FRAME_HEADER_BYTES, end);
}

export function readUint32(bytes: Buffer, at: number): number {
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  );
}

export function writeUint32(target: Buffer, at: number, value: number): void {
  target[at] = value >>> 24;
  target[at + 1] = value >>> 16;
  target[at + 2] = value >>> 8;
  target[at + 3] = value;
}

export function writeFrameHeader(
  target: Buffer,
  at: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): number {
  target[at] = length >>> 16;
  target[at + 1] = length >>> 8;
  target[at + 2] = length;
  target[at + 3] = type;
  target[at + 4] = flags;
  writeUint32(target, at + 5, streamId);
  return at + FRAME_HEADER_BYTES;
}

export const RST_STREAM_FRAME_BYTES = 13;

export function writeRstStream(target: Buffer, at: number, streamId: number, code: number): void {
  const payload = writeFrameHeader(target, at, 4, FrameType.RST_STREAM, 0, streamId);
  writeUint32(target, payload, code);
}

export const WINDOW_UPDATE_FRAME_BYTES = 13;

export function writeWindowUpdate(target: Buffer, at: number, streamId: number, increment: number): void {
  const payload = writeFrameHeader(target, at, 4, FrameType.WINDOW_UPDATE, 0, streamId);
  writeUint32(target, payload, increment);
}

export const PING_FRAME_BYTES = 17;

/** `data[from, from + 8)` is the opaque payload. */
export function writePing(target: Buffer, at: number, flags: number, data: Buffer, from: number): void {
  const payload = writeFrameHeader(target, at, 8, FrameType.PING, flags, 0);
  for (let i = 0; i < 8; i++) target[payload + i] = data[from + i] as number;
}

export function settingsFrameBytes(settings: readonly (readonly [number, number])[]): number {
  return FRAME_HEADER_BYTES + 6 * settings.length;
}

export function writeSettings(
  target: Buffer,
  at: number,
  flags: number,
  settings: readonly (readonly [number, number])[],
): void {
  let position = writeFrameHeader(target, at, 6 * settings.length, FrameType.SETTINGS, flags, 0);
  for (const [id, value] of settings) {
    target[position] = id >>> 8;
    target[position + 1] = id;
    writeUint32(target, position + 2, value);
    position += 6;
  }
}

export function goawayFrameBytes(debug: Buffer): number {
  return FRAME_HEADER_BYTES + 8 + debug.length;
}

export function writeGoaway(
  target: Buffer,
  at: number,
  lastStreamId: number,
  code: number,
  debug: Buffer,
): void {
  const payload = writeFrameHeader(target, at, 8 + debug.length, FrameType.GOAWAY, 0, 0);
  writeUint32(target, payload, lastStreamId);
  writeUint32(target, payload + 4, code);
  debug.copy(target, payload + 8);
}
