/**
 * The response side of a gRPC call: headers, messages, compression, status. Which of the frames that makes, and
 * when, is the sender's business.
 */
import type { CloseReason } from './api.ts';
import type { CallPlan, Route } from './call-plan.ts';
import { type CompressionOptions, compressMessage } from './compression.ts';
import type { Connection } from './connection.ts';
import type { EncodedMessage } from './encoded-message.ts';
import { GrpcError, H2Error, Status } from './errors.ts';
import { toGrpcError } from './grpc-wire.ts';
import { encodeStateless, type HeaderPair, headerListBytes } from './hpack-encoder.ts';
import type { Limits } from './limits.ts';
import { encodeMetadataEntry } from './metadata.ts';
import type { RequestHead } from './request-head.ts';
import { OK_FIELDS, OK_TRAILERS, OK_TRAILERS_FRAME, responseHead, trailerFields } from './response-blocks.ts';
import { Chunk, type HeaderBlock, Stream } from './stream.ts';

/** What the gRPC over HTTP/2 specification suggests as the least that headers may have. */
const CUSTOMARY_HEADER_LIST_BYTES = 8_192;

export abstract class GrpcResponse extends Stream {
  protected readonly plan: CallPlan;
  private readonly compression: CompressionOptions | undefined;
  private headSent = false;
  /** Status is decided: nothing can be added any more. */
  protected finished = false;
  private finishReason: CloseReason = 'ended';
  private headers: HeaderPair[] | undefined = undefined;
  private trailers: HeaderPair[] | undefined = undefined;
  private compress: boolean;
  private encodingAnnounced = false;
  private overSoftBound = false;

  constructor(
    connection: Connection,
    id: number,
    head: RequestHead,
    plan: CallPlan,
    compression: CompressionOptions | undefined,
  ) {
    super(connection, id, head);
    this.plan = plan;
    this.compression = compression;
    this.compress = compression !== undefined && plan.acceptsGzip;
  }

  /** The queue has fallen far enough below the soft bound. */
  protected abstract onQueueLow(): void;
  /** The call is over. Called more than once; only the first counts. */
  protected abstract close(reason: CloseReason): void;

  /** Nothing that still comes from the client matters. */
  get over(): boolean {
    return this.finished || this.closed;
  }

  get path(): string {
    return this.route.definition.path;
  }

  protected get route(): Route {
    return this.plan.route as Route;
  }

  /** A bug, not the client's fault. */
  reportError(error: unknown): void {
    this.connection.server.onError(error, this.path);
  }

  // ---- for handlers -----------------------------------------------------------------------------------

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

  send(message: unknown): boolean {
    if (this.over) return false;
    let bytes: Buffer;
    try {
      bytes = toBuffer(this.route.definition.encode(message));
    } catch (error) {
      this.failInternally(error, 'encoding a response');
      return false;
    }
    return this.enqueueMessage(bytes);
  }

  sendEncoded(message: EncodedMessage): boolean {
    if (this.over) return false;
    if (!this.headSent) this.sendHeaders();
    const gzip = this.compress && this.encodingAnnounced && this.isWorthCompressing(message.frame.length);
    return this.enqueue(new Chunk(-1, gzip ? message.gzipFrame : message.frame));
  }

  /** Sends the response headers now instead of with the first message. */
  sendHeaders(): void {
    if (this.headSent || this.over) return;
    this.headBlock = this.makeHead();
    this.connection.sender.wake(this);
  }

  end(): void {
    if (this.over) return;
    this.finish(Status.OK, '', undefined, 'ended');
  }

  fail(error: unknown): void {
    if (this.over) return;
    const known = toGrpcError(error);
    if (known !== error) this.reportError(error);
    this.finish(known.status, known.message, known, 'failed');
  }

  // ---- one answer ---------------------------------------------------------------------------------------

  /** The one response message of a unary-response method, then OK. */
  protected answer(message: unknown): void {
    if (this.over) return;
    let bytes: Uint8Array;
    try {
      bytes = this.route.definition.encode(message);
    } catch (error) {
      this.failInternally(error, 'encoding the response');
      return;
    }
    const simple =
      this.headers === undefined && this.trailers === undefined && !this.compress && !this.headSent;
    if (simple && !this.isOverSendLimit(bytes.length) && this.remoteEnded) {
      const { frame } = responseHead(this.plan.contentType);
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

  private makeHead(): HeaderBlock {
    this.headSent = true;
    const head = responseHead(this.plan.contentType);
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
    const limitBytes = this.connection.sender.maxHeaderListBytes;
    if (headerListBytes(fields) > limitBytes) {
      // With less than what everybody has room for, it is the client's doing.
      if (limitBytes >= CUSTOMARY_HEADER_LIST_BYTES)
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
    const plain = status === Status.OK && this.trailers === undefined && error === undefined;
    const fields = plain
      ? OK_FIELDS
      : trailerFields(status, message, error, this.trailers ?? [], (invalid) => this.reportError(invalid));
    const repeats = this.trailers !== undefined;
    if (!this.headSent && this.headers !== undefined) this.headBlock = this.makeHead();
    if (this.closed) return;
    if (!this.headSent) {
      // Trailers-Only: one block for both.
      this.headSent = true;
      const head = responseHead(this.plan.contentType);
      this.headBlock = this.makeBlock([...head.fields, ...fields], repeats);
    } else {
      this.trailerBlock = plain ? OK_TRAILERS : this.makeBlock(fields, repeats);
    }
    if (this.closed) return;
    this.ending = true;
    this.connection.sender.wake(this);
  }

  /** Ends the call over the head of its handler; what is queued is dropped. */
  protected cut(status: Status, message: string, reason: CloseReason): void {
    if (this.closed) return;
    this.dropQueue();
    if (!this.ending) this.finish(status, message, undefined, reason);
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

  // ---- Stream -------------------------------------------------------------------------------------------

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
    this.onQueueLow();
  }
}

/** The soft bound in messages: as far below the hard one as the default of the bound in bytes. */
function softMessages(limits: Limits): number {
  return Math.ceil(limits.sendQueueHardMessages / 4);
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
