/**
 * Frames beside those of answers: SETTINGS ACK, PING, RST_STREAM, WINDOW_UPDATE, GOAWAY. In the connection's own
 * turn they are laid out at once; otherwise they wait here and go out before any stream gets its turn.
 */
import {
  Flag,
  goawayFrameBytes,
  PING_FRAME_BYTES,
  RST_STREAM_FRAME_BYTES,
  WINDOW_UPDATE_FRAME_BYTES,
  writeGoaway,
  writePing,
  writeRstStream,
  writeSettings,
  writeWindowUpdate,
} from './frames.ts';
import type { Sender } from './sender.ts';

const SETTINGS_ACK_BYTES = 9;
const EMPTY = Buffer.alloc(0);

export class ControlQueue {
  /** Frames that wait for the socket. */
  items = 0;
  private readonly sender: Sender;
  private waiting: Buffer | undefined = undefined;
  private waitingBytes = 0;
  /** Where `reserve` made room. */
  private target: Buffer = EMPTY;

  constructor(sender: Sender) {
    this.sender = sender;
  }

  settingsAck(): void {
    const at = this.reserve(SETTINGS_ACK_BYTES);
    writeSettings(this.target, at, Flag.ACK, []);
    this.checkBound();
  }

  /** Answers a PING with the eight bytes at `start`. */
  pong(bytes: Buffer, start: number): void {
    const at = this.reserve(PING_FRAME_BYTES);
    writePing(this.target, at, Flag.ACK, bytes, start);
    this.checkBound();
  }

  rstStream(streamId: number, code: number): void {
    const at = this.reserve(RST_STREAM_FRAME_BYTES);
    writeRstStream(this.target, at, streamId, code);
    this.checkBound();
  }

  windowUpdate(streamId: number, increment: number): void {
    const at = this.reserve(WINDOW_UPDATE_FRAME_BYTES);
    writeWindowUpdate(this.target, at, streamId, increment);
    this.checkBound();
  }

  // The client cannot make us send these two at will, so that they count but are not what ends a connection.

  ping(payload: Buffer): void {
    const at = this.reserve(PING_FRAME_BYTES);
    writePing(this.target, at, 0, payload, 0);
  }

  goaway(lastStreamId: number, code: number, debug: string): void {
    const text = Buffer.from(debug);
    const at = this.reserve(goawayFrameBytes(text));
    writeGoaway(this.target, at, lastStreamId, code, text);
  }

  /** Lays out what waits. */
  produce(): void {
    if (this.items === 0) return;
    const outbox = this.sender.outbox;
    outbox.reserve(this.waitingBytes);
    (this.waiting as Buffer).copy(outbox.slab, outbox.position, 0, this.waitingBytes);
    outbox.position += this.waitingBytes;
    this.drop();
  }

  drop(): void {
    this.waiting = undefined;
    this.waitingBytes = 0;
    this.items = 0;
    this.target = EMPTY;
  }

  /** Room for one frame in `target`, at the returned position. */
  private reserve(bytes: number): number {
    const sender = this.sender;
    const outbox = sender.outbox;
    if (outbox.owner === sender && !sender.blocked && this.items === 0) {
      outbox.reserve(bytes);
      const at = outbox.position;
      outbox.position = at + bytes;
      this.target = outbox.slab;
      return at;
    }
    const at = this.waitingBytes;
    this.waiting = grow(this.waiting, at, bytes);
    this.waitingBytes = at + bytes;
    this.items++;
    this.target = this.waiting;
    outbox.schedule(sender);
    return at;
  }

  /** One bound for everything that is queued beside DATA (grpc-go be1b06d6). */
  private checkBound(): void {
    if (this.items > 0) this.sender.connection.onControlQueued(this.items);
  }
}

function grow(buffer: Buffer | undefined, used: number, more: number): Buffer {
  if (buffer !== undefined && used + more <= buffer.length) return buffer;
  const grown = Buffer.allocUnsafeSlow(Math.max(256, 2 * (used + more)));
  buffer?.copy(grown, 0, 0, used);
  return grown;
}
