/** HEADERS and CONTINUATION (RFC 9113 §6.2, §6.10): blocks put together, decoded, and made into streams or trailers. */
import type { Connection } from './connection.ts';
import { ConnectionError, H2Error } from './errors.ts';
import { Flag, MAX_STREAM_ID, readUint32 } from './frames.ts';
import { HeadCache } from './head-cache.ts';
import { HpackDecoder } from './hpack-decoder.ts';
import { RejectedCall } from './rejected-call.ts';
import { areValidTrailers, parseRequestHead, type RequestHead } from './request-head.ts';
import type { Stream } from './stream.ts';

const DEFAULT_HEADER_TABLE_BYTES = 4_096;

/** A block of which frames are still to come. */
interface OpenBlock {
  readonly streamId: number;
  readonly flags: number;
  readonly selfDependent: boolean;
  continuations: number;
  /** The fragments so far: the first `length` bytes. */
  bytes: Buffer;
  length: number;
}

export class HeaderReceiver {
  private readonly connection: Connection;
  private readonly decoder = new HpackDecoder(DEFAULT_HEADER_TABLE_BYTES);
  private cache: HeadCache | undefined = undefined;
  private open: OpenBlock | undefined = undefined;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** The stream whose block is incomplete: only its CONTINUATION may follow. 0: none. */
  get openStreamId(): number {
    return this.open === undefined ? 0 : this.open.streamId;
  }

  onHeaders(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if ((streamId & 1) === 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'HEADERS on an even stream');
    let at = start;
    let blockEnd = end;
    if ((flags & Flag.PADDED) !== 0) {
      blockEnd = unpaddedEnd(bytes, start, end);
      at++;
    }
    let selfDependent = false;
    if ((flags & Flag.PRIORITY) !== 0) {
      if (end - at < 5) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'HEADERS too short');
      if (blockEnd - at < 5) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'padding over the priority');
      selfDependent = (readUint32(bytes, at) & MAX_STREAM_ID) === streamId;
      at += 5;
    }
    if ((flags & Flag.END_HEADERS) !== 0) {
      this.onBlock(streamId, flags, selfDependent, bytes, at, blockEnd);
      return;
    }
    const { connection } = this;
    if (at === blockEnd) connection.abuse().emptyFrame();
    this.open = { streamId, flags, selfDependent, continuations: 0, bytes: NOTHING, length: 0 };
    connection.lifetime.blockDueMs = connection.nowMs + connection.limits.headerBlockTimeoutMs;
    connection.lifetime.rearm();
    this.keepFragment(this.open, bytes, at, blockEnd);
  }

  onContinuation(flags: number, bytes: Buffer, start: number, end: number): void {
    const block = this.open;
    if (block === undefined) {
      throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'CONTINUATION without HEADERS');
    }
    if (++block.continuations > this.connection.limits.maxContinuationFrames) {
      throw new ConnectionError(H2Error.ENHANCE_YOUR_CALM, 'too many CONTINUATION frames');
    }
    const last = (flags & Flag.END_HEADERS) !== 0;
    if (start === end && !last) this.connection.abuse().emptyFrame();
    this.keepFragment(block, bytes, start, end);
    if (!last) return;
    this.open = undefined;
    this.connection.lifetime.blockDueMs = -1;
    this.onBlock(block.streamId, block.flags, block.selfDependent, block.bytes, 0, block.length);
  }

  /** The connection is over. */
  release(): void {
    this.cache = undefined;
    this.open = undefined;
  }

  private keepFragment(block: OpenBlock, bytes: Buffer, start: number, end: number): void {
    const needed = block.length + end - start;
    // Encoded, a list may be as long as decoded, not counting the 32 bytes each; twice is generous.
    if (needed > 2 * this.connection.limits.maxHeaderListBytes) {
      throw new ConnectionError(H2Error.ENHANCE_YOUR_CALM, 'header block too large');
    }
    if (block.bytes.length < needed) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, 2 * block.length));
      block.bytes.copy(grown, 0, 0, block.length);
      block.bytes = grown;
    }
    bytes.copy(block.bytes, block.length, start, end);
    block.length = needed;
  }

  /** A complete block. Decoded in any case: the dynamic table must not fall behind (§4.3). */
  private onBlock(
    streamId: number,
    flags: number,
    selfDependent: boolean,
    bytes: Buffer,
    start: number,
    end: number,
  ): void {
    const { connection, decoder } = this;
    const isNew = streamId > connection.streams.lastId;
    if (isNew) {
      const cached = this.cache?.find(bytes, start, end, decoder.changes);
      if (cached !== undefined) {
        this.openStream(streamId, flags, selfDependent, cached);
        return;
      }
    }
    const list = connection.server.fieldList;
    const changes = decoder.changes;
    decoder.decode(bytes, start, end, list);
    const { fields, overLimit } = list;
    list.reset();
    if (!isNew) {
      const valid = !overLimit && !selfDependent && areValidTrailers(fields);
      this.onTrailers(streamId, valid, (flags & Flag.END_STREAM) !== 0);
      return;
    }
    const head = parseRequestHead(fields, overLimit);
    if (head !== undefined && !overLimit && changes === decoder.changes) {
      this.cache ??= new HeadCache();
      this.cache.add(bytes, start, end, changes, head);
    }
    this.openStream(streamId, flags, selfDependent, head);
  }

  private openStream(
    streamId: number,
    flags: number,
    selfDependent: boolean,
    head: RequestHead | undefined,
  ): void {
    const { connection } = this;
    const { server, streams } = connection;
    streams.begin(streamId);
    if (connection.isBeyondGoaway(streamId)) return;
    const endStream = (flags & Flag.END_STREAM) !== 0;
    if (head === undefined || selfDependent || (endStream && head.contentLength > 0)) {
      connection.abuse().glitch(connection.nowMs);
      connection.writeRstStream(streamId, H2Error.PROTOCOL_ERROR);
      return;
    }
    if (streams.active >= connection.limits.maxConcurrentStreams) {
      server.countRefused();
      connection.abuse().glitch(connection.nowMs);
      connection.writeRstStream(streamId, H2Error.REFUSED_STREAM);
      return;
    }
    const refusal = server.refusalOf(head);
    if (refusal === undefined) {
      this.begin(server.open(connection, streamId, head), endStream);
    } else if (!this.refuse(streamId, endStream, refusal)) {
      this.begin(new RejectedCall(connection, streamId, head, refusal), endStream);
    }
    if (streamId === MAX_STREAM_ID) connection.drain('stream ids exhausted');
  }

  private begin(stream: Stream, endStream: boolean): void {
    this.connection.streams.add(stream);
    stream.remoteEnded = endStream;
    stream.onOpened();
    if (endStream && !stream.closed) stream.onRemoteEnd();
  }

  /**
   * Answers a call without making a stream of it: under a load that is too much for us, refusing is most of what we do.
   * False, having done nothing, when the answer has to wait for others.
   */
  private refuse(streamId: number, endStream: boolean, block: Buffer): boolean {
    const { connection } = this;
    if (!connection.sender.answerWithHead(streamId, block)) return false;
    connection.endRefused();
    if (endStream) connection.countClosed(false);
    else connection.streams.refusedId = streamId;
    connection.lifetime.idleSinceMs = connection.nowMs;
    return true;
  }

  /** A second header block on a stream: request trailers, which carry nothing that we use. */
  private onTrailers(streamId: number, valid: boolean, endStream: boolean): void {
    const { connection } = this;
    const stream = connection.streams.find(streamId);
    if (stream === undefined) {
      if (connection.streams.wasSkipped(streamId)) {
        throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'stream id below an earlier one');
      }
      connection.onFrameForClosed(streamId, endStream);
      return;
    }
    if (stream.remoteEnded) {
      connection.provoked(stream, H2Error.STREAM_CLOSED);
      return;
    }
    if (!valid || !endStream || stream.expectedBytes > 0) {
      connection.provoked(stream, H2Error.PROTOCOL_ERROR);
      return;
    }
    stream.remoteEnded = true;
    stream.onRemoteEnd();
  }
}

const NOTHING = Buffer.alloc(0);

/** Where the padding begins (§6.1): padding as long as the rest of the frame or longer is an error. */
export function unpaddedEnd(bytes: Buffer, start: number, end: number): number {
  if (start === end) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'padded frame without pad length');
  const padding = bytes[start] as number;
  if (padding > end - start - 1) {
    throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'padding longer than the frame');
  }
  return end - padding;
}
