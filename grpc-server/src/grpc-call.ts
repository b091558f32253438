/**
 * One gRPC call on one stream: messages in and out, deadline, compression, status. Implements what handlers
 * see (`ServerDuplex`, of which the other kinds are subsets) so that a call is one object.
 */
import type { CloseReason, ServerDuplex } from './api.ts';
import type { CallPlan } from './call-plan.ts';
import { type CompressionOptions, compressMessage } from './compression.ts';
import type { Connection } from './connection.ts';
import type { EncodedMessage } from './encoded-message.ts';
import { GrpcError, H2Error, Status } from './errors.ts';
import { Flag, FrameType, readUint32, writeFrameHeader } from './frames.ts';
import { statusFields, toGrpcError } from './grpc-wire.ts';
import { encodeStateless, type HeaderPair, headerListBytes } from './hpack-encoder.ts';
import { Inbox } from './inbox.ts';
import { Inflater } from './inflater.ts';
import type { Limits } from './limits.ts';
import { MessageReader, type MessageSink, PREFIX_BYTES } from './message-reader.ts';
import { encodeMetadataEntry, Metadata } from './metadata.ts';
import type { RequestHead } from './request-head.ts';
import { Chunk, type HeaderBlock, Stream } from './stream.ts';
import { TimerNode, type TimerTarget } from './timer-wheel.ts';

const OK_TRAILERS = encodeStateless([['grpc-status', '0']]);
const OK_TRAILERS_FRAME = headersFrame(OK_TRAILERS, Flag.END_STREAM);

/** The block that opens every plain answer, by content type. */
const HEADS = new Map(
  ['application/grpc', 'application/grpc+proto'].map((contentType) => {
    const fields: HeaderPair[] = [
      [':status', '200'],
      ['content-type', contentType],
    ];
    const block = encodeStateless(fields);
    return [contentType, { fields, block, frame: headersFrame(block, 0) }];
  }),
);

function headersFrame(block: Buffer, flags: number): Buffer {
  const frame = Buffer.allocUnsafeSlow(9 + block.length);
  block.copy(frame, writeFrameHeader(frame, 0, block.length, FrameType.HEADERS, flags | Flag.END_HEADERS, 0));
  return frame;
}

type Head = NonNullable<ReturnType<typeof HEADS.get>>;

export class GrpcCall extends Stream implements ServerDuplex<unknown, unknown>, MessageSink, TimerTarget {
  private readonly requestHead: RequestHead;
  private readonly plan: CallPlan;
  private readonly compression: CompressionOptions | undefined;

  // Request.
  private reader: MessageReader | undefined = undefined;
  private inflater: Inflater | undefined = undefined;
  private inbox: Inbox | undefined = undefined;
  private requests = 0;
  private request: unknown = undefined;
  /** The request's END_STREAM has been passed on. */
  private halfClosed = false;

  // Response.
  private headSent = false;
  /** Status is decided: nothing can be added any more. */
  private finished = false;
  private finishReason: CloseReason = 'ended';
  private headers: HeaderPair[] | undefined = undefined;
  private trailers: HeaderPair[] | undefined = undefined;
  private compress: boolean;
  private encodingAnnounced = false;
  private overSoftBound = false;

  // Ends.
  private closeReason: CloseReason | undefined = undefined;
  private deadlineTimer: TimerNode | undefined = undefined;
  private abortController: AbortController | undefined = undefined;
  private cancelListeners: (() => void)[] | undefined = undefined;
  private closeListeners: ((reason: CloseReason) => void)[] | undefined = undefined;
  private drainListeners: (() => void)[] | undefined = undefined;
  private lazyMetadata: Metadata | undefined = undefined;

  constructor(
    connection: Connection,
    id: number,
    head: RequestHead,
    plan: CallPlan,
    compression: CompressionOptions | undefined,
  ) {
    super(connection, id, head);
    this.requestHead = head;
    this.plan = plan;
    this.compression = compression;
    this.compress = compression !== undefined && plan.acceptsGzip;
    if (plan.timeoutMs > 0) {
      this.deadlineTimer = new TimerNode(this);
      connection.server.wheel.set(this.deadlineTimer, this.openedMs + plan.timeoutMs);
    }
  }

  // ---- ServerCall -------------------------------------------------------------------------------------

  get path(): string {
    return this.requestHead.path;
  }

  get metadata(): Metadata {
    this.lazyMetadata ??= new Metadata(this.requestHead.fields);
    return this.lazyMetadata;
  }

  get peer(): string {
    return this.connection.peer;
  }

  get authority(): string | undefined {
    return this.requestHead.authority;
  }

  get deadlineMs(): number | undefined {
    return this.plan.timeoutMs < 0 ? undefined : this.openedMs + this.plan.timeoutMs;
  }

  get signal(): AbortSignal {
    if (this.abortController === undefined) {
      this.abortController = new AbortController();
      if (isAbnormal(this.closeReason)) this.abortController.abort(abortCause(this.closeReason));
    }
    return this.abortController.signal;
  }

  get tlsPeerCertificate(): unknown {
    const socket = this.connection.socket;
    return 'getPeerX509Certificate' in socket
      ? (socket.getPeerX509Certificate as () => unknown).call(socket)
      : undefined;
  }

  onCancel(listener: () => void): void {
    if (this.closeReason === undefined) {
      this.cancelListeners ??= [];
      this.cancelListeners.push(listener);
    } else if (isAbnormal(this.closeReason)) {
      this.guard(listener);
    }
  }

  setHeader(name: string, value: string | Uint8Array): void {
    const entry = encodeMetadataEntry(name, value);
    if (this.headSent) throw new Error('the response headers are already sent');
    this.headers ??= [];
    this.headers.push(entry);
  }

  setTrailer(name: string, value: string | Uint8Array): void {
    const entry = encodeMetadataEntry(name, value);
    this.trailers ??= [];
    this.trailers.push(entry);
  }

  setCompression(enabled: boolean): void {
    this.compress = enabled && this.plan.acceptsGzip;
    // Once announced, each message says by its flag whether it is compressed.
    if (this.compress && !this.headSent) this.encodingAnnounced = true;
  }

  // ---- ServerStream -----------------------------------------------------------------------------------

  send(message: unknown): boolean {
    if (this.closed || this.finished) return false;
    let bytes: Buffer;
    try {
      bytes = toBuffer((this.plan.route as NonNullable<CallPlan['route']>).definition.encode(message));
    } catch (error) {
      this.failInternally(error, 'encoding a response');
      return false;
    }
    return this.enqueueMessage(bytes);
  }

  sendEncoded(message: EncodedMessage): boolean {
    if (this.closed || this.finished) return false;
    if (!this.headSent) this.sendHeaders();
    const gzip = this.compress && this.encodingAnnounced && this.isWorthCompressing(message.frame.length);
    return this.enqueue(new Chunk(-1, gzip ? message.gzipFrame : message.frame));
  }

  /** Sends the response headers now instead of with the first message. */
  sendHeaders(): void {
    if (this.headSent || this.closed || this.finished) return;
    this.headBlock = this.responseHead();
    this.connection.sender.wake(this);
  }

  onDrain(listener: () => void): void {
    this.drainListeners ??= [];
    this.drainListeners.push(listener);
  }

  onClose(listener: (reason: CloseReason) => void): void {
    const reason = this.closeReason;
    if (reason !== undefined) {
      this.guard(() => listener(reason));
      return;
    }
    this.closeListeners ??= [];
    this.closeListeners.push(listener);
  }

  end(): void {
    if (this.closed || this.finished) return;
    this.finish(Status.OK, '', undefined, 'ended');
  }

  fail(error: unknown): void {
    if (this.closed || this.finished) return;
    const known = toGrpcError(error);
    if (known !== error) this.reportError(error);
    this.finish(known.status, known.message, known, 'failed');
  }

  // ---- ServerDuplex -----------------------------------------------------------------------------------

  onMessage(listener: (message: unknown) => void): void {
    this.requireInbox().onMessage(listener);
  }

  onHalfClose(listener: () => void): void {
    this.requireInbox().onEnd(listener);
  }

  pause(): void {
    this.requireInbox().pause();
  }

  resume(): void {
    this.requireInbox().resume();
  }

  [Symbol.asyncIterator](): AsyncIterator<unknown> {
    return this.requireInbox().iterate();
  }

  // ---- request bytes ----------------------------------------------------------------------------------

  onData(bytes: Buffer, start: number, end: number, endStream: boolean): void {
    if (this.finished) {
      // The answer is decided; what still comes is dropped, and its window returned.
      if (!endStream) this.connection.receiver.creditStream(this, 0);
      return;
    }
    if (endStream && this.isWholeRequest(bytes, start, end)) {
      this.halfClosed = true;
      this.requests = 1;
      this.dispatchBytes(bytes.subarray(start + PREFIX_BYTES, end));
      return;
    }
    if (end > start) {
      try {
        this.reader ??= new MessageReader(this.connection.limits.maxReceiveMessageBytes);
        this.reader.read(bytes, start, end, this);
      } catch (error) {
        this.fail(error);
        return;
      }
    }
    if (endStream) this.onRemoteEnd();
    else this.creditWindow();
  }

  onRemoteEnd(): void {
    if (this.finished || this.closed || this.halfClosed) return;
    if (this.inflater?.busy) return;
    this.halfClosed = true;
    if (this.reader?.midMessage) {
      this.fail(new GrpcError(Status.INTERNAL, 'the request ended inside a message'));
      return;
    }
    const kind = this.definition.kind;
    if (kind === 'client-stream' || kind === 'bidi') {
      this.requireInbox().end();
    } else if (this.requests === 0) {
      this.fail(new GrpcError(Status.UNIMPLEMENTED, 'a request message is missing'));
    } else {
      const request = this.request;
      this.request = undefined;
      this.dispatch(request);
    }
  }

  /** MessageSink */
  onFramedMessage(flag: number, message: Buffer): void {
    if (this.finished || this.closed) return;
    if (flag === 0 && !this.inflater?.busy) {
      this.deliver(message);
      return;
    }
    if (flag === 1 && !this.plan.requestGzip) {
      throw new GrpcError(Status.INTERNAL, 'a compressed message without grpc-encoding');
    }
    this.inflater ??= new Inflater(this.connection.limits.maxReceiveMessageBytes, {
      deliver: (inflated) => this.deliverLater(inflated),
      fail: (error) => this.fail(error),
      idle: () => {
        if (this.remoteEnded) this.onRemoteEnd();
        else this.creditWindow();
      },
      hold: (heldBytes) => this.onHeldBytes(heldBytes),
    });
    this.inflater.add(flag, message);
  }

  /** MessageSink */
  onHeldBytes(bytes: number): boolean {
    return this.connection.holdBytes(bytes);
  }

  /** The whole request of a unary-request method in this one payload, uncompressed: nearly always. */
  private isWholeRequest(bytes: Buffer, start: number, end: number): boolean {
    const kind = this.definition.kind;
    return (
      (kind === 'unary' || kind === 'server-stream') &&
      this.reader === undefined &&
      end - start >= PREFIX_BYTES &&
      bytes[start] === 0 &&
      readUint32(bytes, start + 1) === end - start - PREFIX_BYTES &&
      end - start - PREFIX_BYTES <= this.connection.limits.maxReceiveMessageBytes
    );
  }

  private deliverLater(message: Buffer): void {
    if (this.finished || this.closed) return;
    try {
      this.deliver(message);
    } catch (error) {
      this.fail(error);
    }
  }

  private deliver(message: Buffer): void {
    this.requests++;
    const definition = this.definition;
    const many = definition.kind === 'client-stream' || definition.kind === 'bidi';
    if (!many && this.requests > 1) {
      throw new GrpcError(Status.UNIMPLEMENTED, 'more than one request message');
    }
    let request: unknown;
    try {
      request = definition.decode(message);
    } catch (error) {
      throw decodeError(error);
    }
    if (!many) this.request = request;
    else if (!this.requireInbox().add(request, message.length + PREFIX_BYTES)) {
      throw new GrpcError(Status.RESOURCE_EXHAUSTED, 'too many request messages are waiting');
    }
  }

  private dispatchBytes(message: Buffer): void {
    let request: unknown;
    try {
      request = this.definition.decode(message);
    } catch (error) {
      this.fail(decodeError(error));
      return;
    }
    this.dispatch(request);
  }

  private creditWindow(): void {
    const held = this.inbox?.heldBytes ?? 0;
    this.connection.receiver.creditStream(this, held + (this.inflater?.heldBytes ?? 0));
  }

  private requireInbox(): Inbox {
    this.inbox ??= new Inbox(
      (error) => this.reportError(error),
      () => this.creditWindow(),
      (bytes) => this.onHeldBytes(bytes),
    );
    return this.inbox;
  }

  // ---- handlers ---------------------------------------------------------------------------------------

  private get definition() {
    return (this.plan.route as NonNullable<CallPlan['route']>).definition;
  }

  /** The request of a unary-request method is complete. */
  private dispatch(request: unknown): void {
    const { definition, handler } = this.plan.route as NonNullable<CallPlan['route']>;
    try {
      const result: unknown = handler(request as never, this as never);
      if (definition.kind === 'unary') this.settleAnswer(result);
      else this.settleStream(result);
    } catch (error) {
      this.fail(error);
    }
  }

  /** A method that takes a stream of requests: its handler starts with the call. */
  onOpened(): void {
    const { definition, handler } = this.plan.route as NonNullable<CallPlan['route']>;
    if (definition.kind === 'unary' || definition.kind === 'server-stream') return;
    try {
      const result: unknown = handler(this as never, this as never);
      if (definition.kind === 'client-stream') this.settleAnswer(result);
      else this.settleStream(result);
    } catch (error) {
      this.fail(error);
    }
  }

  private settleAnswer(result: unknown): void {
    if (!isThenable(result)) {
      this.answer(result);
      return;
    }
    this.busy = true;
    result.then(
      (value) => {
        this.answer(value);
        this.connection.onHandlerDone(this);
      },
      (error: unknown) => {
        this.fail(error);
        this.connection.onHandlerDone(this);
      },
    );
  }

  private settleStream(result: unknown): void {
    if (!isThenable(result)) return;
    this.busy = true;
    result.then(
      () => this.connection.onHandlerDone(this),
      (error: unknown) => {
        this.fail(error);
        this.connection.onHandlerDone(this);
      },
    );
  }

  // ---- response ---------------------------------------------------------------------------------------

  /** The one response message of a unary-response method, then OK. */
  private answer(message: unknown): void {
    if (this.closed || this.finished) return;
    let bytes: Uint8Array;
    try {
      bytes = this.definition.encode(message);
    } catch (error) {
      this.failInternally(error, 'encoding the response');
      return;
    }
    const simple =
      this.headers === undefined && this.trailers === undefined && !this.compress && !this.headSent;
    if (simple && !this.isOverSendLimit(bytes.length) && this.remoteEnded) {
      const { frame } = HEADS.get(this.plan.contentType) as Head;
      if (this.connection.sender.respond(this, frame, bytes, OK_TRAILERS_FRAME)) {
        this.finished = true;
        this.headSent = true;
        this.connection.onStreamSent(this);
        return;
      }
    }
    this.enqueueMessage(toBuffer(bytes));
    if (!this.finished) this.finish(Status.OK, '', undefined, 'ended');
  }

  private enqueueMessage(bytes: Buffer): boolean {
    if (this.isOverSendLimit(bytes.length)) {
      const limit = this.connection.limits.maxSendMessageBytes;
      this.fail(
        new GrpcError(
          Status.RESOURCE_EXHAUSTED,
          `response of ${bytes.length} bytes is over the limit of ${limit}`,
        ),
      );
      return false;
    }
    if (!this.headSent) this.sendHeaders();
    const gzip = this.compress && this.encodingAnnounced && this.isWorthCompressing(bytes.length);
    return this.enqueue(gzip ? new Chunk(1, compressMessage(bytes)) : new Chunk(0, bytes));
  }

  private enqueue(chunk: Chunk): boolean {
    const limits = this.connection.limits;
    const overHard = this.queuedBytes + chunk.length > limits.sendQueueHardBytes && this.queuedMessages > 0;
    if (overHard || this.queuedMessages >= limits.sendQueueHardMessages) {
      this.dropQueue();
      this.fail(new GrpcError(Status.RESOURCE_EXHAUSTED, 'the client reads too slowly'));
      return false;
    }
    this.push(chunk);
    this.connection.sender.wake(this);
    if (this.queuedBytes <= limits.sendQueueBytes && this.queuedMessages <= softMessages(limits)) return true;
    this.overSoftBound = true;
    return false;
  }

  private isOverSendLimit(bytes: number): boolean {
    const limit = this.connection.limits.maxSendMessageBytes;
    return limit > 0 && bytes > limit;
  }

  private isWorthCompressing(bytes: number): boolean {
    return bytes >= (this.compression?.minBytes ?? 1);
  }

  private responseHead(): HeaderBlock {
    this.headSent = true;
    const head = HEADS.get(this.plan.contentType) as Head;
    if (this.compress) this.encodingAnnounced = true;
    if (this.headers === undefined && !this.encodingAnnounced) return head.block;
    const fields = [...head.fields, ...(this.headers ?? [])];
    if (this.encodingAnnounced) fields.push(['grpc-encoding', 'gzip']);
    const repeats = this.headers !== undefined;
    this.headers = undefined;
    return this.makeBlock(fields, repeats);
  }

  private makeBlock(fields: readonly HeaderPair[], repeats: boolean): HeaderBlock {
    // SETTINGS_MAX_HEADER_LIST_SIZE of the client: it would reset the stream, or the connection.
    if (headerListBytes(fields) > this.connection.sender.maxHeaderListBytes) {
      this.reportError(new Error('response metadata is over the header list limit of the client'));
      this.connection.resetStream(this, H2Error.INTERNAL_ERROR);
      this.close('failed');
    }
    return repeats ? fields : encodeStateless(fields);
  }

  /** Decides the status. What is queued goes first. */
  private finish(status: Status, message: string, error: GrpcError | undefined, reason: CloseReason): void {
    this.finished = true;
    this.finishReason = reason;
    const fields = this.trailerFields(status, message, error);
    const repeats = this.trailers !== undefined;
    if (!this.headSent && this.headers !== undefined) this.headBlock = this.responseHead();
    if (this.closed) return;
    if (!this.headSent) {
      // Trailers-Only: one block for both.
      this.headSent = true;
      const head = HEADS.get(this.plan.contentType) as Head;
      this.headBlock = this.makeBlock([...head.fields, ...(fields ?? [['grpc-status', '0']])], repeats);
    } else {
      this.trailerBlock = fields === undefined ? OK_TRAILERS : this.makeBlock(fields, repeats);
    }
    if (this.closed) return;
    this.ending = true;
    this.connection.sender.wake(this);
  }

  /** undefined: just OK. */
  private trailerFields(
    status: Status,
    message: string,
    error: GrpcError | undefined,
  ): HeaderPair[] | undefined {
    const plain = status === Status.OK && this.trailers === undefined && error === undefined;
    if (plain) return undefined;
    const fields = statusFields(status, message, error?.details ?? []);
    for (const [name, value] of Object.entries(error?.metadata ?? {})) {
      try {
        fields.push(encodeMetadataEntry(name, value));
      } catch (invalid) {
        this.reportError(invalid);
      }
    }
    for (const entry of this.trailers ?? []) {
      // Ours is made from the same status; another one must not contradict it.
      if (entry[0] !== 'grpc-status-details-bin') fields.push(entry);
    }
    return fields;
  }

  /** Ends the call over the head of its handler; what is queued is dropped. */
  private cut(status: Status, message: string, reason: CloseReason): void {
    if (this.closed) return;
    this.dropQueue();
    if (!this.finished) this.finish(status, message, undefined, reason);
    else if (!this.ending) this.finish(status, message, undefined, reason);
    this.close(reason);
  }

  private dropQueue(): void {
    this.firstChunk = undefined;
    this.lastChunk = undefined;
    this.sentOfFirst = 0;
    this.queuedBytes = 0;
    this.queuedMessages = 0;
  }

  private failInternally(error: unknown, context: string): void {
    this.reportError(error);
    this.fail(new GrpcError(Status.INTERNAL, `failed at ${context}`));
  }

  // ---- ends -------------------------------------------------------------------------------------------

  onSent(): void {
    this.close(this.finishReason);
  }

  onDequeued(): void {
    if (!this.overSoftBound) return;
    const limits = this.connection.limits;
    if (this.queuedBytes * 2 > limits.sendQueueBytes || this.queuedMessages * 2 > softMessages(limits))
      return;
    this.overSoftBound = false;
    if (this.finished) return;
    for (const listener of this.drainListeners ?? []) this.guard(listener);
  }

  onAborted(connectionLost: boolean): void {
    this.finished = true;
    this.close(connectionLost ? 'connection-lost' : 'cancelled');
  }

  onStalled(): void {
    this.finished = true;
    this.connection.resetStream(this, H2Error.CANCEL);
    this.close('cancelled');
  }

  /** The deadline. */
  onTimer(): void {
    this.cut(Status.DEADLINE_EXCEEDED, 'deadline exceeded', 'deadline');
  }

  private close(reason: CloseReason): void {
    if (this.closeReason !== undefined) return;
    this.closeReason = reason;
    this.finished = true;
    if (this.deadlineTimer !== undefined) this.connection.server.wheel.cancel(this.deadlineTimer);
    this.reader?.release(this);
    this.inflater?.release();
    this.inbox?.abort(isAbnormal(reason) || reason === 'failed' ? abortCause(reason) : undefined);
    const closeListeners = this.closeListeners;
    const cancelListeners = this.cancelListeners;
    this.closeListeners = undefined;
    this.cancelListeners = undefined;
    this.drainListeners = undefined;
    if (isAbnormal(reason)) {
      this.abortController?.abort(abortCause(reason));
      for (const listener of cancelListeners ?? []) this.guard(listener);
    }
    for (const listener of closeListeners ?? []) this.guard(() => listener(reason));
  }

  private guard(listener: () => void): void {
    try {
      listener();
    } catch (error) {
      this.reportError(error);
    }
  }

  private reportError(error: unknown): void {
    this.connection.server.onError(error, this.path);
  }
}

/** The soft bound in messages: as far below the hard one as the default of the bound in bytes. */
function softMessages(limits: Limits): number {
  return Math.ceil(limits.sendQueueHardMessages / 4);
}

function isAbnormal(reason: CloseReason | undefined): boolean {
  return reason === 'cancelled' || reason === 'deadline' || reason === 'connection-lost';
}

function abortCause(reason: CloseReason | undefined): GrpcError {
  const status = reason === 'deadline' ? Status.DEADLINE_EXCEEDED : Status.CANCELLED;
  return new GrpcError(status, `call over: ${reason}`);
}

function decodeError(error: unknown): GrpcError {
  if (error instanceof GrpcError) return error;
  return new GrpcError(Status.INTERNAL, 'the request could not be decoded', [], { cause: error });
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
  );
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
