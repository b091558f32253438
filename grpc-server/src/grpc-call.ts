/**
 * One gRPC call on one stream: its request, its handler, its deadline and its end; the response is the base class.
 * Implements what handlers see (`ServerDuplex`, of which the other kinds are subsets) so that a call is one object.
 */
import type { CloseReason, ServerDuplex } from './api.ts';
import { abortCause, CallListeners, isAbnormal } from './call-listeners.ts';
import type { CallPlan } from './call-plan.ts';
import type { CompressionOptions } from './compression.ts';
import type { Connection } from './connection.ts';
import { EarlyBytes } from './early-bytes.ts';
import { GrpcError, H2Error, Status } from './errors.ts';
import { readUint32 } from './frames.ts';
import { GrpcResponse } from './grpc-response.ts';
import type { Inbox } from './inbox.ts';
import { decodeRequest, IncomingMessages, maxRequestBytes } from './incoming-messages.ts';
import { PREFIX_BYTES } from './message-reader.ts';
import { Metadata } from './metadata.ts';
import type { RequestHead } from './request-head.ts';
import { TimerNode, type TimerTarget } from './timer-wheel.ts';

export class GrpcCall extends GrpcResponse implements ServerDuplex<unknown, unknown>, TimerTarget {
  context: unknown = undefined;

  private readonly requestHead: RequestHead;
  /** What comes while `admit` looks at the head. */
  private early: EarlyBytes | undefined = undefined;
  private incoming: IncomingMessages | undefined = undefined;
  private closeReason: CloseReason | undefined = undefined;
  private deadlineTimer: TimerNode | undefined = undefined;
  private listeners: CallListeners | undefined = undefined;
  private lazyMetadata: Metadata | undefined = undefined;

  constructor(
    connection: Connection,
    id: number,
    head: RequestHead,
    plan: CallPlan,
    compression: CompressionOptions | undefined,
  ) {
    super(connection, id, head, plan, compression);
    this.requestHead = head;
    if (plan.timeoutMs > 0) {
      this.deadlineTimer = new TimerNode(this);
      connection.server.wheel.set(this.deadlineTimer, this.openedMs + plan.timeoutMs);
    }
  }

  private requireListeners(): CallListeners {
    this.listeners ??= new CallListeners((error) => this.reportError(error));
    return this.listeners;
  }

  // ---- ServerCall -------------------------------------------------------------------------------------

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
    return this.requireListeners().signal(this.closeReason);
  }

  get tlsPeerCertificate(): unknown {
    const socket = this.connection.socket;
    return 'getPeerX509Certificate' in socket
      ? (socket.getPeerX509Certificate as () => unknown).call(socket)
      : undefined;
  }

  onCancel(listener: () => void): void {
    this.requireListeners().onCancel(listener, this.closeReason);
  }

  onDrain(listener: () => void): void {
    this.requireListeners().onDrain(listener);
  }

  onClose(listener: (reason: CloseReason) => void): void {
    this.requireListeners().onClose(listener, this.closeReason);
  }

  // ---- ServerDuplex -----------------------------------------------------------------------------------

  onMessage(listener: (message: unknown) => void): void {
    this.inbox.onMessage(listener);
  }

  onHalfClose(listener: () => void): void {
    this.inbox.onEnd(listener);
  }

  pause(): void {
    this.inbox.pause();
  }

  resume(): void {
    this.inbox.resume();
  }

  [Symbol.asyncIterator](): AsyncIterator<unknown> {
    return this.inbox.iterate();
  }

  // ---- request ----------------------------------------------------------------------------------------

  onData(bytes: Buffer, start: number, end: number, endStream: boolean): void {
    if (this.finished) {
      // The answer is decided; what still comes is dropped, and its window returned.
      if (!endStream) this.connection.receiver.creditStream(this, 0);
      return;
    }
    if (this.early !== undefined) {
      if (!this.early.add(bytes, start, end)) this.fail(tooManyWaiting());
      return;
    }
    this.take(bytes, start, end, endStream);
  }

  private take(bytes: Buffer, start: number, end: number, endStream: boolean): void {
    if (endStream && this.isWholeRequest(bytes, start, end)) {
      this.dispatchBytes(bytes.subarray(start + PREFIX_BYTES, end));
      return;
    }
    try {
      if (end > start) this.requireIncoming().read(bytes, start, end);
    } catch (error) {
      this.fail(error);
      return;
    }
    if (endStream) this.requireIncoming().end();
    else this.requireIncoming().creditWindow();
  }

  onRemoteEnd(): void {
    if (this.finished || this.early !== undefined) return;
    this.requireIncoming().end();
  }

  /** The request of a unary-request method is complete. */
  dispatch(request: unknown): void {
    const { definition, handler } = this.route;
    try {
      const result: unknown = handler(request as never, this as never);
      if (definition.kind === 'unary') this.settleAnswer(result);
      else this.settleStream(result);
    } catch (error) {
      this.fail(error);
    }
  }

  /** The whole request of a unary-request method in this one payload, uncompressed: nearly always. */
  private isWholeRequest(bytes: Buffer, start: number, end: number): boolean {
    const kind = this.route.definition.kind;
    const messageBytes = end - start - PREFIX_BYTES;
    return (
      (kind === 'unary' || kind === 'server-stream') &&
      this.incoming === undefined &&
      messageBytes >= 0 &&
      bytes[start] === 0 &&
      readUint32(bytes, start + 1) === messageBytes &&
      messageBytes <= maxRequestBytes(this.route.definition, this.connection.limits, true)
    );
  }

  private dispatchBytes(message: Buffer): void {
    let request: unknown;
    try {
      request = decodeRequest(this.route.definition, message);
    } catch (error) {
      this.fail(error);
      return;
    }
    this.dispatch(request);
  }

  private requireIncoming(): IncomingMessages {
    this.incoming ??= new IncomingMessages(this, this.route.definition, this.plan.requestGzip);
    return this.incoming;
  }

  private get inbox(): Inbox {
    return this.requireIncoming().inbox;
  }

  // ---- handlers ---------------------------------------------------------------------------------------

  onOpened(): void {
    const { admit } = this.route.definition;
    if (admit !== undefined) {
      try {
        const admission: unknown = admit(this);
        if (isThenable(admission)) {
          this.awaitAdmission(admission);
          return;
        }
      } catch (error) {
        this.fail(error);
        return;
      }
    }
    this.start();
  }

  /** The stream keeps its place until it is settled: who resets it and comes again has as many under way as before. */
  private awaitAdmission(admission: PromiseLike<unknown>): void {
    this.early = new EarlyBytes(this.connection);
    this.busy = true;
    admission.then(
      () => this.onAdmitted(),
      (error: unknown) => {
        this.dropEarly();
        this.fail(error);
        this.connection.onHandlerDone(this);
      },
    );
  }

  private onAdmitted(): void {
    this.connection.onHandlerDone(this);
    const bytes = this.early?.bytes;
    this.dropEarly();
    if (this.over || bytes === undefined) return;
    this.start();
    if (this.over) return;
    if (bytes.length > 0) this.take(bytes, 0, bytes.length, this.remoteEnded);
    else if (this.remoteEnded) this.requireIncoming().end();
  }

  private dropEarly(): void {
    this.early?.release();
    this.early = undefined;
  }

  /** A method that takes a stream of requests: its handler starts with the call. */
  private start(): void {
    const { definition, handler } = this.route;
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

  // ---- ends -------------------------------------------------------------------------------------------

  onAborted(connectionLost: boolean): void {
    this.finished = true;
    this.close(connectionLost ? 'connection-lost' : 'cancelled');
  }

  onStalled(): void {
    this.finished = true;
    this.connection.resetStream(this, H2Error.CANCEL);
    this.close('cancelled');
  }

  onRequestTimeout(): void {
    const { messageTimeoutMs } = this.connection.limits;
    this.fail(
      new GrpcError(Status.DEADLINE_EXCEEDED, `the request did not come within ${messageTimeoutMs} ms`),
    );
  }

  yieldMemory(): void {
    if (this.early !== undefined || (this.incoming?.accountedBytes ?? 0) > 0) this.fail(tooManyWaiting());
  }

  get awaitedSinceMs(): number {
    // What waits for `admit` waits for us.
    if (this.finished || this.remoteEnded || this.early !== undefined) return -1;
    const { kind } = this.route.definition;
    if (kind === 'unary' || kind === 'server-stream') return this.openedMs;
    return this.incoming?.awaitedSinceMs ?? -1;
  }

  /** What is held of the request goes at once: the answer may wait for the client. */
  override fail(error: unknown): void {
    super.fail(error);
    this.dropEarly();
    this.incoming?.release(abortCause('failed'));
  }

  /** The deadline. */
  onTimer(): void {
    this.cut(Status.DEADLINE_EXCEEDED, 'deadline exceeded', 'deadline');
  }

  protected close(reason: CloseReason): void {
    if (this.closeReason !== undefined) return;
    this.closeReason = reason;
    this.finished = true;
    if (this.deadlineTimer !== undefined) this.connection.server.wheel.cancel(this.deadlineTimer);
    this.dropEarly();
    this.incoming?.release(isAbnormal(reason) || reason === 'failed' ? abortCause(reason) : undefined);
    this.listeners?.closed(reason);
  }

  protected onQueueLow(): void {
    this.listeners?.drained();
  }
}

function tooManyWaiting(): GrpcError {
  return new GrpcError(Status.RESOURCE_EXHAUSTED, 'too many request bytes are waiting');
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
  );
}
