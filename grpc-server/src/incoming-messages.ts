/**
 * The request of a call that is not one whole message in one frame: frames put together into messages, inflated,
 * kept until the handler takes them, and decoded then. Made when the first call for it comes; most calls have none.
 */
import type { AnyDefinition } from './call-plan.ts';
import { GrpcError, Status } from './errors.ts';
import type { GrpcCall } from './grpc-call.ts';
import { Inbox, type InboxSink } from './inbox.ts';
import { Inflater } from './inflater.ts';
import type { Limits } from './limits.ts';
import { MessageReader, type MessageSink } from './message-reader.ts';

export class IncomingMessages implements MessageSink, InboxSink {
  /** Bytes that the connection accounts for this call. */
  accountedBytes = 0;
  private readonly call: GrpcCall;
  private readonly definition: AnyDefinition;
  /** The client announced `grpc-encoding: gzip`. */
  private readonly gzip: boolean;
  private reader: MessageReader | undefined = undefined;
  private inflater: Inflater | undefined = undefined;
  private lazyInbox: Inbox | undefined = undefined;
  private count = 0;
  /** Since when the last message is incomplete, or was last held up by us. */
  private partialSinceMs = 0;
  /** Of a method that takes one. */
  private request: unknown = undefined;
  /** END_STREAM has been passed on. */
  private halfClosed = false;

  constructor(call: GrpcCall, definition: AnyDefinition, gzip: boolean) {
    this.call = call;
    this.definition = definition;
    this.gzip = gzip;
  }

  /** Where the messages of a method that takes a stream of them wait. */
  get inbox(): Inbox {
    this.lazyInbox ??= new Inbox((error) => this.call.reportError(error), this);
    return this.lazyInbox;
  }

  /** Throws GrpcError: the call fails. */
  read(bytes: Buffer, start: number, end: number): void {
    this.reader ??= new MessageReader(this.maxBytes);
    const { reader } = this;
    const wasPartial = reader.midMessage;
    const { count } = this;
    reader.read(bytes, start, end, this);
    if (reader.midMessage && (!wasPartial || count !== this.count))
      this.partialSinceMs = this.call.connection.nowMs;
  }

  /** Nothing follows. */
  end(): void {
    if (this.call.over || this.halfClosed || this.inflater?.busy) return;
    this.halfClosed = true;
    if (this.reader?.midMessage) {
      this.call.fail(new GrpcError(Status.INTERNAL, 'the request ended inside a message'));
    } else if (this.takesMany) {
      this.inbox.end();
    } else if (this.count === 0) {
      this.call.fail(new GrpcError(Status.UNIMPLEMENTED, 'a request message is missing'));
    } else {
      const request = this.request;
      this.request = undefined;
      this.call.dispatch(request);
    }
  }

  /** Since when the client owes the rest of a message; -1: it does not, or we keep it from sending. */
  get awaitedSinceMs(): number {
    const isHeldUp = (this.lazyInbox?.heldBytes ?? 0) > 0 || this.inflater?.busy === true;
    return this.reader?.midMessage && !isHeldUp ? this.partialSinceMs : -1;
  }

  /** Returns stream window for what nobody needs to hold any more. */
  creditWindow(): void {
    const held = (this.lazyInbox?.heldBytes ?? 0) + (this.inflater?.heldBytes ?? 0);
    this.call.connection.receiver.creditStream(this.call, held);
  }

  /** The call is over; whoever pulls gets `error`, or the end if there is none. */
  release(error: GrpcError | undefined): void {
    this.reader?.release(this);
    this.inflater?.release();
    this.lazyInbox?.abort(error);
  }

  /** MessageSink */
  onFramedMessage(flag: number, message: Buffer): void {
    if (this.call.over) return;
    if (flag === 0 && !this.inflater?.busy) {
      this.deliver(message);
      return;
    }
    if (flag === 1 && !this.gzip) {
      throw new GrpcError(Status.INTERNAL, 'a compressed message without grpc-encoding');
    }
    this.inflater ??= new Inflater(this.maxBytes, this.call.connection.limits.maxInflateRatio, {
      deliver: (inflated) => this.deliverLater(inflated),
      fail: (error) => this.call.fail(error),
      idle: () => {
        if (this.call.remoteEnded) this.end();
        else this.creditWindow();
      },
      hold: (heldBytes) => this.onHeldBytes(heldBytes),
    });
    this.inflater.maxBytes = this.maxBytes;
    this.inflater.add(flag, message);
  }

  /** MessageSink */
  onHeldBytes(bytes: number): boolean {
    if (!this.call.connection.holdBytes(bytes)) return false;
    this.accountedBytes += bytes;
    return true;
  }

  /** InboxSink */
  hold(bytes: number): boolean {
    return this.onHeldBytes(bytes);
  }

  /** InboxSink */
  taken(): void {
    this.partialSinceMs = this.call.connection.nowMs;
    this.creditWindow();
  }

  /** InboxSink */
  fail(error: unknown): void {
    this.call.fail(error);
  }

  /** InboxSink: throws GrpcError. */
  decode(message: Buffer): unknown {
    return decodeRequest(this.definition, message);
  }

  /** Most bytes of the next message. */
  private get maxBytes(): number {
    return maxRequestBytes(this.definition, this.call.connection.limits, this.count === 0);
  }

  private get takesMany(): boolean {
    return this.definition.kind === 'client-stream' || this.definition.kind === 'bidi';
  }

  private deliverLater(message: Buffer): void {
    if (this.call.over) return;
    try {
      this.deliver(message);
    } catch (error) {
      this.call.fail(error);
    }
  }

  private deliver(message: Buffer): void {
    this.count++;
    if (!this.takesMany && this.count > 1) {
      throw new GrpcError(Status.UNIMPLEMENTED, 'more than one request message');
    }
    if (this.reader !== undefined) this.reader.maxBytes = this.maxBytes;
    if (!this.takesMany) {
      this.request = this.decode(message);
    } else if (!this.inbox.add(message)) {
      throw new GrpcError(Status.RESOURCE_EXHAUSTED, 'too many request messages are waiting');
    }
  }
}

/** Most bytes of one request message. `first`: of the first one of its call. */
export function maxRequestBytes(definition: AnyDefinition, limits: Limits, first: boolean): number {
  const { maxRequestBytes: own, maxFirstRequestBytes: ownFirst } = definition;
  const bytes = (first ? (ownFirst ?? own) : own) ?? limits.maxReceiveMessageBytes;
  return Math.min(bytes, limits.maxReceiveMessageBytes);
}

/** Throws GrpcError: what `decode` throws that is none becomes INTERNAL, without its text. */
export function decodeRequest(definition: AnyDefinition, message: Buffer): unknown {
  try {
    return definition.decode(message);
  } catch (error) {
    if (error instanceof GrpcError) throw error;
    throw new GrpcError(Status.INTERNAL, 'the request could not be decoded', [], { cause: error });
  }
}
