/**
 * The sending half of a connection: control frames first, then the streams in turn, within the peer's
 * windows (RFC 9113 §6.9) and what the socket takes.
 */
import type { Socket } from 'node:net';
import type { Connection } from './connection.ts';
import { ControlQueue } from './control-queue.ts';
import {
  DEFAULT_MAX_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  Flag,
  FRAME_HEADER_BYTES,
  FrameType,
  MAX_WINDOW_BYTES,
  writeFrameHeader,
  writeUint32,
} from './frames.ts';
import { HpackEncoder } from './hpack-encoder.ts';
import type { Outbox, Producer } from './outbox.ts';
import type { Chunk, HeaderBlock, Stream } from './stream.ts';

/** From here on bytes are handed to the socket as they are instead of being copied into the turn's buffer. */
const SHARE_FROM_BYTES = 8_192;

/** CVE-2019-9511: after this many frames cut short by a tiny window, wait for a window worth a frame. */
const MAX_TINY_FRAMES = 100;
const TINY_FRAME_BYTES = 128;
/** A stream that waits for window has made progress when it could send this much, or all it had. */
const PROGRESS_BYTES = 1_024;

/** Most that we use of the peer's decoder table, and what it has before any SETTINGS (RFC 9113 §6.5.2). */
const MAX_TABLE_BYTES = 4_096;

export class Sender implements Producer {
  readonly socket: Socket;
  scheduled = false;
  /** The socket holds more than the high-water mark: nothing is laid out until it drains. */
  blocked = false;
  blockedSinceMs = -1;

  // The peer's settings (RFC 9113 §6.5.2).
  initialStreamWindow = DEFAULT_WINDOW_BYTES;
  maxFrameBytes = DEFAULT_MAX_FRAME_BYTES;
  window = DEFAULT_WINDOW_BYTES;
  /** SETTINGS_MAX_HEADER_LIST_SIZE: advisory, and unlimited until the peer says otherwise. */
  maxHeaderListBytes = Number.POSITIVE_INFINITY;
  /** The peer shrank its decoder's table: the next block must begin with a size update (RFC 7541 §4.2). */
  sizeUpdateDue = false;

  dataFramesSent = 0;

  readonly connection: Connection;
  readonly outbox: Outbox;
  readonly control: ControlQueue;
  private firstReady: Stream | undefined = undefined;
  private lastReady: Stream | undefined = undefined;
  private tinyFrames = 0;
  /** Only for metadata of handlers: all other blocks are made without a table. */
  private encoder: HpackEncoder | undefined = undefined;

  constructor(connection: Connection, socket: Socket, outbox: Outbox) {
    this.connection = connection;
    this.socket = socket;
    this.outbox = outbox;
    this.control = new ControlQueue(this);
  }

  /** The stream has something to send, or may send again. */
  wake(stream: Stream): void {
    if (stream.ready || stream.closed) return;
    stream.ready = true;
    this.enqueue(stream);
    if (!this.blocked) this.outbox.schedule(this);
  }

  /** The connection's window grew. */
  wakeAll(): void {
    if (this.firstReady !== undefined && !this.blocked) this.outbox.schedule(this);
  }

  /**
   * The common case in one stroke: response HEADERS, one message in one DATA frame, trailers. Returns false,
   * having done nothing, when it has to go through the queue. `head` and `trailers` are complete frames whose
   * stream id is filled in here.
   */
  respond(stream: Stream, head: Buffer, message: Uint8Array, trailers: Buffer): boolean {
    const outbox = this.outbox;
    const dataBytes = message.length + 5;
    if (!this.mayWriteAtOnce) return false;
    if (dataBytes > SHARE_FROM_BYTES || dataBytes > this.window || dataBytes > stream.sendWindow)
      return false;
    outbox.reserve(head.length + FRAME_HEADER_BYTES + dataBytes + trailers.length);
    const slab = outbox.slab;
    let at = copySmall(head, slab, outbox.position);
    writeUint32(slab, at - head.length + 5, stream.id);
    at = writeFrameHeader(slab, at, dataBytes, FrameType.DATA, 0, stream.id);
    slab[at] = 0;
    writeUint32(slab, at + 1, message.length);
    at = copySmall(message, slab, at + 5);
    at = copySmall(trailers, slab, at);
    writeUint32(slab, at - trailers.length + 5, stream.id);
    outbox.position = at;
    this.window -= dataBytes;
    stream.sendWindow -= dataBytes;
    stream.responded = true;
    this.dataFramesSent++;
    this.connection.receiver.onAnswerBytes();
    return true;
  }

  /** An answer that is one HEADERS frame. Returns false, having done nothing, when it has to go through the queue. */
  answerWithHead(streamId: number, block: Buffer): boolean {
    if (!this.mayWriteAtOnce) return false;
    this.writeHeaderBlock(streamId, block, true);
    this.connection.receiver.onAnswerBytes();
    return true;
  }

  produce(): void {
    if (this.blocked) return;
    this.control.produce();
    let withoutProgress: Stream | undefined;
    while (this.firstReady !== undefined && !this.blocked) {
      const stream = this.firstReady;
      this.firstReady = stream.nextReady;
      stream.nextReady = undefined;
      if (this.firstReady === undefined) this.lastReady = undefined;
      if (stream.closed) {
        stream.ready = false;
        continue;
      }
      const progressed = this.produceStream(stream);
      if (stream.closed || !stream.hasOutput || (!progressed && stream.sendWindow < this.window)) {
        // Done, or waiting for its own window: a WINDOW_UPDATE wakes it.
        stream.ready = false;
        continue;
      }
      this.enqueue(stream);
      if (progressed) withoutProgress = undefined;
      else if (withoutProgress === undefined) withoutProgress = stream;
      else if (withoutProgress === stream) break;
      if (
        this.outbox.pendingBytes + this.socket.writableLength >=
        this.connection.limits.outboundHighWaterBytes
      ) {
        this.outbox.write();
      }
    }
  }

  onWritten(): void {
    if (this.blocked || this.socket.writableLength < this.connection.limits.outboundHighWaterBytes) return;
    this.blocked = true;
    this.blockedSinceMs = this.connection.server.nowMs();
    this.connection.onBlocked();
  }

  onDrain(): void {
    this.blocked = false;
    this.blockedSinceMs = -1;
    this.outbox.schedule(this);
  }

  /** SETTINGS_INITIAL_WINDOW_SIZE: for new streams, and the difference for open ones (§6.9.2); false on overflow. */
  setInitialStreamWindow(bytes: number, open: Iterable<Stream>): boolean {
    const delta = bytes - this.initialStreamWindow;
    this.initialStreamWindow = bytes;
    for (const stream of open) {
      stream.sendWindow += delta;
      if (stream.sendWindow > MAX_WINDOW_BYTES) return false;
      if (delta > 0 && stream.hasOutput) this.wake(stream);
    }
    return true;
  }

  /** SETTINGS_HEADER_TABLE_SIZE. */
  onTableSize(bytes: number): void {
    if (bytes >= MAX_TABLE_BYTES && this.encoder === undefined) return;
    this.encoder ??= new HpackEncoder({ maxTableBytes: MAX_TABLE_BYTES });
    this.encoder.resize(Math.min(bytes, MAX_TABLE_BYTES));
    this.sizeUpdateDue = this.encoder.sizeUpdateDue;
  }

  /** Drops everything that waits. */
  release(): void {
    this.control.drop();
    this.firstReady = undefined;
    this.lastReady = undefined;
    this.encoder = undefined;
    this.outbox.abandon(this);
  }

  /** It is this connection's turn, nothing has to go before, and a block without a table may come next. */
  private get mayWriteAtOnce(): boolean {
    return this.outbox.owner === this && !this.blocked && this.control.items === 0 && !this.sizeUpdateDue;
  }

  private enqueue(stream: Stream): void {
    if (this.lastReady === undefined) this.firstReady = stream;
    else this.lastReady.nextReady = stream;
    this.lastReady = stream;
  }

  /** Lays out what one stream may send in one round: at most one DATA frame. True: something was. */
  private produceStream(stream: Stream): boolean {
    let progressed = false;
    if (stream.headBlock !== undefined) {
      const headOnly = stream.ending && stream.queuedBytes === 0 && stream.trailerBlock === undefined;
      this.writeHeaderBlock(stream.id, stream.headBlock, headOnly);
      stream.headBlock = undefined;
      stream.responded = true;
      this.connection.receiver.onAnswerBytes();
      progressed = true;
      if (headOnly) {
        this.connection.onStreamSent(stream);
        return true;
      }
    }
    if (stream.queuedBytes > 0) {
      const sent = this.writeData(stream);
      if (sent === 0) {
        this.connection.lifetime.onStreamStalled(stream);
        return progressed;
      }
      progressed = true;
      stream.onDequeued();
      if (stream.queuedBytes > 0 || stream.closed) return true;
    }
    if (stream.ending) {
      if (stream.trailerBlock !== undefined) this.writeHeaderBlock(stream.id, stream.trailerBlock, true);
      this.connection.onStreamSent(stream);
      progressed = true;
    }
    return progressed;
  }

  /** One DATA frame from the stream's queue; returns its payload length, 0 when no window is open. */
  private writeData(stream: Stream): number {
    const wanted = Math.min(stream.queuedBytes, this.maxFrameBytes, DEFAULT_MAX_FRAME_BYTES);
    const length = Math.min(wanted, this.window, stream.sendWindow);
    if (length <= 0) return 0;
    if (length < wanted && length < TINY_FRAME_BYTES && ++this.tinyFrames > MAX_TINY_FRAMES) return 0;
    const endStream = stream.ending && stream.trailerBlock === undefined && length === stream.queuedBytes;
    const outbox = this.outbox;
    outbox.reserve(FRAME_HEADER_BYTES + length);
    const flags = endStream ? Flag.END_STREAM : 0;
    outbox.position = writeFrameHeader(
      outbox.slab,
      outbox.position,
      length,
      FrameType.DATA,
      flags,
      stream.id,
    );
    for (let left = length; left > 0; ) left -= this.writeFromFirstChunk(stream, left);
    this.window -= length;
    stream.sendWindow -= length;
    stream.queuedBytes -= length;
    stream.responded = true;
    this.dataFramesSent++;
    // A trickle of window is no progress: the stall clock of a slow reader goes on (A15).
    if (length === wanted || length >= PROGRESS_BYTES) stream.stalledSinceMs = -1;
    this.connection.receiver.onAnswerBytes();
    return length;
  }

  /** Lays out up to `most` bytes of the first chunk; returns how many. */
  private writeFromFirstChunk(stream: Stream, most: number): number {
    const outbox = this.outbox;
    const chunk = stream.firstChunk as Chunk;
    let offset = stream.sentOfFirst;
    let written = 0;
    if (chunk.prefixFlag >= 0) {
      for (; offset < 5 && written < most; offset++, written++) {
        outbox.slab[outbox.position++] =
          offset === 0 ? chunk.prefixFlag : chunk.bytes.length >>> (8 * (4 - offset));
      }
      offset -= 5;
    }
    const length = Math.min(most - written, chunk.bytes.length - offset);
    if (length >= SHARE_FROM_BYTES) {
      outbox.append(chunk.bytes.subarray(offset, offset + length));
    } else if (length > 0) {
      chunk.bytes.copy(outbox.slab, outbox.position, offset, offset + length);
      outbox.position += length;
    }
    written += length;
    stream.sentOfFirst += written;
    if (stream.sentOfFirst === chunk.length) {
      stream.firstChunk = chunk.next;
      if (chunk.next === undefined) stream.lastChunk = undefined;
      stream.sentOfFirst = 0;
      stream.queuedMessages--;
    }
    return written;
  }

  /** HEADERS and, past the peer's frame size, CONTINUATION (RFC 9113 §6.10). */
  private writeHeaderBlock(streamId: number, content: HeaderBlock, endStream: boolean): void {
    const outbox = this.outbox;
    const block = this.encodeBlock(content);
    let sent = 0;
    do {
      const length = Math.min(block.length - sent, this.maxFrameBytes, DEFAULT_MAX_FRAME_BYTES);
      outbox.reserve(FRAME_HEADER_BYTES + length);
      const last = sent + length === block.length;
      const flags = (last ? Flag.END_HEADERS : 0) | (sent === 0 && endStream ? Flag.END_STREAM : 0);
      const type = sent === 0 ? FrameType.HEADERS : FrameType.CONTINUATION;
      const at = writeFrameHeader(outbox.slab, outbox.position, length, type, flags, streamId);
      block.copy(outbox.slab, at, sent, sent + length);
      outbox.position = at + length;
      sent += length;
    } while (sent < block.length);
  }

  private encodeBlock(content: HeaderBlock): Buffer {
    if (!Buffer.isBuffer(content)) {
      this.encoder ??= new HpackEncoder({ maxTableBytes: MAX_TABLE_BYTES });
      this.sizeUpdateDue = false;
      return this.encoder.encode(content);
    }
    if (!this.sizeUpdateDue || this.encoder === undefined) return content;
    this.sizeUpdateDue = false;
    return Buffer.concat([this.encoder.encode([]), content]);
  }
}

/** For the few dozen bytes of an answer a loop beats the call into native code. */
function copySmall(source: Uint8Array, target: Buffer, at: number): number {
  const length = source.length;
  if (length > 96) {
    target.set(source, at);
  } else {
    for (let i = 0; i < length; i++) target[at + i] = source[i] as number;
  }
  return at + length;
}
