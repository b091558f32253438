/**
 * One gRPC call on one stream: its request, its handler, its deadline and its end; the response is the base class.
 * Implements what handlers see (`ServerDuplex`, of which the other kinds are subsets) so that a call is one object.
 */
import type { CloseReason, ServerDuplex } from './api.ts';
import { abortCause, CallListeners, isAbnormal } from './call-listeners.ts';
import type { CallPlan } from './call-plan.ts';
import type { CompressionOptions } from './compression.ts';
import type { Connection } from './connection.ts';
import { H2Error, Status } from './errors.ts';
import { readUint32 } from './frames.ts';
import { GrpcResponse } from './grpc-response.ts';
import type { Inbox } from './inbox.ts';
import { decodeRequest, IncomingMessages } from './incoming-messages.ts';
import { PREFIX_BYTES } from './message-reader.ts';
import { Metadata } from './metadata.ts';
import type { RequestHead } from './request-head.ts';
import { TimerNode, type TimerTarget } from './timer-wheel.ts';

export class GrpcCall extends GrpcResponse implements ServerDuplex<unknown, unknown>, TimerTarget {
  private readonly requestHead: RequestHead;
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
      messageBytes <= this.connection.limits.maxReceiveMessageBytes
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

  /** A method that takes a stream of requests: its handler starts with the call. */
  onOpened(): void {
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

  /** The deadline. */
  onTimer(): void {
    this.cut(Status.DEADLINE_EXCEEDED, 'deadline exceeded', 'deadline');
  }

  protected close(reason: CloseReason): void {
    if (this.closeReason !== undefined) return;
    this.closeReason = reason;
    this.finished = true;
    if (this.deadlineTimer !== undefined) this.connection.server.wheel.cancel(this.deadlineTimer);
    this.incoming?.release(isAbnormal(reason) || reason === 'failed' ? abortCause(reason) : undefined);
    this.listeners?.closed(reason);
  }

  protected onQueueLow(): void {
    this.listeners?.drained();
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
  );
}
