/**
 * The receiving half of a connection: preface, frames in their legal order (RFC 9113 §3.4, §6), and the windows
 * that we grant. A violation of the connection is thrown as `ConnectionError`; header blocks are `HeaderReceiver`'s.
 */
import { isRapidReset } from './abuse-budget.ts';
import type { Connection } from './connection.ts';
import { ConnectionError, H2Error } from './errors.ts';
import {
  CLIENT_PREFACE,
  DEFAULT_MAX_FRAME_BYTES,
  Flag,
  FrameReader,
  type FrameSink,
  FrameType,
  MAX_STREAM_ID,
  MAX_WINDOW_BYTES,
  readUint32,
} from './frames.ts';
import { HeaderReceiver, unpaddedEnd } from './header-receiver.ts';
import { PingJudge } from './keepalive.ts';
import { Phase } from './lifetime.ts';
import { applySettings } from './settings.ts';
import type { Stream } from './stream.ts';

export class Receiver implements FrameSink {
  private readonly connection: Connection;
  private readonly reader = new FrameReader(DEFAULT_MAX_FRAME_BYTES);
  private readonly headers: HeaderReceiver;
  private pingJudge: PingJudge | undefined = undefined;
  private prefaceBytes = 0;
  /** What the client may still send on the connection, and what came and was not yet returned as window. */
  private window: number;
  private uncredited = 0;

  constructor(connection: Connection) {
    this.connection = connection;
    this.headers = new HeaderReceiver(connection);
    this.window = connection.limits.connectionWindowBytes;
  }

  /** FrameSink: what is left of the chunk does not matter. */
  get closing(): boolean {
    return this.connection.closing;
  }

  receive(chunk: Buffer): void {
    const start = this.connection.lifetime.phase === Phase.AWAITING_PREFACE ? this.readPreface(chunk) : 0;
    if (start < chunk.length) this.reader.read(chunk, start, this);
  }

  /** Returns stream window for all that came but `heldBytes`, once it is worth a frame. */
  creditStream(stream: Stream, heldBytes: number): void {
    if (stream.remoteEnded || stream.closed) return;
    const bytes = stream.uncredited - heldBytes;
    if (bytes * 2 < this.connection.limits.streamWindowBytes) return;
    this.connection.sender.control.windowUpdate(stream.id, bytes);
    stream.receiveWindow += bytes;
    stream.uncredited -= bytes;
  }

  /** HEADERS or DATA went out: the client has a reason to ping (gRFC A8). */
  onAnswerBytes(): void {
    this.pingJudge?.reset();
  }

  /** The connection is over. */
  release(): void {
    this.reader.release();
    this.headers.release();
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
    const { lifetime, limits, nowMs } = this.connection;
    const dueMs = Math.min(lifetime.phaseDueMs, nowMs + limits.firstSettingsTimeoutMs);
    lifetime.enter(Phase.AWAITING_SETTINGS, dueMs);
    return at;
  }

  onFrame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    const { connection, headers } = this;
    const openStreamId = headers.openStreamId;
    if (openStreamId !== 0 && (type !== FrameType.CONTINUATION || streamId !== openStreamId)) {
      throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'header block interrupted');
    }
    const first = connection.lifetime.phase === Phase.AWAITING_SETTINGS;
    if (first && (type !== FrameType.SETTINGS || (flags & Flag.ACK) !== 0)) {
      throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'first frame is not SETTINGS');
    }
    switch (type) {
      case FrameType.DATA:
        this.onData(flags, streamId, bytes, start, end);
        break;
      case FrameType.HEADERS:
        headers.onHeaders(flags, streamId, bytes, start, end);
        break;
      case FrameType.PRIORITY:
        this.onPriority(streamId, bytes, start, end);
        break;
      case FrameType.RST_STREAM:
        this.onRstStream(streamId, start, end);
        break;
      case FrameType.SETTINGS:
        this.onSettings(flags, streamId, bytes, start, end);
        break;
      case FrameType.PUSH_PROMISE:
        throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'PUSH_PROMISE from a client');
      case FrameType.PING:
        this.onPing(flags, streamId, bytes, start, end);
        break;
      case FrameType.GOAWAY:
        if (streamId !== 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'GOAWAY on a stream');
        if (end - start < 8) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'GOAWAY length');
        connection.onPeerGoaway();
        break;
      case FrameType.WINDOW_UPDATE:
        this.onWindowUpdate(streamId, bytes, start, end);
        break;
      case FrameType.CONTINUATION:
        headers.onContinuation(flags, bytes, start, end);
        break;
      default:
        connection.abuse().unknownFrame(connection.nowMs);
    }
  }

  /** §6.1 */
  private onData(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if (streamId === 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'DATA on stream 0');
    const { connection } = this;
    const length = end - start;
    const endStream = (flags & Flag.END_STREAM) !== 0;
    // Padding and frames on dead streams count too (§6.9).
    this.window -= length;
    if (this.window < 0) throw new ConnectionError(H2Error.FLOW_CONTROL_ERROR, 'connection window');
    let payloadStart = start;
    let payloadEnd = end;
    if ((flags & Flag.PADDED) !== 0) {
      payloadEnd = unpaddedEnd(bytes, start, end);
      payloadStart = start + 1;
    }
    this.creditConnection(length);
    if (payloadStart === payloadEnd && !endStream) connection.abuse().emptyFrame();
    else if (length > 0) connection.budget?.filledFrame();

    const stream = connection.streams.find(streamId);
    if (stream === undefined) {
      connection.onFrameForClosed(streamId, endStream);
      return;
    }
    if (stream.remoteEnded) {
      connection.provoked(stream, H2Error.STREAM_CLOSED);
      return;
    }
    stream.receiveWindow -= length;
    if (stream.receiveWindow < 0) {
      connection.provoked(stream, H2Error.FLOW_CONTROL_ERROR);
      return;
    }
    if (stream.expectedBytes >= 0) {
      stream.expectedBytes -= payloadEnd - payloadStart;
      if (stream.expectedBytes < 0 || (endStream && stream.expectedBytes > 0)) {
        connection.provoked(stream, H2Error.PROTOCOL_ERROR);
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
    if (this.uncredited * 2 < this.connection.limits.connectionWindowBytes) return;
    this.connection.sender.control.windowUpdate(0, this.uncredited);
    this.window += this.uncredited;
    this.uncredited = 0;
  }

  /** §6.3, RFC 7540 §5.3.1: counted and checked, otherwise ignored. */
  private onPriority(streamId: number, bytes: Buffer, start: number, end: number): void {
    if (streamId === 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'PRIORITY on stream 0');
    const { connection } = this;
    const stream = connection.streams.find(streamId);
    if (end - start !== 5) {
      if (stream === undefined) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'PRIORITY length');
      connection.provoked(stream, H2Error.FRAME_SIZE_ERROR);
      return;
    }
    connection.abuse().priorityFrame(connection.streams.opened);
    if ((readUint32(bytes, start) & MAX_STREAM_ID) !== streamId) return;
    if (stream === undefined) {
      throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'stream depends on itself');
    }
    connection.provoked(stream, H2Error.PROTOCOL_ERROR);
  }

  /** §6.4 */
  private onRstStream(streamId: number, start: number, end: number): void {
    const { connection } = this;
    if (end - start !== 4) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'RST_STREAM length');
    if (streamId === 0 || connection.streams.isIdle(streamId)) {
      throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'RST_STREAM on stream 0 or an idle stream');
    }
    const stream = connection.streams.find(streamId);
    if (stream === undefined) {
      if (streamId === connection.streams.refusedId) connection.closeRefused(true);
      return;
    }
    const rapid = isRapidReset(stream.openedMs, connection.nowMs, stream.responded);
    connection.closeStream(stream);
    stream.onAborted(false);
    connection.countClosed(rapid);
  }

  /** §6.5 */
  private onSettings(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    const { lifetime, limits, nowMs, sender, streams } = this.connection;
    if (streamId !== 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'SETTINGS on a stream');
    if ((flags & Flag.ACK) !== 0) {
      if (start !== end) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'SETTINGS ACK with payload');
      if (lifetime.phase !== Phase.AWAITING_SETTINGS_ACK) {
        throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'SETTINGS ACK that nobody asked for');
      }
      lifetime.enter(Phase.ESTABLISHED, -1);
      return;
    }
    applySettings(bytes, start, end, limits.maxSettingsEntries, sender, streams);
    sender.control.settingsAck();
    if (lifetime.phase === Phase.AWAITING_SETTINGS) {
      lifetime.enter(Phase.AWAITING_SETTINGS_ACK, nowMs + limits.settingsAckTimeoutMs);
    } else {
      this.connection.abuse().glitch(nowMs);
    }
  }

  /** §6.7 */
  private onPing(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if (streamId !== 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'PING on a stream');
    if (end - start !== 8) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'PING length');
    const { connection } = this;
    if ((flags & Flag.ACK) !== 0) {
      connection.onPingAck(bytes, start, end);
      return;
    }
    connection.sender.control.pong(bytes, start);
    this.pingJudge ??= new PingJudge(connection.server.keepalive);
    this.pingJudge.onPing(connection.nowMs, connection.streams.active > 0);
  }

  /** §6.9 */
  private onWindowUpdate(streamId: number, bytes: Buffer, start: number, end: number): void {
    if (end - start !== 4) throw new ConnectionError(H2Error.FRAME_SIZE_ERROR, 'WINDOW_UPDATE length');
    const { connection } = this;
    const { sender, streams } = connection;
    const increment = readUint32(bytes, start) & MAX_WINDOW_BYTES;
    if (streamId === 0) {
      if (increment === 0) throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0');
      sender.window += increment;
      if (sender.window > MAX_WINDOW_BYTES) {
        throw new ConnectionError(H2Error.FLOW_CONTROL_ERROR, 'connection window overflow');
      }
      sender.wakeAll();
    } else {
      if (streams.isIdle(streamId)) {
        throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'WINDOW_UPDATE on an idle stream');
      }
      const stream = streams.find(streamId);
      if (stream !== undefined && !this.openWindow(stream, increment)) return;
    }
    connection.abuse().windowUpdate(streams.opened, sender.dataFramesSent);
  }

  /** False: the increment was illegal, and the stream is gone. */
  private openWindow(stream: Stream, increment: number): boolean {
    if (increment === 0) {
      this.connection.provoked(stream, H2Error.PROTOCOL_ERROR);
      return false;
    }
    if (stream.sendWindow + increment > MAX_WINDOW_BYTES) {
      this.connection.provoked(stream, H2Error.FLOW_CONTROL_ERROR);
      return false;
    }
    stream.sendWindow += increment;
    if (stream.hasOutput) this.connection.sender.wake(stream);
    return true;
  }
}
