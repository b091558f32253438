import { ConnectionError, H2Error } from './errors.ts';
import type { Limits } from './limits.ts';

/** Tokens that refill with time: `burst` at most, `perSecond` back. */
class TokenBucket {
  private tokens: number;
  private refilledMs: number;
  private readonly burst: number;
  private readonly perSecond: number;

  constructor(burst: number, perSecond: number, nowMs: number) {
    this.tokens = burst;
    this.refilledMs = nowMs;
    this.burst = burst;
    this.perSecond = perSecond;
  }

  /** Takes one token; false when there is none. */
  take(nowMs: number): boolean {
    this.tokens = Math.min(this.burst, this.tokens + ((nowMs - this.refilledMs) * this.perSecond) / 1000);
    this.refilledMs = nowMs;
    if (this.tokens < 1) return false;
    this.tokens--;
    return true;
  }
}

/** Only the client's streams that died this young and unanswered count as rapid resets. */
const RAPID_RESET_MS = 1_000;

/**
 * What a connection may do that is legal, or nearly, but costs us more than it costs the client. Going over
 * any budget throws ENHANCE_YOUR_CALM. Made when first needed: a well-behaved connection never has one.
 */
export class AbuseBudget {
  private readonly limits: Limits;
  private readonly glitches: TokenBucket;
  private readonly unknownFrames: TokenBucket;
  private readonly provokedResets: TokenBucket;
  private priorityFrames = 0;
  private windowUpdates = 0;
  private emptyFrames = 0;

  constructor(limits: Limits, nowMs: number) {
    this.limits = limits;
    this.glitches = new TokenBucket(limits.glitchBurst, limits.glitchesPerSecond, nowMs);
    this.unknownFrames = new TokenBucket(limits.unknownFrameBurst, limits.unknownFramesPerSecond, nowMs);
    this.provokedResets = new TokenBucket(limits.maxProvokedResets, 1, nowMs);
  }

  /** A violation that costs only its stream, or a frame that nobody needs. */
  glitch(nowMs: number): void {
    if (!this.glitches.take(nowMs)) throw calm('too many protocol violations');
  }

  unknownFrame(nowMs: number): void {
    if (!this.unknownFrames.take(nowMs)) throw calm('too many frames of unknown type');
  }

  /** The client made us reset a stream that it had opened properly (MadeYouReset, CVE-2025-8671). */
  provokedReset(nowMs: number): void {
    if (!this.provokedResets.take(nowMs)) throw calm('too many provoked resets');
  }

  /** A frame without content that ends nothing (CVE-2019-9518). */
  emptyFrame(): void {
    if (++this.emptyFrames > this.limits.maxEmptyFrames) throw calm('too many empty frames');
  }

  /** A DATA frame with content: only consecutive empty frames count. */
  filledFrame(): void {
    this.emptyFrames = 0;
  }

  priorityFrame(streamsOpened: number): void {
    if (++this.priorityFrames > this.limits.priorityFramesPerStream * (1 + streamsOpened)) {
      throw calm('too many PRIORITY frames');
    }
  }

  windowUpdate(streamsOpened: number, dataFramesSent: number): void {
    const allowed = this.limits.windowUpdateBase + 2 * (streamsOpened + 10 * dataFramesSent);
    if (++this.windowUpdates > allowed) throw calm('too many WINDOW_UPDATE frames');
  }
}

/**
 * Rapid reset (CVE-2023-44487), judged by its share: clients that cancel streams they have used are never
 * counted, however many.
 */
export class ResetRatio {
  private closed = 0;
  private rapid = 0;

  /** One stream closed. `rapid`: by the client's RST_STREAM, young, before any response byte. */
  count(rapid: boolean, limits: Limits): void {
    this.closed++;
    if (rapid) this.rapid++;
    if (this.closed < limits.rapidResetMinStreams) return;
    if (this.rapid > limits.rapidResetRatio * this.closed) throw calm('too many streams reset at once');
    if (this.closed >= 2 * limits.rapidResetMinStreams) {
      // Recent behaviour weighs more than what was long ago.
      this.closed /= 2;
      this.rapid /= 2;
    }
  }
}

export function isRapidReset(openedMs: number, nowMs: number, responded: boolean): boolean {
  return !responded && nowMs - openedMs < RAPID_RESET_MS;
}

function calm(message: string): ConnectionError {
  return new ConnectionError(H2Error.ENHANCE_YOUR_CALM, message);
}
