/**
 * One HTTP/2 connection, server side (RFC 9113): preface, settings, streams, flow control, GOAWAY. Frames
 * come in from `FrameReader`, bytes go out through `Sender`; what a request means is up to the `Application`.
 * A violation is thrown as `ConnectionError` and ends here, in `receive`.
 */
import type { Socket } from 'node:net';
import { AbuseBudget, isRapidReset, ResetRatio } from './abuse-budget.ts';
import { ConnectionError, H2Error } from './errors.ts';
import {
  CLIENT_PREFACE,
  DEFAULT_MAX_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  Flag,
  FrameReader,
  type FrameSink,
  FrameType,
  goawayFrameBytes,
  LARGEST_MAX_FRAME_BYTES,
  MAX_STREAM_ID,
  MAX_WINDOW_BYTES,
  PING_FRAME_BYTES,
  RST_STREAM_FRAME_BYTES,
  readUint32,
  Setting,
  settingsFrameBytes,
  WINDOW_UPDATE_FRAME_BYTES,
  writeGoaway,
  writePing,
  writeRstStream,
  writeSettings,
  writeWindowUpdate,
} from './frames.ts';
import { HeadCache } from './head-cache.ts';
import { type FieldList, HpackDecoder } from './hpack-decoder.ts';
import type { KeepaliveOptions } from './keepalive.ts';
import { PingJudge } from './keepalive.ts';
import type { Limits } from './limits.ts';
import type { Outbox } from './outbox.ts';
import { areValidTrailers, parseRequestHead, type RequestHead } from './request-head.ts';
import { Sender } from './sender.ts';
import type { Stream } from './stream.ts';
import { TimerNode, type TimerTarget, type TimerWheel } from './timer-wheel.ts';

const DEFAULT_HEADER_TABLE_BYTES = 4_096;
/**
 * Streams that we reset are remembered so that late frames on them are ignored (§5.4.2): this many, and at least as
 * many as the client may have open, since all of them may be answered early at once.
 */
const REMEMBERED_RESETS = 128;
const REMEMBERED_GAPS = 32;
const SETTINGS_ACK_BYTES = 9;
/** What grpc-go sends between its two GOAWAY frames, so that it is recognised in captures. */
const DRAIN_PING = Buffer.from([1, 6, 1, 8, 0, 3, 3, 9]);
const KEEPALIVE_PING = Buffer.from('keepaliv', 'latin1');

/** Where a connection is in its life. */
const Phase = {
  AWAITING_PREFACE: 0,
  AWAITING_SETTINGS: 1,
  AWAITING_SETTINGS_ACK: 2,
  ESTABLISHED: 3,
  /** Our last frame is written; input is dropped until the peer closes or `lingerMs` pass. */
  LINGERING: 4,
  CLOSED: 5,
} as const;

/** What the connection needs from its server. */
export interface ConnectionHost {
  readonly limits: Limits;
  readonly keepalive: KeepaliveOptions;
  readonly maxConnectionAgeMs: number;
  readonly maxConnectionAgeGraceMs: number;
  readonly maxConnectionIdleMs: number;
  readonly outbox: Outbox;
  readonly wheel: TimerWheel;
  /** Our SETTINGS and the initial WINDOW_UPDATE, as bytes. */
  readonly greeting: Buffer;
  /** One per process: blocks are decoded one at a time. */
  readonly fieldList: FieldList;
  /** Request bytes held by all connections. */
  bufferedRequestBytes: number;
  nowMs(): number;
  /** Makes the stream of a request, or answers it. Must not throw. */
  open(connection: Connection, id: number, head: RequestHead): Stream;
  onConnectionClosed(connection: Connection): void;
  onError(error: unknown, context: string): void;
  countRefused(): void;
}

export class Connection implements FrameSink, TimerTarget {
  readonly server: ConnectionHost;
  readonly limits: Limits;
  readonly socket: Socket;
  readonly sender: Sender;
  /** Time of the turn, by the server's clock. */
  nowMs: number;

  private phase: number = Phase.AWAITING_PREFACE;
  private readonly reader = new FrameReader(DEFAULT_MAX_FRAME_BYTES);
  private readonly decoder = new HpackDecoder(DEFAULT_HEADER_TABLE_BYTES);
  private headCache: HeadCache | undefined = undefined;
  private prefaceBytes = 0;

  // Streams. Most connections have one: it needs no map.
  private onlyStream: Stream | undefined = undefined;
  private moreStreams: Map<number, Stream> | undefined = undefined;
  private lastStream: Stream | undefined = undefined;
  private lastStreamId = 0;
  private streamsOpened = 0;
  /** Places taken out of `maxConcurrentStreams`. */
  private activeStreams = 0;
  private skippedIds: number[] | undefined = undefined;
  private resetIds: number[] | undefined = undefined;
  private resetCursor = 0;

  // A header block in progress (§6.10).
  private blockStreamId = 0;
  private blockFlags = 0;
  private blockSelfDependent = false;
  private block: Buffer | undefined = undefined;
  private blockBytes = 0;
  private continuations = 0;
  private emptyFrames = 0;

  private receiveWindow: number;
  private uncredited = 0;
  /** Request bytes that this connection makes us hold. */
  private bufferedBytes = 0;

  private budget: AbuseBudget | undefined = undefined;
  private resetRatio: ResetRatio | undefined = undefined;
  private pingJudge: PingJudge | undefined = undefined;

  // GOAWAY and timers. -1: not running.
  private readonly timer: TimerNode;
  private goawayId = MAX_STREAM_ID;
  private goawaySent = false;
  private peerGoaway = false;
  private paused = false;
  private stalled = false;
  private phaseDueMs: number;
  private blockDueMs = -1;
  private drainPingDueMs = -1;
  private ageDueMs = -1;
  private graceDueMs = -1;
  private idleSinceMs: number;
  private lastReadMs: number;
  private keepaliveSentMs = -1;

  constructor(server: ConnectionHost, socket: Socket) {
    const nowMs = server.nowMs();
    this.server = server;
    this.limits = server.limits;
    this.socket = socket;
    this.sender = new Sender(this, socket, server.outbox);
    this.nowMs = nowMs;
    this.receiveWindow = server.limits.connectionWindowBytes;
    this.timer = new TimerNode(this);
    this.phaseDueMs = nowMs + server.limits.handshakeTimeoutMs;
    this.idleSinceMs = nowMs;
    this.lastReadMs = nowMs;
    if (server.maxConnectionAgeMs > 0) {
      // ±10 % so that connections made together do not come back together (gRFC A9).
      this.ageDueMs = Math.floor(nowMs + server.maxConnectionAgeMs * (0.9 + 0.2 * Math.random()));
    }
    socket.write(server.greeting);
    this.rearm();
  }

  /** True once nothing that still comes in matters. */
  get closing(): boolean {
    return this.phase >= Phase.LINGERING;
  }

  get streamCount(): number {
    return this.activeStreams;
  }

  get peer(): string {
    return `${this.socket.remoteAddress ?? ''}:${this.socket.remotePort ?? 0}`;
  }

  *streams(): Iterable<Stream> {
    if (this.onlyStream !== undefined) yield this.onlyStream;
    if (this.moreStreams !== undefined) yield* this.moreStreams.values();
  }

  // ---- bytes in -------------------------------------------------------------------------------------

  /** Bytes from the socket. Never throws. */
  receive(chunk: Buffer): void {
    if (this.closing) return;
    this.nowMs = this.server.nowMs();
    this.lastReadMs = this.nowMs;
    this.keepaliveSentMs = -1;
    const outbox = this.server.outbox;
    outbox.begin(this.sender);
    try {
      const start = this.phase === Phase.AWAITING_PREFACE ? this.readPreface(chunk) : 0;
      if (start < chunk.length) this.reader.read(chunk, start, this);
    } catch (error) {
      this.fail(error);
    }
    outbox.end();
  }

  /** Compares byte by byte (§3.4); returns where the frames begin. */
  private readPreface(chunk: Buffer): number {
    let at = 0;
    while (this.prefaceBytes < CLIENT_PREFACE.length) {
      if (at === chunk.length) return at;
      if (chunk[at++] !== CLIENT_PREFACE[this.prefaceBytes++]) {
        throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'bad connection preface');
      }
    }
    this.phase = Phase.AWAITING_SETTINGS;
    this.phaseDueMs = Math.min(this.phaseDueMs, this.nowMs + this.limits.firstSettingsTimeoutMs);
    this.rearm();
    return at;
  }

  onFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if (this.blockStreamId !== 0 && (type !== FrameType.CONTINUATION || streamId !== this.blockStreamId)) {
      throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'header block interrupted');
    }
    if (this.phase === Phase.AWAITING_SETTINGS && (type !== FrameType.SETTINGS || (flags & Flag.ACK) !== 0)) {
      throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'first frame is not SETTINGS');
    }
    switch (type) {
      case FrameType.DATA:
        this.onDataFrame(flags, streamId, bytes, start, end);
        break;
      case FrameType.HEADERS:
        this.onHeadersFrame(flags, streamId, bytes, start, end);
        break;
      case FrameType.PRIORITY:
        this.onPriorityFrame(streamId, bytes, start, end);
        break;
      case FrameType.RST_STREAM:
        this.onRstStreamFrame(streamId, start, end);
        break;
      case FrameType.SETTINGS:
        this.onSettingsFrame(flags, streamId, bytes, start, end);
        break;
      case FrameType.PUSH_PROMISE:
        throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'PUSH_PROMISE from a client');
      case FrameType.PING:
        this.onPingFrame(flags, streamId, bytes, start, end);
        break;
      case FrameType.GOAWAY:
        this.onGoawayFrame(streamId, start, end);
        break;
      case FrameType.WINDOW_UPDATE:
        this.onWindowUpdateFrame(streamId, bytes, start, end);
        break;
      case FrameType.CONTINUATION:
        this.onContinuationFrame(flags, streamId, bytes, start, end);
        break;
      default:
        this.abuse().unknownFrame(this.nowMs);
    }
  }

  // ---- DATA (§6.1) ------------------------------------------------------------------------------------

  private onDataFrame(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if (streamId === 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'DATA on stream 0');
    const length = end - start;
    const endStream = (flags & Flag.END_STREAM) !== 0;
    // Padding and frames on dead streams count too (§6.9).
    this.receiveWindow -= length;
    if (this.receiveWindow < 0) throw new ConnectionError(H2Error.FLOW_CONTROL_ERROR, 'connection window');
    let payloadStart = start;
    let payloadEnd = end;
    if ((flags & Flag.PADDED) !== 0) {
      payloadEnd = unpaddedEnd(bytes, start, end);
      payloadStart = start + 1;
    }
    this.creditConnection(length);
    if (payloadStart === payloadEnd && !endStream) this.onEmptyFrame();
    else if (length > 0) this.emptyFrames = 0;

    const stream = this.find(streamId);
    if (stream === undefined) {
      this.onFrameForClosed(streamId);
      return;
    }
    if (stream.remoteEnded) {
      this.provoked(stream, H2Error.STREAM_CLOSED);
      return;
    }
    stream.receiveWindow -= length;
    if (stream.receiveWindow < 0) {
      this.provoked(stream, H2Error.FLOW_CONTROL_ERROR);
      return;
    }
    if (stream.expectedBytes >= 0) {
      stream.expectedBytes -= payloadEnd - payloadStart;
      if (stream.expectedBytes < 0 || (endStream && stream.expectedBytes > 0)) {
        this.provoked(stream, H2Error.PROTOCOL_ERROR);
        return;
      }
    }
    stream.uncredited += length;
    stream.remoteEnded = endStream;
    stream.onData(bytes, payloadStart, payloadEnd, endStream);
  }

  /** Connection credit goes back on receipt, whoever reads the bytes, so that one slow stream stalls no other. */
  private creditConnection(bytes: number): void {
    this.uncredited += bytes;
    if (this.uncredited * 2 < this.limits.connectionWindowBytes) return;
    this.writeWindowUpdate(0, this.uncredited);
    this.receiveWindow += this.uncredited;
    this.uncredited = 0;
  }

  /** Returns stream window for all that came but `heldBytes`, once it is worth a frame. */
  creditStream(stream: Stream, heldBytes: number): void {
    if (stream.remoteEnded || stream.closed) return;
    const bytes = stream.uncredited - heldBytes;
    if (bytes * 2 < this.limits.streamWindowBytes) return;
    this.writeWindowUpdate(stream.id, bytes);
    stream.receiveWindow += bytes;
    stream.uncredited -= bytes;
  }

  /**
   * Accounts for request bytes held beyond the frame that brought them (`bytes` may be negative). False: over
   * the limit of the connection or the server, and not accounted.
   */
  holdBytes(bytes: number): boolean {
    if (bytes > 0) {
      const over =
        this.bufferedBytes + bytes > this.limits.maxBufferedRequestBytes ||
        this.server.bufferedRequestBytes + bytes > this.limits.maxBufferedRequestBytesPerServer;
      if (over) return false;
    }
    this.bufferedBytes += bytes;
    this.server.bufferedRequestBytes += bytes;
    return true;
  }

  private onEmptyFrame(): void {
    if (++this.emptyFrames > this.limits.maxEmptyFrames) {
      throw new ConnectionError(H2Error.ENHANCE_YOUR_CALM, 'too many empty frames');
    }
  }

  // ---- HEADERS and CONTINUATION (§6.2, §6.10) ---------------------------------------------------------

  private onHeadersFrame(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if ((streamId & 1) === 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'HEADERS on an even stream');
    let at = start;
    let blockEnd = end;
    if ((flags & Flag.PADDED) !== 0) {
      blockEnd = unpaddedEnd(bytes, start, end);
      at++;
    }
    this.blockSelfDependent = false;
    if ((flags & Flag.PRIORITY) !== 0) {
      if (end - at < 5) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'HEADERS too short');
      if (blockEnd - at < 5) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'padding over the priority');
      this.blockSelfDependent = (readUint32(bytes, at) & MAX_STREAM_ID) === streamId;
      at += 5;
    }
    if ((flags & Flag.END_HEADERS) !== 0) {
      this.onBlock(streamId, flags, bytes, at, blockEnd);
      return;
    }
    if (at === blockEnd) this.onEmptyFrame();
    this.blockStreamId = streamId;
    this.blockFlags = flags;
    this.continuations = 0;
    this.blockDueMs = this.nowMs + this.limits.headerBlockTimeoutMs;
    this.rearm();
    this.keepFragment(bytes, at, blockEnd);
  }

  private onContinuationFrame(
    flags: number,
    streamId: number,
    bytes: Buffer,
    start: number,
    end: number,
  ): void {
    if (this.blockStreamId === 0) {
      throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'CONTINUATION without HEADERS');
    }
    if (++this.continuations > this.limits.maxContinuationFrames) {
      throw new ConnectionError(H2Error.ENHANCE_YOUR_CALM, 'too many CONTINUATION frames');
    }
    if (start === end && (flags & Flag.END_HEADERS) === 0) this.onEmptyFrame();
    this.keepFragment(bytes, start, end);
    if ((flags & Flag.END_HEADERS) === 0) return;
    const block = this.block ?? CLIENT_PREFACE;
    const blockBytes = this.blockBytes;
    this.block = undefined;
    this.blockBytes = 0;
    this.blockStreamId = 0;
    this.blockDueMs = -1;
    this.onBlock(streamId, this.blockFlags, block, 0, blockBytes);
  }

  private keepFragment(bytes: Buffer, start: number, end: number): void {
    const needed = this.blockBytes + end - start;
    // Encoded, a list may be as long as decoded, not counting the 32 bytes each; twice is generous.
    if (needed > 2 * this.limits.maxHeaderListBytes) {
      throw new ConnectionError(H2Error.ENHANCE_YOUR_CALM, 'header block too large');
    }
    if (this.block === undefined || this.block.length < needed) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.blockBytes));
      this.block?.copy(grown, 0, 0, this.blockBytes);
      this.block = grown;
    }
    bytes.copy(this.block, this.blockBytes, start, end);
    this.blockBytes = needed;
  }

  /** A complete header block. Decoded in any case: the dynamic table must not fall behind (§4.3). */
  private onBlock(streamId: number, flags: number, bytes: Buffer, start: number, end: number): void {
    const isNew = streamId > this.lastStreamId;
    if (isNew) {
      const cached = this.headCache?.find(bytes, start, end, this.decoder.changes);
      if (cached !== undefined) {
        this.openStream(streamId, flags, cached);
        return;
      }
    }
    const list = this.server.fieldList;
    const changes = this.decoder.changes;
    this.decoder.decode(bytes, start, end, list);
    const { fields, overLimit } = list;
    list.reset();
    if (!isNew) {
      this.onTrailers(streamId, flags, !overLimit && areValidTrailers(fields));
      return;
    }
    const head = parseRequestHead(fields, overLimit);
    if (head !== undefined && !overLimit && changes === this.decoder.changes) {
      this.headCache ??= new HeadCache();
      this.headCache.add(bytes, start, end, changes, head);
    }
    this.openStream(streamId, flags, head);
  }

  private openStream(streamId: number, flags: number, head: RequestHead | undefined): void {
    if (streamId > this.lastStreamId + 2) this.rememberGap(this.lastStreamId + 2, streamId - 2);
    this.lastStreamId = streamId;
    this.streamsOpened++;
    if (streamId > this.goawayId) return;
    const endStream = (flags & Flag.END_STREAM) !== 0;
    if (head === undefined || this.blockSelfDependent || (endStream && head.contentLength > 0)) {
      this.abuse().glitch(this.nowMs);
      this.writeRstStream(streamId, H2Error.PROTOCOL_ERROR);
      return;
    }
    if (this.activeStreams >= this.limits.maxConcurrentStreams) {
      this.server.countRefused();
      this.abuse().glitch(this.nowMs);
      this.writeRstStream(streamId, H2Error.REFUSED_STREAM);
      return;
    }
    const stream = this.server.open(this, streamId, head);
    this.activeStreams++;
    if (this.onlyStream === undefined) {
      this.onlyStream = stream;
    } else {
      this.moreStreams ??= new Map();
      this.moreStreams.set(streamId, stream);
    }
    this.lastStream = stream;
    stream.remoteEnded = endStream;
    stream.onOpened();
    if (endStream && !stream.closed) stream.onRemoteEnd();
    if (streamId === MAX_STREAM_ID) this.drain('stream ids exhausted');
  }

  /** A second header block on a stream: request trailers, which carry nothing that we use. */
  private onTrailers(streamId: number, flags: number, valid: boolean): void {
    const stream = this.find(streamId);
    if (stream === undefined) {
      if (this.skippedIds !== undefined && this.wasSkipped(streamId)) {
        throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'stream id below an earlier one');
      }
      this.onFrameForClosed(streamId);
      return;
    }
    if (stream.remoteEnded) {
      this.provoked(stream, H2Error.STREAM_CLOSED);
      return;
    }
    const complete = stream.expectedBytes <= 0;
    if (!valid || !complete || (flags & Flag.END_STREAM) === 0 || this.blockSelfDependent) {
      this.provoked(stream, H2Error.PROTOCOL_ERROR);
      return;
    }
    stream.remoteEnded = true;
    stream.onRemoteEnd();
  }

  private rememberGap(from: number, to: number): void {
    this.skippedIds ??= [];
    if (this.skippedIds.length >= 2 * REMEMBERED_GAPS) this.skippedIds.splice(0, 2);
    this.skippedIds.push(from, to);
  }

  private wasSkipped(streamId: number): boolean {
    const ids = this.skippedIds ?? [];
    for (let i = 0; i < ids.length; i += 2) {
      if (streamId >= (ids[i] as number) && streamId <= (ids[i + 1] as number)) return true;
    }
    return false;
  }

  // ---- the other frames -------------------------------------------------------------------------------

  private onPriorityFrame(streamId: number, bytes: Buffer, start: number, end: number): void {
    if (streamId === 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'PRIORITY on stream 0');
    const stream = this.find(streamId);
    if (end - start !== 5) {
      if (stream !== undefined) {
        this.provoked(stream, H2Error.FRAME_SIZE_ERROR);
        return;
      }
      throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'PRIORITY length');
    }
    this.abuse().priorityFrame(this.streamsOpened);
    if ((readUint32(bytes, start) & MAX_STREAM_ID) !== streamId) return;
    if (stream !== undefined) {
      this.provoked(stream, H2Error.PROTOCOL_ERROR);
      return;
    }
    throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'stream depends on itself');
  }

  private onRstStreamFrame(streamId: number, start: number, end: number): void {
    if (end - start !== 4) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'RST_STREAM length');
    if (streamId === 0 || this.isIdle(streamId)) {
      throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'RST_STREAM on stream 0 or an idle stream');
    }
    const stream = this.find(streamId);
    if (stream === undefined) return;
    const rapid = isRapidReset(stream.openedMs, this.nowMs, stream.responded);
    this.closeStream(stream);
    stream.onAborted(false);
    if (rapid) this.resetRatio ??= new ResetRatio();
    this.resetRatio?.count(rapid, this.limits);
  }

  private onSettingsFrame(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if (streamId !== 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'SETTINGS on a stream');
    if ((flags & Flag.ACK) !== 0) {
      if (start !== end) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'SETTINGS ACK with payload');
      if (this.phase !== Phase.AWAITING_SETTINGS_ACK) {
        throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'SETTINGS ACK that nobody asked for');
      }
      this.phase = Phase.ESTABLISHED;
      this.phaseDueMs = -1;
      return;
    }
    if ((end - start) % 6 !== 0) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'SETTINGS length');
    if ((end - start) / 6 > this.limits.maxSettingsEntries) {
      throw new ConnectionError(H2Error.ENHANCE_YOUR_CALM, 'too many settings');
    }
    for (let at = start; at < end; at += 6) {
      this.applySetting(((bytes[at] as number) << 8) | (bytes[at + 1] as number), readUint32(bytes, at + 2));
    }
    const ack = this.sender.reserveControl(SETTINGS_ACK_BYTES);
    writeSettings(this.sender.target, ack, Flag.ACK, []);
    this.checkControlQueue();
    if (this.phase === Phase.AWAITING_SETTINGS) {
      this.phase = Phase.AWAITING_SETTINGS_ACK;
      this.phaseDueMs = this.nowMs + this.limits.settingsAckTimeoutMs;
      this.rearm();
    } else {
      this.abuse().glitch(this.nowMs);
    }
  }

  /** §6.5.2 */
  private applySetting(id: number, value: number): void {
    switch (id) {
      case Setting.HEADER_TABLE_SIZE:
        this.sender.onTableSize(value);
        return;
      case Setting.ENABLE_PUSH:
        if (value > 1) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'ENABLE_PUSH');
        return;
      case Setting.INITIAL_WINDOW_SIZE: {
        if (value > MAX_WINDOW_BYTES) {
          throw new ConnectionError(H2Error.FLOW_CONTROL_ERROR, 'INITIAL_WINDOW_SIZE');
        }
        const delta = value - this.sender.initialStreamWindow;
        this.sender.initialStreamWindow = value;
        for (const stream of this.streams()) {
          if (!this.sender.adjustWindow(stream, delta)) {
            throw new ConnectionError(H2Error.FLOW_CONTROL_ERROR, 'INITIAL_WINDOW_SIZE overflows a stream');
          }
        }
        return;
      }
      case Setting.MAX_FRAME_SIZE:
        if (value < DEFAULT_MAX_FRAME_BYTES || value > LARGEST_MAX_FRAME_BYTES) {
          throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'MAX_FRAME_SIZE');
        }
        this.sender.maxFrameBytes = value;
        return;
      case Setting.MAX_HEADER_LIST_SIZE:
        this.sender.maxHeaderListBytes = value;
        return;
    }
  }

  private onPingFrame(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if (streamId !== 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'PING on a stream');
    if (end - start !== 8) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'PING length');
    if ((flags & Flag.ACK) !== 0) {
      if (this.drainPingDueMs >= 0 && DRAIN_PING.compare(bytes, start, end) === 0) this.announceLastStream();
      else if (KEEPALIVE_PING.compare(bytes, start, end) !== 0) this.abuse().glitch(this.nowMs);
      return;
    }
    const at = this.sender.reserveControl(PING_FRAME_BYTES);
    writePing(this.sender.target, at, Flag.ACK, bytes, start);
    this.checkControlQueue();
    this.pingJudge ??= new PingJudge(this.server.keepalive);
    this.pingJudge.onPing(this.nowMs, this.activeStreams > 0);
  }

  private onGoawayFrame(streamId: number, start: number, end: number): void {
    if (streamId !== 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'GOAWAY on a stream');
    if (end - start < 8) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'GOAWAY length');
    if (this.peerGoaway) this.abuse().glitch(this.nowMs);
    this.peerGoaway = true;
    this.finishIfDone();
  }

  private onWindowUpdateFrame(streamId: number, bytes: Buffer, start: number, end: number): void {
    if (end - start !== 4) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'WINDOW_UPDATE length');
    const increment = readUint32(bytes, start) & MAX_WINDOW_BYTES;
    const sender = this.sender;
    if (streamId === 0) {
      if (increment === 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0');
      sender.window += increment;
      if (sender.window > MAX_WINDOW_BYTES) {
        throw new ConnectionError(H2Error.FLOW_CONTROL_ERROR, 'connection window overflow');
      }
      sender.wakeAll();
    } else {
      if (this.isIdle(streamId)) {
        throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'WINDOW_UPDATE on an idle stream');
      }
      const stream = this.find(streamId);
      if (stream !== undefined) {
        if (increment === 0) {
          this.provoked(stream, H2Error.PROTOCOL_ERROR);
          return;
        }
        if (stream.sendWindow + increment > MAX_WINDOW_BYTES) {
          this.provoked(stream, H2Error.FLOW_CONTROL_ERROR);
          return;
        }
        stream.sendWindow += increment;
        if (stream.hasOutput) sender.wake(stream);
      }
    }
    this.abuse().windowUpdate(this.streamsOpened, sender.dataFramesSent);
  }

  // ---- streams ----------------------------------------------------------------------------------------

  private find(streamId: number): Stream | undefined {
    const last = this.lastStream;
    if (last !== undefined && last.id === streamId) return last.closed ? undefined : last;
    const only = this.onlyStream;
    if (only !== undefined && only.id === streamId) return only;
    return this.moreStreams?.get(streamId);
  }

  private isIdle(streamId: number): boolean {
    return (streamId & 1) === 0 || streamId > this.lastStreamId;
  }

  /** DATA or HEADERS on a stream that is not open (§5.1). */
  private onFrameForClosed(streamId: number): void {
    if (this.isIdle(streamId)) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'frame on an idle stream');
    // We reset it: the client may not have known yet. Above the last id of a GOAWAY: ignored (§6.8).
    if (streamId > this.goawayId || this.resetIds?.includes(streamId)) return;
    throw new ConnectionError(H2Error.STREAM_CLOSED, 'frame on a closed stream');
  }

  /** A stream error (§5.4.2) on a stream that was opened properly. */
  private provoked(stream: Stream, code: number): void {
    this.resetStream(stream, code);
    stream.onAborted(false);
    this.abuse().provokedReset(this.nowMs);
  }

  /** Sends RST_STREAM and closes the stream; the caller tells whoever works on it. */
  resetStream(stream: Stream, code: number): void {
    if (stream.closed) return;
    this.closeStream(stream);
    this.writeRstStream(stream.id, code);
  }

  /** Takes the stream off the connection. Its place comes back when its handler is done. */
  private closeStream(stream: Stream): void {
    if (stream.closed) return;
    stream.closed = true;
    stream.dropOutput();
    if (this.onlyStream === stream) this.onlyStream = undefined;
    else this.moreStreams?.delete(stream.id);
    if (this.moreStreams?.size === 0 && this.activeStreams === 1) this.moreStreams = undefined;
    if (this.lastStream === stream) this.lastStream = undefined;
    if (!stream.busy) this.releaseStream(stream);
  }

  /** The handler is done with a stream. */
  onHandlerDone(stream: Stream): void {
    stream.busy = false;
    if (stream.closed) this.releaseStream(stream);
  }

  private releaseStream(stream: Stream): void {
    if (stream.released) return;
    stream.released = true;
    this.activeStreams--;
    if (this.activeStreams > 0) return;
    this.idleSinceMs = this.nowMs;
    if (this.server.maxConnectionIdleMs > 0) this.rearm();
    this.finishIfDone();
  }

  /** The sender has laid out END_STREAM. */
  onStreamSent(stream: Stream): void {
    if (stream.closed) return;
    const early = !stream.remoteEnded;
    this.closeStream(stream);
    // Early answer: tell the client to stop sending (§8.1).
    if (early) this.writeRstStream(stream.id, H2Error.NO_ERROR);
    this.resetRatio?.count(false, this.limits);
    stream.onSent();
  }

  // ---- frames out -------------------------------------------------------------------------------------

  private writeRstStream(streamId: number, code: number): void {
    this.resetIds ??= [];
    this.resetIds[this.resetCursor] = streamId;
    this.resetCursor = (this.resetCursor + 1) % Math.max(REMEMBERED_RESETS, this.limits.maxConcurrentStreams);
    const at = this.sender.reserveControl(RST_STREAM_FRAME_BYTES);
    writeRstStream(this.sender.target, at, streamId, code);
    this.checkControlQueue();
  }

  private writeWindowUpdate(streamId: number, increment: number): void {
    const at = this.sender.reserveControl(WINDOW_UPDATE_FRAME_BYTES);
    writeWindowUpdate(this.sender.target, at, streamId, increment);
    this.checkControlQueue();
  }

  private writeGoaway(lastStreamId: number, code: number, debug: string): void {
    const text = Buffer.from(debug);
    const at = this.sender.reserveControl(goawayFrameBytes(text));
    writeGoaway(this.sender.target, at, lastStreamId, code, text);
    this.goawaySent = true;
  }

  /** One counter for everything that is queued beside DATA (grpc-go be1b06d6). */
  private checkControlQueue(): void {
    const items = this.sender.controlItems;
    if (items <= this.limits.controlQueueSoftItems) return;
    if (items > this.limits.controlQueueHardItems) this.destroy();
    else this.pauseReading();
  }

  // ---- what the sender reports ------------------------------------------------------------------------

  /** The socket is full. */
  onBlocked(): void {
    this.pauseReading();
    this.socket.once('drain', onSocketDrain);
    this.rearm();
  }

  onDrained(): void {
    if (this.phase >= Phase.LINGERING) return;
    this.sender.onDrain();
    if (this.paused) {
      this.paused = false;
      this.socket.resume();
    }
  }

  onStreamStalled(stream: Stream): void {
    stream.stalledSinceMs = this.server.nowMs();
    if (this.stalled) return;
    this.stalled = true;
    this.rearm();
  }

  /** HEADERS or DATA went out: the client has a reason to ping (gRFC A8). */
  onAnswerBytes(): void {
    this.pingJudge?.reset();
  }

  private pauseReading(): void {
    if (this.paused || this.closing) return;
    this.paused = true;
    this.socket.pause();
    if (!this.sender.blocked) this.server.outbox.schedule(this.sender);
  }

  // ---- end of life ------------------------------------------------------------------------------------

  /** Ends the connection for a violation, or for a bug of ours (§5.4.1). */
  private fail(error: unknown): void {
    if (error instanceof ConnectionError) {
      this.abort(error.code, error.message);
    } else {
      this.server.onError(error, 'connection');
      this.abort(H2Error.INTERNAL_ERROR, 'internal error');
    }
  }

  /** GOAWAY, then close; streams are lost. */
  abort(code: number, debug: string): void {
    if (this.closing) return;
    const outbox = this.server.outbox;
    const ownTurn = outbox.owner === this.sender;
    this.abandonStreams();
    const last = Math.min(this.lastStreamId, this.goawayId);
    if (ownTurn || outbox.owner === undefined) {
      outbox.begin(this.sender);
      this.writeGoaway(last, code, debug);
      outbox.write();
      if (!ownTurn) outbox.owner = undefined;
    } else {
      const frame = Buffer.allocUnsafe(goawayFrameBytes(Buffer.from(debug)));
      writeGoaway(frame, 0, last, code, Buffer.from(debug));
      this.socket.write(frame);
    }
    this.linger();
  }

  /**
   * Announces the end without losing a call: GOAWAY with the highest id, then, once the client must have
   * seen it (PING), GOAWAY with the real one; closes when the last stream is done (§6.8, gRFC A9).
   */
  drain(reason: string): void {
    if (this.closing || this.drainPingDueMs >= 0 || this.goawayId !== MAX_STREAM_ID) return;
    if (this.phase < Phase.AWAITING_SETTINGS_ACK) {
      this.abort(H2Error.NO_ERROR, reason);
      return;
    }
    this.writeGoaway(MAX_STREAM_ID, H2Error.NO_ERROR, reason);
    const at = this.sender.reserveControl(PING_FRAME_BYTES);
    writePing(this.sender.target, at, 0, DRAIN_PING, 0);
    this.drainPingDueMs = this.server.nowMs() + this.limits.drainPingTimeoutMs;
    this.rearm();
  }

  private announceLastStream(): void {
    this.drainPingDueMs = -1;
    this.goawayId = this.lastStreamId;
    this.writeGoaway(this.lastStreamId, H2Error.NO_ERROR, '');
    this.finishIfDone();
  }

  /** After both GOAWAYs, or the client's, the last stream closes the connection. */
  private finishIfDone(): void {
    const leaving = this.peerGoaway || this.goawayId !== MAX_STREAM_ID;
    if (!leaving || this.activeStreams > 0 || this.closing) return;
    const outbox = this.server.outbox;
    if (outbox.owner === this.sender) {
      if (!this.goawaySent) this.writeGoaway(this.lastStreamId, H2Error.NO_ERROR, '');
      this.sender.produce();
      outbox.write();
      this.linger();
    } else {
      // Let what is queued go out first; the timer closes soon after.
      this.graceDueMs = this.server.nowMs();
      outbox.schedule(this.sender);
      this.rearm();
    }
  }

  /** FIN now; the socket itself goes when the peer has closed, so that it sees our last frames (no RST). */
  private linger(): void {
    this.phase = Phase.LINGERING;
    this.phaseDueMs = this.server.nowMs() + this.limits.lingerMs;
    this.release();
    this.socket.end();
    this.socket.resume();
    this.rearm();
  }

  /** At once, without a word. */
  destroy(): void {
    if (this.phase === Phase.CLOSED) return;
    this.abandonStreams();
    this.phase = Phase.CLOSED;
    this.socket.destroy();
  }

  /** The socket is gone. Drops every reference. */
  onSocketClosed(): void {
    this.phase = Phase.CLOSED;
    this.server.wheel.cancel(this.timer);
    this.abandonStreams();
    this.release();
    this.server.onConnectionClosed(this);
  }

  private abandonStreams(): void {
    const streams = [...this.streams()];
    this.onlyStream = undefined;
    this.moreStreams = undefined;
    this.lastStream = undefined;
    for (const stream of streams) {
      stream.closed = true;
      stream.dropOutput();
      stream.onAborted(true);
      if (!stream.busy) stream.released = true;
    }
  }

  private release(): void {
    this.reader.release();
    this.sender.release();
    this.headCache = undefined;
    this.block = undefined;
    this.blockBytes = 0;
    this.holdBytes(-this.bufferedBytes);
  }

  private abuse(): AbuseBudget {
    this.budget ??= new AbuseBudget(this.limits, this.nowMs);
    return this.budget;
  }

  // ---- time -------------------------------------------------------------------------------------------

  onTimer(nowMs: number): void {
    this.nowMs = nowMs;
    if (this.phase === Phase.CLOSED) return;
    this.checkTimes(nowMs);
    if (this.phase !== Phase.CLOSED) this.rearm();
  }

  private checkTimes(nowMs: number): void {
    if (isDue(this.phaseDueMs, nowMs)) {
      this.onPhaseTimeout();
      return;
    }
    if (this.closing) return;
    const { keepalive, limits, maxConnectionIdleMs } = this.server;
    if (isDue(this.blockDueMs, nowMs)) {
      this.abort(H2Error.ENHANCE_YOUR_CALM, 'header block too slow');
      return;
    }
    if (isDue(this.graceDueMs, nowMs)) {
      this.onGraceOver();
      return;
    }
    if (this.sender.blocked && nowMs - this.sender.blockedSinceMs >= limits.writeStallTimeoutMs) {
      this.destroy();
      return;
    }
    if (this.stalled) this.checkStalledStreams(nowMs);
    if (isDue(this.drainPingDueMs, nowMs)) this.announceLastStream();
    if (isDue(this.ageDueMs, nowMs)) {
      this.ageDueMs = -1;
      if (this.server.maxConnectionAgeGraceMs > 0) {
        this.graceDueMs = nowMs + this.server.maxConnectionAgeGraceMs;
      }
      this.drain('max_age');
    }
    const idle = this.activeStreams === 0 && this.phase >= Phase.AWAITING_SETTINGS_ACK;
    if (maxConnectionIdleMs > 0 && idle && nowMs - this.idleSinceMs >= maxConnectionIdleMs) {
      this.drain('max_idle');
    }
    if (keepalive.timeMs > 0) this.checkKeepalive(nowMs, keepalive);
  }

  private onPhaseTimeout(): void {
    if (this.phase === Phase.LINGERING) {
      this.destroy();
      return;
    }
    if (this.phase === Phase.AWAITING_SETTINGS_ACK) {
      this.abort(H2Error.SETTINGS_TIMEOUT, 'SETTINGS not acknowledged');
      return;
    }
    this.abort(H2Error.PROTOCOL_ERROR, 'handshake timeout');
  }

  private onGraceOver(): void {
    this.graceDueMs = -1;
    this.abort(H2Error.NO_ERROR, this.activeStreams > 0 ? 'max_age grace over' : '');
  }

  private checkStalledStreams(nowMs: number): void {
    this.stalled = false;
    for (const stream of [...this.streams()]) {
      if (stream.stalledSinceMs < 0) continue;
      if (nowMs - stream.stalledSinceMs < this.limits.writeStallTimeoutMs) this.stalled = true;
      else stream.onStalled();
    }
  }

  private checkKeepalive(nowMs: number, keepalive: KeepaliveOptions): void {
    if (this.keepaliveSentMs >= 0) {
      if (nowMs - this.keepaliveSentMs >= keepalive.timeoutMs) this.destroy();
    } else if (nowMs - this.lastReadMs >= keepalive.timeMs) {
      const at = this.sender.reserveControl(PING_FRAME_BYTES);
      writePing(this.sender.target, at, 0, KEEPALIVE_PING, 0);
      this.keepaliveSentMs = nowMs;
    }
  }

  /** Sets the one timer of this connection to the earliest thing that can become due. */
  private rearm(): void {
    const { keepalive, limits, maxConnectionIdleMs } = this.server;
    let due = Number.POSITIVE_INFINITY;
    due = earlier(due, this.phaseDueMs);
    if (!this.closing) {
      due = earlier(due, this.blockDueMs);
      due = earlier(due, this.graceDueMs);
      due = earlier(due, this.drainPingDueMs);
      due = earlier(due, this.ageDueMs);
      if (this.sender.blocked) due = earlier(due, this.sender.blockedSinceMs + limits.writeStallTimeoutMs);
      if (this.stalled) due = earlier(due, this.nowMs + Math.ceil(limits.writeStallTimeoutMs / 4));
      if (maxConnectionIdleMs > 0 && this.activeStreams === 0) {
        due = earlier(due, this.idleSinceMs + maxConnectionIdleMs);
      }
      if (keepalive.timeMs > 0) {
        due = earlier(
          due,
          this.keepaliveSentMs >= 0
            ? this.keepaliveSentMs + keepalive.timeoutMs
            : this.lastReadMs + keepalive.timeMs,
        );
      }
    }
    if (due === Number.POSITIVE_INFINITY) this.server.wheel.cancel(this.timer);
    else if (!this.timer.pending || this.timer.dueMs !== due) this.server.wheel.set(this.timer, due);
  }
}

function isDue(dueMs: number, nowMs: number): boolean {
  return dueMs >= 0 && nowMs >= dueMs;
}

function earlier(dueMs: number, otherMs: number): number {
  return otherMs >= 0 && otherMs < dueMs ? otherMs : dueMs;
}

/** Where the padding begins (§6.1): padding as long as the rest of the frame or longer is an error. */
function unpaddedEnd(bytes: Buffer, start: number, end: number): number {
  if (start === end) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'padded frame without pad length');
  const padding = bytes[start] as number;
  if (padding > end - start - 1) {
    throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'padding longer than the frame');
  }
  return end - padding;
}

/** The sockets of a server carry their connection, so that its listeners need no closure each. */
export const CONNECTION = Symbol('connection');

export interface ConnectedSocket extends Socket {
  [CONNECTION]?: Connection;
}

function onSocketDrain(this: ConnectedSocket): void {
  this[CONNECTION]?.onDrained();
}

/** Our SETTINGS (§6.5) and the WINDOW_UPDATE that opens the connection window, as the first bytes we send. */
export function makeGreeting(limits: Limits): Buffer {
  const settings: [number, number][] = [
    [Setting.ENABLE_PUSH, 0],
    [Setting.MAX_CONCURRENT_STREAMS, limits.maxConcurrentStreams],
    [Setting.INITIAL_WINDOW_SIZE, limits.streamWindowBytes],
    [Setting.MAX_FRAME_SIZE, DEFAULT_MAX_FRAME_BYTES],
    [Setting.MAX_HEADER_LIST_SIZE, limits.maxHeaderListBytes],
  ];
  const extra = limits.connectionWindowBytes - DEFAULT_WINDOW_BYTES;
  const settingsBytes = settingsFrameBytes(settings);
  const greeting = Buffer.alloc(settingsBytes + (extra > 0 ? WINDOW_UPDATE_FRAME_BYTES : 0));
  writeSettings(greeting, 0, 0, settings);
  if (extra > 0) writeWindowUpdate(greeting, settingsBytes, 0, extra);
  return greeting;
}
