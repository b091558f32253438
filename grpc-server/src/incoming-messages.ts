/**
 * The request of a call that is not one whole message in one frame: frames put together into messages, inflated,
 * decoded, and kept until the handler takes them. Made when the first call for it comes; most calls have none.
 */
import type { AnyDefinition } from './call-plan.ts';
import { GrpcError, Status } from './errors.ts';
import type { GrpcCall } from './grpc-call.ts';
import { Inbox } from './inbox.ts';
import { Inflater } from './inflater.ts';
import { MessageReader, type MessageSink, PREFIX_BYTES } from './message-reader.ts';

export class IncomingMessages implements MessageSink {
  private readonly call: GrpcCall;
  private readonly definition: AnyDefinition;
  /** The client announced `grpc-encoding: gzip`. */
  private readonly gzip: boolean;
  private reader: MessageReader | undefined = undefined;
  private inflater: Inflater | undefined = undefined;
  private lazyInbox: Inbox | undefined = undefined;
  private count = 0;
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
    this.lazyInbox ??= new Inbox(
      (error) => this.call.reportError(error),
      () => this.creditWindow(),
      (bytes) => this.onHeldBytes(bytes),
    );
    return this.lazyInbox;
  }

  /** Throws GrpcError: the call fails. */
  read(bytes: Buffer, start: number, end: number): void {
    this.reader ??= new MessageReader(this.call.connection.limits.maxReceiveMessageBytes);
    this.reader.read(bytes, start, end, this);
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
    this.inflater ??= new Inflater(this.call.connection.limits.maxReceiveMessageBytes, {
      deliver: (inflated) => this.deliverLater(inflated),
      fail: (error) => this.call.fail(error),
      idle: () => {
        if (this.call.remoteEnded) this.end();
        else this.creditWindow();
      },
      hold: (heldBytes) => this.onHeldBytes(heldBytes),
    });
    this.inflater.add(flag, message);
  }

  /** MessageSink */
  onHeldBytes(bytes: number): boolean {
    return this.call.connection.holdBytes(bytes);
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
    const request = decodeRequest(this.definition, message);
    if (!this.takesMany) {
      this.request = request;
    } else if (!this.inbox.add(request, message.length + PREFIX_BYTES)) {
      throw new GrpcError(Status.RESOURCE_EXHAUSTED, 'too many request messages are waiting');
    }
  }
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
