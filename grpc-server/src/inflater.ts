/** Decompression of request messages, in order, bounded in memory and in the time that it holds the event loop. */
import { gunzip, gunzipSync } from 'node:zlib';
import { GrpcError, Status } from './errors.ts';

/** Results up to this size are made at once, whatever their ratio; larger ones in the thread pool. */
const INLINE_BYTES = 65_536;

export interface InflaterSink {
  deliver(message: Buffer): void;
  fail(error: GrpcError): void;
  /** Nothing is waiting any more. */
  idle(): void;
  /** Accounts for held bytes (may be negative); false: no more may be held. */
  hold(bytes: number): boolean;
}

interface Waiting {
  readonly flag: number;
  readonly message: Buffer;
}

export class Inflater {
  /** A message is being inflated in the thread pool; others wait behind it. */
  busy = false;
  heldBytes = 0;
  private waiting: Waiting[] = [];
  private released = false;
  /** Of one inflated message; may be changed between messages. */
  maxBytes: number;
  private readonly maxRatio: number;
  private readonly sink: InflaterSink;

  /** A message that grows beyond `maxBytes`, or beyond `maxRatio` times its size, is cut off there (RESOURCE_EXHAUSTED). */
  constructor(maxBytes: number, maxRatio: number, sink: InflaterSink) {
    this.maxBytes = maxBytes;
    this.maxRatio = maxRatio;
    this.sink = sink;
  }

  add(flag: number, message: Buffer): void {
    if (!this.busy) {
      this.process(flag, message);
      return;
    }
    this.keep(message.length);
    this.waiting.push({ flag, message: Buffer.from(message) });
  }

  release(): void {
    this.released = true;
    this.waiting = [];
    this.sink.hold(-this.heldBytes);
    this.heldBytes = 0;
  }

  private process(flag: number, message: Buffer): void {
    if (flag === 0) {
      this.sink.deliver(message);
      return;
    }
    const maxBytes = Math.min(this.maxBytes, Math.max(INLINE_BYTES, message.length * this.maxRatio));
    const inlineBytes = Math.min(INLINE_BYTES, maxBytes);
    try {
      this.sink.deliver(gunzipSync(message, { maxOutputLength: Math.max(1, inlineBytes) }));
      return;
    } catch (error) {
      if (error instanceof GrpcError) throw error;
      if (!isTooLarge(error)) throw corrupt(error);
      if (inlineBytes === maxBytes) throw tooLarge(maxBytes);
    }
    this.inflateLater(Buffer.from(message), maxBytes);
  }

  private inflateLater(message: Buffer, maxBytes: number): void {
    this.busy = true;
    this.keep(message.length);
    gunzip(message, { maxOutputLength: maxBytes }, (error, inflated) => {
      this.busy = false;
      if (this.released) return;
      this.unkeep(message.length);
      if (error !== null) {
        this.sink.fail(isTooLarge(error) ? tooLarge(maxBytes) : corrupt(error));
        return;
      }
      this.sink.deliver(inflated);
      this.continue();
    });
  }

  private continue(): void {
    while (!this.busy && !this.released) {
      const next = this.waiting.shift();
      if (next === undefined) {
        this.sink.idle();
        return;
      }
      this.unkeep(next.message.length);
      try {
        this.process(next.flag, next.message);
      } catch (error) {
        this.sink.fail(error as GrpcError);
        return;
      }
    }
  }

  private keep(bytes: number): void {
    if (!this.sink.hold(bytes)) {
      throw new GrpcError(Status.RESOURCE_EXHAUSTED, 'too many request bytes are waiting');
    }
    this.heldBytes += bytes;
  }

  private unkeep(bytes: number): void {
    this.heldBytes -= bytes;
    this.sink.hold(-bytes);
  }
}

function isTooLarge(error: unknown): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE';
}

function tooLarge(limit: number): GrpcError {
  return new GrpcError(
    Status.RESOURCE_EXHAUSTED,
    `message is larger than the limit of ${limit} when decompressed`,
  );
}

function corrupt(cause: unknown): GrpcError {
  return new GrpcError(Status.INTERNAL, 'a compressed message is corrupt', [], { cause });
}
