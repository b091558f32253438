/**
 * How far a connection is in its life, and everything that becomes due in it: handshake, keepalive, ages, stalls.
 * All of it shares one node of the server's timer wheel.
 */
import type { Connection, ConnectionHost } from './connection.ts';
import { H2Error } from './errors.ts';
import type { KeepaliveOptions } from './keepalive.ts';
import type { Stream } from './stream.ts';
import { TimerNode, type TimerTarget } from './timer-wheel.ts';

export const KEEPALIVE_PING = Buffer.from('keepaliv', 'latin1');

export const Phase = {
  AWAITING_PREFACE: 0,
  AWAITING_SETTINGS: 1,
  AWAITING_SETTINGS_ACK: 2,
  ESTABLISHED: 3,
  /** Our last frame is in the socket; input is dropped until that is out and the peer closes, or the phase is over. */
  LINGERING: 4,
  CLOSED: 5,
} as const;

export class Lifetime implements TimerTarget {
  phase: number = Phase.AWAITING_PREFACE;
  // Times by the server's clock; of those that become due, -1: not running.
  phaseDueMs: number;
  /** A header block must be complete. */
  blockDueMs = -1;
  /** Requests are looked through for those that do not come to their end. */
  private requestDueMs = -1;
  /** The second GOAWAY follows, whether the client has answered the PING or not. */
  drainPingDueMs = -1;
  /** Streams that are still open are cut. */
  graceDueMs = -1;
  idleSinceMs: number;
  lastReadMs: number;
  private ageDueMs = -1;
  private keepaliveSentMs = -1;
  /** Some stream waits for window without progress. */
  private stalled = false;
  private readonly timer: TimerNode;
  private readonly connection: Connection;
  private readonly server: ConnectionHost;

  constructor(connection: Connection, server: ConnectionHost, nowMs: number) {
    this.connection = connection;
    this.server = server;
    this.timer = new TimerNode(this);
    this.phaseDueMs = nowMs + server.limits.handshakeTimeoutMs;
    this.idleSinceMs = nowMs;
    this.lastReadMs = nowMs;
    if (server.maxConnectionAgeMs > 0) {
      // ±10 % so that connections made together do not come back together (gRFC A9).
      this.ageDueMs = Math.floor(nowMs + server.maxConnectionAgeMs * (0.9 + 0.2 * Math.random()));
    }
  }

  /** The phase begins and may last until `dueMs`; -1: for any time. */
  enter(phase: number, dueMs: number): void {
    this.phase = phase;
    this.phaseDueMs = dueMs;
    this.rearm();
  }

  /** Something was read: the client lives. */
  onRead(nowMs: number): void {
    this.lastReadMs = nowMs;
    this.keepaliveSentMs = -1;
  }

  /** Requests may be under way whose rest is to come. */
  watchRequests(nowMs: number): void {
    if (this.requestDueMs >= 0 || this.phase >= Phase.LINGERING) return;
    this.requestDueMs = nowMs + this.server.limits.messageTimeoutMs;
    this.rearm();
  }

  /** The stream waits for window from now on, unless it did before. */
  onStreamStalled(stream: Stream): void {
    if (stream.stalledSinceMs >= 0) return;
    stream.stalledSinceMs = this.server.nowMs();
    if (this.stalled) return;
    this.stalled = true;
    this.rearm();
  }

  stop(): void {
    this.phase = Phase.CLOSED;
    this.server.wheel.cancel(this.timer);
  }

  onTimer(nowMs: number): void {
    if (this.phase === Phase.CLOSED) return;
    this.connection.nowMs = nowMs;
    this.check(nowMs);
    // Checking may have closed the connection.
    if ((this.phase as number) !== Phase.CLOSED) this.rearm();
  }

  private check(nowMs: number): void {
    const { connection, server } = this;
    const { sender } = connection;
    if (isDue(this.phaseDueMs, nowMs)) {
      this.onPhaseOver();
      return;
    }
    if (this.phase >= Phase.LINGERING) return;
    if (isDue(this.blockDueMs, nowMs)) {
      connection.abort(H2Error.ENHANCE_YOUR_CALM, 'header block too slow');
      return;
    }
    if (isDue(this.graceDueMs, nowMs)) {
      this.graceDueMs = -1;
      connection.abort(H2Error.NO_ERROR, connection.streams.active > 0 ? 'max_age grace over' : '');
      return;
    }
    if (sender.blocked && nowMs - sender.blockedSinceMs >= server.limits.writeStallTimeoutMs) {
      connection.destroy();
      return;
    }
    if (this.stalled) this.checkStalledStreams(nowMs);
    if (isDue(this.requestDueMs, nowMs)) this.checkRequests(nowMs);
    if (isDue(this.drainPingDueMs, nowMs)) connection.announceLastStream();
    this.checkAge(nowMs);
    if (server.keepalive.timeMs > 0) this.checkKeepalive(nowMs, server.keepalive);
  }

  private onPhaseOver(): void {
    if (this.phase === Phase.LINGERING) {
      this.connection.destroy();
    } else if (this.phase === Phase.AWAITING_SETTINGS_ACK) {
      this.connection.abort(H2Error.SETTINGS_TIMEOUT, 'SETTINGS not acknowledged');
    } else {
      // Late is no violation, and no call has begun: NO_ERROR tells the client that it may send all of them anew.
      this.connection.abort(H2Error.NO_ERROR, 'handshake timeout');
    }
  }

  private checkStalledStreams(nowMs: number): void {
    this.stalled = false;
    for (const stream of [...this.connection.streams]) {
      if (stream.stalledSinceMs < 0) continue;
      if (nowMs - stream.stalledSinceMs < this.server.limits.writeStallTimeoutMs) this.stalled = true;
      else stream.onStalled();
    }
  }

  private checkRequests(nowMs: number): void {
    let dueMs = Number.POSITIVE_INFINITY;
    for (const stream of [...this.connection.streams]) {
      const sinceMs = stream.awaitedSinceMs;
      if (sinceMs < 0) continue;
      const streamDueMs = sinceMs + this.server.limits.messageTimeoutMs;
      if (nowMs >= streamDueMs) stream.onRequestTimeout();
      else dueMs = Math.min(dueMs, streamDueMs);
    }
    this.requestDueMs = dueMs === Number.POSITIVE_INFINITY ? -1 : dueMs;
  }

  private checkAge(nowMs: number): void {
    const { maxConnectionAgeGraceMs, maxConnectionIdleMs } = this.server;
    if (isDue(this.ageDueMs, nowMs)) {
      this.ageDueMs = -1;
      if (maxConnectionAgeGraceMs > 0) this.graceDueMs = nowMs + maxConnectionAgeGraceMs;
      this.connection.drain('max_age');
    }
    const idle = this.connection.streams.active === 0 && this.phase >= Phase.AWAITING_SETTINGS_ACK;
    if (maxConnectionIdleMs > 0 && idle && nowMs - this.idleSinceMs >= maxConnectionIdleMs) {
      this.connection.drain('max_idle');
    }
  }

  private checkKeepalive(nowMs: number, keepalive: KeepaliveOptions): void {
    if (this.keepaliveSentMs >= 0) {
      if (nowMs - this.keepaliveSentMs >= keepalive.timeoutMs) this.connection.destroy();
    } else if (nowMs - this.lastReadMs >= keepalive.timeMs) {
      this.connection.sender.control.ping(KEEPALIVE_PING);
      this.keepaliveSentMs = nowMs;
    }
  }

  /** Sets the timer to the earliest thing that can become due. Call it when one of the times has come nearer. */
  rearm(): void {
    const { keepalive, limits, maxConnectionIdleMs, wheel } = this.server;
    const { sender, streams } = this.connection;
    let due = earlier(Number.POSITIVE_INFINITY, this.phaseDueMs);
    if (this.phase < Phase.LINGERING) {
      due = earlier(due, this.blockDueMs);
      due = earlier(due, this.graceDueMs);
      due = earlier(due, this.drainPingDueMs);
      due = earlier(due, this.requestDueMs);
      due = earlier(due, this.ageDueMs);
      if (sender.blocked) due = earlier(due, sender.blockedSinceMs + limits.writeStallTimeoutMs);
      if (this.stalled) due = earlier(due, this.connection.nowMs + Math.ceil(limits.writeStallTimeoutMs / 4));
      if (maxConnectionIdleMs > 0 && streams.active === 0) {
        due = earlier(due, this.idleSinceMs + maxConnectionIdleMs);
      }
      if (keepalive.timeMs > 0) {
        const pinged = this.keepaliveSentMs >= 0;
        due = earlier(
          due,
          pinged ? this.keepaliveSentMs + keepalive.timeoutMs : this.lastReadMs + keepalive.timeMs,
        );
      }
    }
    if (due === Number.POSITIVE_INFINITY) wheel.cancel(this.timer);
    else if (!this.timer.pending || this.timer.dueMs !== due) wheel.set(this.timer, due);
  }
}

function isDue(dueMs: number, nowMs: number): boolean {
  return dueMs >= 0 && nowMs >= dueMs;
}

function earlier(dueMs: number, otherMs: number): number {
  return otherMs >= 0 && otherMs < dueMs ? otherMs : dueMs;
}
