/** What handlers see. */
import type { EncodedMessage } from './encoded-message.ts';
import type { Metadata } from './metadata.ts';

export type MethodKind = 'unary' | 'server-stream' | 'client-stream' | 'bidi';

export interface MethodDefinition<I, O> {
  /** `/package.Service/Method`, case sensitive. */
  readonly path: string;
  readonly kind: MethodKind;
  /** Most bytes of one request message, also inflated. Default, and at most: `limits.maxReceiveMessageBytes`. */
  readonly maxRequestBytes?: number | undefined;
  /** The same for the first message of a stream, where the caller is known only by it. Default: `maxRequestBytes`. */
  readonly maxFirstRequestBytes?: number | undefined;
  /**
   * Asked when the head of a call has come, before any of its messages is decoded. Throwing, or rejecting, answers the
   * call. While a promise is pending the client can send no more than a stream's window. May leave what it found in
   * `call.context`.
   */
  readonly admit?: ((call: ServerCall) => void | Promise<void>) | undefined;
  /** The bytes are valid only during the call. Throwing answers INTERNAL. */
  decode(bytes: Uint8Array): I;
  encode(message: O): Uint8Array;
}

/** Why a stream is over: 'ended' and 'failed' by the handler, the rest by the world. */
export type CloseReason = 'ended' | 'failed' | 'cancelled' | 'deadline' | 'connection-lost';

export interface ServerCall {
  readonly path: string;
  readonly metadata: Metadata;
  /** Address and port of the client, '127.0.0.1:4711'. */
  readonly peer: string;
  readonly authority: string | undefined;
  /** A place for what `admit` found out, for the handler. The server does not look at it. Default undefined. */
  context: unknown;
  /** By the server's clock (`options.now`); undefined: the client gave none. */
  readonly deadlineMs: number | undefined;
  /** Aborted when the client cancels, the deadline passes or the connection is lost. Made on first use. */
  readonly signal: AbortSignal;
  /** The cheap form of `signal`. Called at most once; at once when it has already happened. */
  onCancel(listener: () => void): void;
  /** Initial metadata; to be set before the first message. Throws MetadataError, or Error when it is too late. */
  setHeader(name: string, value: string | Uint8Array): void;
  /** Trailing metadata. Throws MetadataError. */
  setTrailer(name: string, value: string | Uint8Array): void;
  /** Whether the following messages are gzipped if the client accepts it. Default: the server's `compression`. */
  setCompression(enabled: boolean): void;
  /** With TLS and a client certificate: the certificate, as node:tls gives it. */
  readonly tlsPeerCertificate: unknown;
}

export interface ServerStream<O> extends ServerCall {
  /**
   * Sends the response headers now. Default: with the first message. Some clients (Rust tonic, Python grpclib) send nothing
   * before they have them, so a handler that waits for its client must call this first. `setHeader` throws afterwards.
   */
  sendHeaders(): void;
  /**
   * Queues a message. False: the queue is past its soft bound (or the stream is closed, and the message
   * dropped); wait for `onDrain`. Past the hard bound the stream ends with RESOURCE_EXHAUSTED.
   */
  send(message: O): boolean;
  /** The same for a message encoded once for many streams. */
  sendEncoded(message: EncodedMessage): boolean;
  readonly queuedBytes: number;
  /** After `send` returned false: called each time the queue falls below half its soft bound. */
  onDrain(listener: () => void): void;
  readonly closed: boolean;
  /** Called exactly once, whatever ended the stream; at once when it is already closed. */
  onClose(listener: (reason: CloseReason) => void): void;
  /** Status OK after what is queued. */
  end(): void;
  /** Any GrpcError; anything else becomes UNKNOWN, and goes to the server's `onError`. */
  fail(error: unknown): void;
}

export interface ServerDuplex<I, O> extends ServerStream<O>, AsyncIterable<I> {
  onMessage(listener: (message: I) => void): void;
  /** The client has ended its side; after the last message. */
  onHalfClose(listener: () => void): void;
  /** Messages wait, and stream window is not returned. */
  pause(): void;
  resume(): void;
}

export type UnaryHandler<I, O> = (request: I, call: ServerCall) => O | Promise<O>;
export type ServerStreamHandler<I, O> = (request: I, stream: ServerStream<O>) => void | Promise<void>;
export type ClientStreamHandler<I, O> = (requests: AsyncIterable<I>, call: ServerCall) => O | Promise<O>;
export type BidiHandler<I, O> = (stream: ServerDuplex<I, O>) => void | Promise<void>;
