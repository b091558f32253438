/** gRPC message framing: one flag byte, four bytes of length, the message (PROTOCOL-HTTP2, Length-Prefixed-Message). */
import { GrpcError, Status } from './errors.ts';
import { readUint32 } from './frames.ts';

export const PREFIX_BYTES = 5;

export interface MessageSink {
  /** `message` is valid only during the call. `flag` is 0 or 1 (compressed). */
  onFramedMessage(flag: number, message: Buffer): void;
  /** Accounts for held bytes (may be negative); false: no more may be held. */
  onHeldBytes(bytes: number): boolean;
}

/**
 * Puts messages together from DATA payloads that are cut anywhere. Holds what arrived of one incomplete
 * message, growing with the bytes received and never with the length declared.
 */
export class MessageReader {
  /** Of one message; may be changed between messages. */
  maxBytes: number;
  private held: Buffer = EMPTY;
  private heldBytes = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** True in the middle of a message. */
  get midMessage(): boolean {
    return this.heldBytes > 0;
  }

  /** Throws GrpcError on a bad flag, a message over the limit, or when `onHeldBytes` refuses. */
  read(bytes: Buffer, start: number, end: number, sink: MessageSink): void {
    let at = start;
    while (at < end) {
      if (this.heldBytes === 0) {
        const available = end - at;
        const length = available < PREFIX_BYTES ? -1 : this.checkedLength(bytes, at);
        if (length < 0 || available < PREFIX_BYTES + length) {
          this.hold(bytes, at, end, sink);
          return;
        }
        const messageStart = at + PREFIX_BYTES;
        at = messageStart + length;
        sink.onFramedMessage(bytes[messageStart - PREFIX_BYTES] as number, bytes.subarray(messageStart, at));
      } else {
        at = this.complete(bytes, at, end, sink);
      }
    }
  }

  release(sink: MessageSink): void {
    if (this.held.length > 0) sink.onHeldBytes(-this.held.length);
    this.held = EMPTY;
    this.heldBytes = 0;
  }

  private complete(bytes: Buffer, start: number, end: number, sink: MessageSink): number {
    let at = start;
    if (this.heldBytes < PREFIX_BYTES) {
      const prefixEnd = Math.min(end, at + PREFIX_BYTES - this.heldBytes);
      this.hold(bytes, at, prefixEnd, sink);
      at = prefixEnd;
      if (this.heldBytes < PREFIX_BYTES) return at;
    }
    const total = PREFIX_BYTES + this.checkedLength(this.held, 0);
    const messageEnd = Math.min(end, at + total - this.heldBytes);
    this.hold(bytes, at, messageEnd, sink);
    if (this.heldBytes < total) return messageEnd;
    const message = this.held.subarray(PREFIX_BYTES, total);
    const flag = this.held[0] as number;
    this.release(sink);
    sink.onFramedMessage(flag, message);
    return messageEnd;
  }

  private checkedLength(bytes: Buffer, at: number): number {
    const flag = bytes[at] as number;
    if (flag > 1) throw new GrpcError(Status.INTERNAL, `message with unknown flags ${flag}`);
    const length = readUint32(bytes, at + 1);
    if (length > this.maxBytes) {
      throw new GrpcError(
        Status.RESOURCE_EXHAUSTED,
        `message of ${length} bytes is larger than the limit of ${this.maxBytes}`,
      );
    }
    return length;
  }

  private hold(bytes: Buffer, start: number, end: number, sink: MessageSink): void {
    const needed = this.heldBytes + end - start;
    if (this.held.length < needed) {
      const capacity = Math.max(needed, 2 * this.heldBytes, 16);
      if (!sink.onHeldBytes(capacity - this.held.length)) {
        throw new GrpcError(Status.RESOURCE_EXHAUSTED, 'too many request bytes are waiting');
      }
      const grown = Buffer.allocUnsafeSlow(capacity);
      this.held.copy(grown, 0, 0, this.heldBytes);
      this.held = grown;
    }
    bytes.copy(this.held, this.heldBytes, start, end);
    this.heldBytes = needed;
  }
}

const EMPTY = Buffer.alloc(0);
