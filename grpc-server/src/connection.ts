/**
 * One HTTP/2 connection, server side (RFC 9113): its streams from opening to release, and its end. Bytes come in
 * through `Receiver` and go out through `Sender`; what a request means is up to the server.
 */
import type { Socket } from 'node:net';
import { AbuseBudget, ResetRatio } from './abuse-budget.ts';
import { ConnectionError, H2Error } from './errors.ts';
import { goawayFrameBytes, MAX_STREAM_ID, writeGoaway } from './frames.ts';
import type { FieldList } from './hpack-decoder.ts';
import type { KeepaliveOptions } from './keepalive.ts';
import { KEEPALIVE_PING, Lifetime, Phase } from './lifetime.ts';
import type { Limits } from './limits.ts';
import type { Outbox } from './outbox.ts';
import { Receiver } from './receiver.ts';
import type { RequestHead } from './request-head.ts';
import { Sender } from './sender.ts';
import type { Stream } from './stream.ts';
import { StreamTable } from './stream-table.ts';
import type { TimerWheel } from './timer-wheel.ts';

/** What grpc-go sends between its two GOAWAY frames, so that it is recognised in captures. */
const DRAIN_PING = Buffer.from([1, 6, 1, 8, 0, 3, 3, 9]);

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
  /** Makes room for request bytes, at the cost of the connection that holds most. False: that is the asker. */
  makeRoom(connection: Connection, bytes: number): boolean;
  /** The connection holds request bytes from now on, or no longer. */
  onHolding(connection: Connection, holds: boolean): void;
  nowMs(): number;
  /** The answer to a request that is refused, as a block; undefined: it is not. Must not throw. */
  refusalOf(head: RequestHead): Buffer | undefined;
  /** Makes the stream of a request, or answers it. Must not throw. */
  open(connection: Connection, id: number, head: RequestHead): Stream;
  onConnectionClosed(connection: Connection): void;
  onError(error: unknown, context: string): void;
  countRefused(): void;
}

export class Connection {
  readonly server: ConnectionHost;
  readonly limits: Limits;
  readonly socket: Socket;
  readonly streams = new StreamTable();
  readonly sender: Sender;
  readonly receiver: Receiver;
  readonly lifetime: Lifetime;
  /** Time of the turn, by the server's clock. */
  nowMs: number;
  /** Made when first needed (`abuse`). */
  budget: AbuseBudget | undefined = undefined;

  private resetRatio: ResetRatio | undefined = undefined;
  /** Request bytes that this connection makes us hold. */
  bufferedBytes = 0;
  private paused = false;
  /** Streams above this id are ignored: they came after our GOAWAY. */
  private goawayId = MAX_STREAM_ID;
  private goawaySent = false;
  private peerGoaway = false;

  constructor(server: ConnectionHost, socket: Socket) {
    this.server = server;
    this.limits = server.limits;
    this.socket = socket;
    this.nowMs = server.nowMs();
    this.sender = new Sender(this, socket, server.outbox);
    this.receiver = new Receiver(this);
    this.lifetime = new Lifetime(this, server, this.nowMs);
    socket.write(server.greeting);
    this.lifetime.rearm();
  }

  /** True once nothing that still comes in matters. */
  get closing(): boolean {
    return this.lifetime.phase >= Phase.LINGERING;
  }

  get peer(): string {
    return `${this.socket.remoteAddress ?? ''}:${this.socket.remotePort ?? 0}`;
  }

  /** Bytes from the socket. Never throws. */
  receive(chunk: Buffer): void {
    if (this.closing) return;
    this.nowMs = this.server.nowMs();
    this.lifetime.onRead(this.nowMs);
    const outbox = this.server.outbox;
    outbox.begin(this.sender);
    try {
      this.receiver.receive(chunk);
      this.endRefused();
      if (this.streams.active > 0) this.lifetime.watchRequests(this.nowMs);
    } catch (error) {
      this.fail(error);
    }
    outbox.end();
  }

  // ---- accounts ---------------------------------------------------------------------------------------

  /**
   * Accounts for request bytes held beyond the frame that brought them (`bytes` may be negative). False: over
   * the limit of the connection or the server, and not accounted.
   */
  holdBytes(bytes: number): boolean {
    if (bytes === 0) return true;
    if (bytes > 0) {
      if (this.bufferedBytes + bytes > this.limits.maxBufferedRequestBytes) return false;
      if (!this.server.makeRoom(this, bytes)) return false;
    }
    const held = this.bufferedBytes > 0;
    this.bufferedBytes += bytes;
    this.server.bufferedRequestBytes += bytes;
    const holds = this.bufferedBytes > 0;
    if (held !== holds) this.server.onHolding(this, holds);
    return true;
  }

  /** Loses its unfinished requests: it holds more of the server's memory than any other connection. */
  yieldMemory(): void {
    for (const stream of [...this.streams]) stream.yieldMemory();
  }

  abuse(): AbuseBudget {
    this.budget ??= new AbuseBudget(this.limits, this.nowMs);
    return this.budget;
  }

  /** One stream closed; `rapid`: by an early RST_STREAM of the client. */
  countClosed(rapid: boolean): void {
    if (rapid) this.resetRatio ??= new ResetRatio();
    this.resetRatio?.count(rapid, this.limits);
  }

  // ---- streams ----------------------------------------------------------------------------------------

  /** DATA or HEADERS on a stream that is not open (§5.1). */
  onFrameForClosed(streamId: number, endStream: boolean): void {
    if (streamId === this.streams.refusedId) {
      if (endStream) this.closeRefused(false);
      return;
    }
    if (this.streams.isIdle(streamId)) {
      throw new ConnectionError(H2Error.PROTOCOL_ERROR, 'frame on an idle stream');
    }
    // We reset it: the client may not have known yet.
    if (this.isBeyondGoaway(streamId) || this.streams.wasReset(streamId)) return;
    throw new ConnectionError(H2Error.STREAM_CLOSED, 'frame on a closed stream');
  }

  /** Above the last id of our GOAWAY: ignored (§6.8). */
  isBeyondGoaway(streamId: number): boolean {
    return streamId > this.goawayId;
  }

  /** A stream error (§5.4.2) on a stream that was opened properly. */
  provoked(stream: Stream, code: number): void {
    this.resetStream(stream, code);
    stream.onAborted(false);
    this.abuse().provokedReset(this.nowMs);
  }

  /** The call that was refused as it came: the client is told to stop sending it (§8.1), unless it has sent it all. */
  endRefused(): void {
    const { refusedId } = this.streams;
    if (refusedId === 0 || this.closing) return;
    this.closeRefused(false);
    this.writeRstStream(refusedId, H2Error.NO_ERROR);
  }

  /** Nothing follows of the call that was refused as it came; `rapid`: the client reset it. */
  closeRefused(rapid: boolean): void {
    this.streams.refusedId = 0;
    this.countClosed(rapid);
  }

  /** Sends RST_STREAM and closes the stream; the caller tells whoever works on it. */
  resetStream(stream: Stream, code: number): void {
    if (stream.closed) return;
    this.closeStream(stream);
    this.writeRstStream(stream.id, code);
  }

  writeRstStream(streamId: number, code: number): void {
    this.streams.rememberReset(streamId, this.limits.maxConcurrentStreams);
    this.sender.control.rstStream(streamId, code);
  }

  /** Takes the stream off the connection. Its place comes back when its handler is done. */
  closeStream(stream: Stream): void {
    if (stream.closed) return;
    stream.closed = true;
    stream.dropOutput();
    this.streams.remove(stream);
    if (!stream.busy) this.releaseStream(stream);
  }

  /** The handler is done with a stream. */
  onHandlerDone(stream: Stream): void {
    stream.busy = false;
    if (stream.closed) this.releaseStream(stream);
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

  private releaseStream(stream: Stream): void {
    if (stream.released) return;
    stream.released = true;
    this.streams.active--;
    if (this.streams.active > 0) return;
    this.lifetime.idleSinceMs = this.nowMs;
    if (this.server.maxConnectionIdleMs > 0) this.lifetime.rearm();
    this.finishIfDone();
  }

  // ---- back pressure ----------------------------------------------------------------------------------

  /** The socket is full. */
  onBlocked(): void {
    this.pauseReading();
    this.socket.once('drain', onSocketDrain);
    this.lifetime.rearm();
  }

  onDrained(): void {
    if (this.closing) return;
    this.sender.onDrain();
    if (this.paused) {
      this.paused = false;
      this.socket.resume();
    }
  }

  /** So many control frames wait. */
  onControlQueued(items: number): void {
    if (items <= this.limits.controlQueueSoftItems) return;
    if (items > this.limits.controlQueueHardItems) this.destroy();
    else this.pauseReading();
  }

  private pauseReading(): void {
    if (this.paused || this.closing) return;
    this.paused = true;
    this.socket.pause();
    if (!this.sender.blocked) this.server.outbox.schedule(this.sender);
  }

  // ---- the end ----------------------------------------------------------------------------------------

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
    const last = Math.min(this.streams.lastId, this.goawayId);
    if (ownTurn || outbox.owner === undefined) {
      outbox.begin(this.sender);
      this.sender.control.goaway(last, code, debug);
      // Nothing is laid out into a full socket, except now: what waits must be in it before its end.
      this.sender.control.produce();
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
    if (this.closing || this.lifetime.drainPingDueMs >= 0 || this.goawayId !== MAX_STREAM_ID) return;
    if (this.lifetime.phase < Phase.AWAITING_SETTINGS_ACK) {
      this.abort(H2Error.NO_ERROR, reason);
      return;
    }
    this.writeGoaway(MAX_STREAM_ID, reason);
    this.sender.control.ping(DRAIN_PING);
    this.lifetime.drainPingDueMs = this.server.nowMs() + this.limits.drainPingTimeoutMs;
    this.lifetime.rearm();
  }

  onPingAck(bytes: Buffer, start: number, end: number): void {
    const drained = this.lifetime.drainPingDueMs >= 0 && DRAIN_PING.compare(bytes, start, end) === 0;
    if (drained) this.announceLastStream();
    else if (KEEPALIVE_PING.compare(bytes, start, end) !== 0) this.abuse().glitch(this.nowMs);
  }

  /** The second GOAWAY of a drain. */
  announceLastStream(): void {
    this.lifetime.drainPingDueMs = -1;
    this.goawayId = this.streams.lastId;
    this.writeGoaway(this.goawayId, '');
    this.finishIfDone();
  }

  onPeerGoaway(): void {
    if (this.peerGoaway) this.abuse().glitch(this.nowMs);
    this.peerGoaway = true;
    this.finishIfDone();
  }

  private writeGoaway(lastStreamId: number, reason: string): void {
    this.sender.control.goaway(lastStreamId, H2Error.NO_ERROR, reason);
    this.goawaySent = true;
  }

  /** After both GOAWAYs, or the client's, the last stream closes the connection. */
  private finishIfDone(): void {
    const leaving = this.peerGoaway || this.goawayId !== MAX_STREAM_ID;
    if (!leaving || this.streams.active > 0 || this.closing) return;
    const outbox = this.server.outbox;
    if (outbox.owner === this.sender) {
      if (!this.goawaySent) this.writeGoaway(this.streams.lastId, '');
      this.sender.produce();
      this.sender.control.produce();
      outbox.write();
      this.linger();
    } else {
      // Let what is queued go out first; the timer closes soon after.
      this.lifetime.graceDueMs = this.server.nowMs();
      outbox.schedule(this.sender);
      this.lifetime.rearm();
    }
  }

  /** FIN now; the socket itself goes when the peer has closed, so that it sees our last frames (no RST). */
  private linger(): void {
    this.release();
    this.socket.once('finish', onSocketFinish);
    this.socket.end();
    this.socket.resume();
    // A slow reader may still be taking the tail of an answer: the wait for its FIN begins when that is out.
    this.lifetime.enter(Phase.LINGERING, this.server.nowMs() + this.limits.writeStallTimeoutMs);
  }

  /** Everything has left, our FIN included. */
  onFinished(): void {
    if (this.lifetime.phase !== Phase.LINGERING) return;
    this.lifetime.enter(Phase.LINGERING, this.server.nowMs() + this.limits.lingerMs);
  }

  /** At once, without a word. */
  destroy(): void {
    if (this.lifetime.phase === Phase.CLOSED) return;
    this.abandonStreams();
    this.lifetime.stop();
    this.socket.destroy();
  }

  /** The socket is gone. Drops every reference. */
  onSocketClosed(): void {
    this.lifetime.stop();
    this.abandonStreams();
    this.release();
    this.server.onConnectionClosed(this);
  }

  private abandonStreams(): void {
    for (const stream of this.streams.removeAll()) {
      stream.closed = true;
      stream.dropOutput();
      stream.onAborted(true);
      if (!stream.busy) stream.released = true;
    }
  }

  private release(): void {
    this.receiver.release();
    this.sender.release();
    this.holdBytes(-this.bufferedBytes);
  }
}

/** The sockets of a server carry their connection, so that its listeners need no closure each. */
export const CONNECTION = Symbol('connection');

export interface ConnectedSocket extends Socket {
  [CONNECTION]?: Connection;
}

function onSocketFinish(this: ConnectedSocket): void {
  this[CONNECTION]?.onFinished();
}

function onSocketDrain(this: ConnectedSocket): void {
  this[CONNECTION]?.onDrained();
}
