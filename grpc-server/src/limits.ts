/**
 * Every bound of the server, with its unit in its name and its default. The README documents each of them;
 * a test keeps both lists equal. Sources of the values: the limits that nghttp2, grpc-go, h2o and Envoy ship.
 */
export interface Limits {
  /** Connections at one time; further ones are closed at once. */
  readonly maxConnections: number;
  /** Streams open on one connection, counting those whose handler still runs after a reset. */
  readonly maxConcurrentStreams: number;
  /** Size of a request's header list by RFC 9113 §6.5.2 (name + value + 32 each). */
  readonly maxHeaderListBytes: number;
  /** Fields in one header list. Ten times as many end the connection. */
  readonly maxHeaderFields: number;
  /** CONTINUATION frames in one header block. */
  readonly maxContinuationFrames: number;
  /** From the first to the last frame of one header block. */
  readonly headerBlockTimeoutMs: number;
  /** One request message, also after decompression. */
  readonly maxReceiveMessageBytes: number;
  /** One response message before compression. 0: no limit. */
  readonly maxSendMessageBytes: number;
  /** From the first to the last byte of a request message; of a method that takes one, from the head to the end of the request. */
  readonly messageTimeoutMs: number;
  /** A message may grow to this many times its size when inflated, or to 64 KiB if that is more. Deflate cannot do 1,033. */
  readonly maxInflateRatio: number;
  /** Request bytes held for incomplete or unread messages, all streams of one connection together. */
  readonly maxBufferedRequestBytes: number;
  /** The same, all connections together: beyond it the connection that holds most loses its unfinished requests. */
  readonly maxBufferedRequestBytesPerServer: number;
  /** Flow-control window that each stream grants for request data (RFC 9113 §6.9). */
  readonly streamWindowBytes: number;
  /** Flow-control window that the connection grants for request data. */
  readonly connectionWindowBytes: number;
  /** Queued control frames at which reading from the socket pauses. */
  readonly controlQueueSoftItems: number;
  /** Queued control frames at which the connection is closed. */
  readonly controlQueueHardItems: number;
  /** Bytes that the socket has not taken yet at which producing pauses. */
  readonly outboundHighWaterBytes: number;
  /** A socket that takes nothing, or a stream whose window stays shut with data waiting, for this long is ended. */
  readonly writeStallTimeoutMs: number;
  /** Soft bound of a stream's send queue: `send` returns false beyond it. */
  readonly sendQueueBytes: number;
  /** Hard bound of a stream's send queue: beyond it the stream ends with RESOURCE_EXHAUSTED. */
  readonly sendQueueHardBytes: number;
  /** The same in messages; `send` returns false from a quarter of it. */
  readonly sendQueueHardMessages: number;
  /** Entries in one SETTINGS frame. */
  readonly maxSettingsEntries: number;
  /** Consecutive empty DATA, HEADERS or CONTINUATION frames that do not end a stream. */
  readonly maxEmptyFrames: number;
  /** PRIORITY frames allowed: this many times (1 + streams opened). */
  readonly priorityFramesPerStream: number;
  /** WINDOW_UPDATE frames allowed: this + 2 x (streams opened + 10 x DATA frames sent). */
  readonly windowUpdateBase: number;
  /** Frames of unknown type: burst and refill. */
  readonly unknownFrameBurst: number;
  readonly unknownFramesPerSecond: number;
  /** Protocol violations that do not end the connection by themselves, and needless SETTINGS: burst and refill. */
  readonly glitchBurst: number;
  readonly glitchesPerSecond: number;
  /** RST_STREAM frames with an error code that one connection may provoke from us within the glitch refill. */
  readonly maxProvokedResets: number;
  /** Streams closed before the ratio of rapid resets is judged. */
  readonly rapidResetMinStreams: number;
  /** Share of streams (0 to 1) that may be reset by the client within a second and before any response byte. */
  readonly rapidResetRatio: number;
  /** TLS, preface and first SETTINGS together. */
  readonly handshakeTimeoutMs: number;
  /** First SETTINGS after the preface. */
  readonly firstSettingsTimeoutMs: number;
  /** Acknowledgement of our SETTINGS. */
  readonly settingsAckTimeoutMs: number;
  /** Wait for the PING between the two GOAWAY frames of a drain. */
  readonly drainPingTimeoutMs: number;
  /** When our last frame has left: wait for the peer's FIN before the socket is destroyed. */
  readonly lingerMs: number;
}

export const DEFAULT_LIMITS: Limits = Object.freeze({
  maxConnections: 100_000,
  maxConcurrentStreams: 256,
  maxHeaderListBytes: 16_384,
  maxHeaderFields: 100,
  maxContinuationFrames: 8,
  headerBlockTimeoutMs: 10_000,
  maxReceiveMessageBytes: 4_194_304,
  maxSendMessageBytes: 0,
  messageTimeoutMs: 10_000,
  maxInflateRatio: 1_100,
  maxBufferedRequestBytes: 16_777_216,
  maxBufferedRequestBytesPerServer: 268_435_456,
  streamWindowBytes: 65_535,
  connectionWindowBytes: 1_048_576,
  controlQueueSoftItems: 100,
  controlQueueHardItems: 1_000,
  outboundHighWaterBytes: 262_144,
  writeStallTimeoutMs: 30_000,
  sendQueueBytes: 65_536,
  sendQueueHardBytes: 262_144,
  sendQueueHardMessages: 1_000,
  maxSettingsEntries: 32,
  maxEmptyFrames: 10,
  priorityFramesPerStream: 100,
  windowUpdateBase: 5,
  unknownFrameBurst: 1_000,
  unknownFramesPerSecond: 330,
  glitchBurst: 1_000,
  glitchesPerSecond: 100,
  maxProvokedResets: 10,
  rapidResetMinStreams: 500,
  rapidResetRatio: 0.5,
  handshakeTimeoutMs: 10_000,
  firstSettingsTimeoutMs: 2_000,
  settingsAckTimeoutMs: 10_000,
  drainPingTimeoutMs: 5_000,
  lingerMs: 1_000,
});

/** Smallest and largest legal values where they are not 0 and 2^31 - 1. */
const BOUNDS: { readonly [name in keyof Limits]?: readonly [number, number] } = {
  maxConnections: [1, 0x7fff_ffff],
  maxConcurrentStreams: [1, 0x7fff_ffff],
  maxHeaderListBytes: [1_024, 1_048_576],
  maxHeaderFields: [10, 10_000],
  messageTimeoutMs: [1, 0x7fff_ffff],
  maxInflateRatio: [1, 0x7fff_ffff],
  // RFC 9113 §6.9.2: the window is a 31-bit number, and a connection starts with 65,535.
  streamWindowBytes: [1_024, 0x7fff_ffff],
  connectionWindowBytes: [65_535, 0x7fff_ffff],
  outboundHighWaterBytes: [65_536, 0x7fff_ffff],
  sendQueueBytes: [1, 0x7fff_ffff],
  sendQueueHardMessages: [1, 0x7fff_ffff],
  rapidResetRatio: [0, 1],
};

/** Completes and checks limits. Throws RangeError or TypeError naming the option. `sendQueueHardBytes` follows `sendQueueBytes`. */
export function resolveLimits(given: Partial<Limits> = {}): Limits {
  for (const name of Object.keys(given)) {
    if (!(name in DEFAULT_LIMITS)) throw new TypeError(`unknown limit ${name}`);
  }
  const hardBytes = 4 * (given.sendQueueBytes ?? DEFAULT_LIMITS.sendQueueBytes);
  const limits: Limits = Object.freeze({ ...DEFAULT_LIMITS, sendQueueHardBytes: hardBytes, ...given });
  for (const name of Object.keys(DEFAULT_LIMITS) as (keyof Limits)[]) {
    const value = limits[name];
    const [least, most] = BOUNDS[name] ?? [0, 0x7fff_ffff];
    const whole = name === 'rapidResetRatio' || Number.isInteger(value);
    if (!whole || !(value >= least && value <= most)) {
      throw new RangeError(`limit ${name} must be a whole number from ${least} to ${most}, not ${value}`);
    }
  }
  if (limits.sendQueueHardBytes < limits.sendQueueBytes) {
    throw new RangeError('limit sendQueueHardBytes must not be below sendQueueBytes');
  }
  return limits;
}
