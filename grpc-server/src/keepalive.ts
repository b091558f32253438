import { ConnectionError, H2Error } from './errors.ts';

/** Pings in both directions (gRFC A8, A9). */
export interface KeepaliveOptions {
  /** Without anything read for this long, ping the client. 0: never. Default 60,000. */
  readonly timeMs: number;
  /** Without anything read for this long after the ping, the connection is dead. Default 20,000. */
  readonly timeoutMs: number;
  /** Clients may ping this often while a stream is open. 0: as often as they like. Default 20,000. */
  readonly minClientPingMs: number;
  /** The same holds without open streams; otherwise they may ping once in two hours. Default true. */
  readonly permitWithoutCalls: boolean;
}

export const DEFAULT_KEEPALIVE: KeepaliveOptions = Object.freeze({
  timeMs: 60_000,
  timeoutMs: 20_000,
  minClientPingMs: 20_000,
  permitWithoutCalls: true,
});

const IDLE_PING_MS = 7_200_000;
const MAX_STRIKES = 2;

/** Punishes clients that ping too often: three strikes end the connection with "too_many_pings". */
export class PingJudge {
  private readonly options: KeepaliveOptions;
  private lastValidMs = Number.NEGATIVE_INFINITY;
  private strikes = 0;

  constructor(options: KeepaliveOptions) {
    this.options = options;
  }

  onPing(nowMs: number, hasStreams: boolean): void {
    if (this.options.minClientPingMs === 0) return;
    const leastMs =
      hasStreams || this.options.permitWithoutCalls ? this.options.minClientPingMs : IDLE_PING_MS;
    if (nowMs - this.lastValidMs >= leastMs) {
      this.lastValidMs = nowMs;
    } else if (++this.strikes > MAX_STRIKES) {
      throw new ConnectionError(H2Error.ENHANCE_YOUR_CALM, 'too_many_pings');
    }
  }

  /** We sent HEADERS or DATA. */
  reset(): void {
    this.strikes = 0;
    this.lastValidMs = Number.NEGATIVE_INFINITY;
  }
}
