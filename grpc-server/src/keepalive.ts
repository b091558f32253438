import { ConnectionError, H2Error } from './errors.ts';

/** Pings in both directions (gRFC A8, A9). */
export interface KeepaliveOptions {
  /** Without anything read for this long, ping the client. 0: never. Default 60,000. */
  readonly timeMs: number;
  /** Without anything read for this long after the ping, the connection is dead. Default 20,000. */
  readonly timeoutMs: number;
  /**
   * Clients may ping this often while a stream is open, three times more at once. 0: as often as they like. Default 5,000,
   * half of the shortest interval that grpc-go and grpc-java offer, so that no delay on the way counts against them.
   */
  readonly minClientPingMs: number;
  /** The same holds without open streams; otherwise they may ping once in two hours. Default true. */
  readonly permitWithoutCalls: boolean;
}

export const DEFAULT_KEEPALIVE: KeepaliveOptions = Object.freeze({
  timeMs: 60_000,
  timeoutMs: 20_000,
  minClientPingMs: 5_000,
  permitWithoutCalls: true,
});

const IDLE_PING_MS = 7_200_000;
/** PINGs that may come at once. */
const PING_BURST = 3;

/** Ends connections of clients that ping too often, with "too_many_pings". Each interval kept takes one early PING back. */
export class PingJudge {
  private readonly options: KeepaliveOptions;
  private allowance = PING_BURST;
  private lastMs = 0;

  constructor(options: KeepaliveOptions) {
    this.options = options;
  }

  onPing(nowMs: number, hasStreams: boolean): void {
    const { minClientPingMs, permitWithoutCalls } = this.options;
    if (minClientPingMs === 0) return;
    const leastMs = hasStreams || permitWithoutCalls ? minClientPingMs : IDLE_PING_MS;
    this.allowance = Math.min(PING_BURST, this.allowance + (nowMs - this.lastMs) / leastMs) - 1;
    this.lastMs = nowMs;
    if (this.allowance < 0) throw new ConnectionError(H2Error.ENHANCE_YOUR_CALM, 'too_many_pings');
  }

  /** We sent HEADERS or DATA. */
  reset(): void {
    this.allowance = PING_BURST;
  }
}
