import type { Connection } from './connection.ts';
import type { HeaderPair } from './hpack-encoder.ts';
import type { RequestHead } from './request-head.ts';

/**
 * A header block to be sent: encoded already, without any table, or as fields. Those are encoded when they go
 * out, because the blocks of a connection must be encoded in the order in which they are sent (RFC 7541 §2.2).
 */
export type HeaderBlock = Buffer | readonly HeaderPair[];

/** Bytes waiting to be sent on one stream. */
export class Chunk {
  /** What precedes `bytes` on the wire: -1 nothing, else a gRPC message prefix with this flag. */
  readonly prefixFlag: number;
  readonly bytes: Buffer;
  next: Chunk | undefined;

  constructor(prefixFlag: number, bytes: Buffer) {
    this.prefixFlag = prefixFlag;
    this.bytes = bytes;
    this.next = undefined;
  }

  get length(): number {
    return this.prefixFlag < 0 ? this.bytes.length : this.bytes.length + 5;
  }
}

/**
 * One HTTP/2 stream (RFC 9113 §5.1): its windows, what it has to send, and how far each side has got.
 * `Connection` moves it through its states; what the bytes mean is up to the subclass.
 */
export abstract class Stream {
  readonly connection: Connection;
  readonly id: number;
  readonly openedMs: number;
  /** What the client may still send, and what we may (negative after a SETTINGS change, §6.9.2). */
  receiveWindow: number;
  sendWindow: number;
  /** Received and not yet returned as window. */
  uncredited = 0;
  /** Content-length minus what has come; -1 when none was announced. */
  expectedBytes: number;
  /** The client has ended its side. */
  remoteEnded = false;
  /** Gone from the connection: nothing is sent or received any more. */
  closed = false;
  /** The handler has not finished: the stream keeps its place among `maxConcurrentStreams`. */
  busy = false;
  /** Its place has been given back. */
  released = false;
  /** A response frame was laid out. */
  responded = false;

  // What is to be sent, in this order.
  headBlock: HeaderBlock | undefined = undefined;
  firstChunk: Chunk | undefined = undefined;
  lastChunk: Chunk | undefined = undefined;
  /** Bytes of `firstChunk` already sent. */
  sentOfFirst = 0;
  queuedBytes = 0;
  queuedMessages = 0;
  trailerBlock: HeaderBlock | undefined = undefined;
  /** After the queue comes END_STREAM, with the trailer block if there is one. */
  ending = false;

  /** In the sender's ring. */
  ready = false;
  nextReady: Stream | undefined = undefined;
  /** Since when data waits for a window without real progress; -1: it does not. */
  stalledSinceMs = -1;

  constructor(connection: Connection, id: number, head: RequestHead) {
    this.connection = connection;
    this.id = id;
    this.openedMs = connection.nowMs;
    this.receiveWindow = connection.limits.streamWindowBytes;
    this.sendWindow = connection.sender.initialStreamWindow;
    this.expectedBytes = head.contentLength;
  }

  /** The stream is on its connection: called once, first. */
  abstract onOpened(): void;
  /** Request bytes. They are valid only during the call. `endStream`: nothing follows. */
  abstract onData(bytes: Buffer, start: number, end: number, endStream: boolean): void;
  /** END_STREAM without bytes: on HEADERS, on trailers. */
  abstract onRemoteEnd(): void;
  /** The stream is gone before it ended: the client reset it, or the connection was lost. */
  abstract onAborted(connectionLost: boolean): void;
  /** Everything has been laid out, END_STREAM included. */
  abstract onSent(): void;
  /** Bytes have left the queue. */
  abstract onDequeued(): void;
  /** The client's window stayed shut for too long. */
  abstract onStalled(): void;
  /** The request did not come to its end in time. */
  abstract onRequestTimeout(): void;
  /** Others need the memory: gives back what is held of an unfinished request, and ends. Holding nothing, does nothing. */
  abstract yieldMemory(): void;
  /** Since when the client owes the rest of a request message; -1: it owes nothing. */
  abstract get awaitedSinceMs(): number;

  get hasOutput(): boolean {
    return this.headBlock !== undefined || this.queuedBytes > 0 || this.ending;
  }

  push(chunk: Chunk): void {
    if (this.lastChunk === undefined) this.firstChunk = chunk;
    else this.lastChunk.next = chunk;
    this.lastChunk = chunk;
    this.queuedBytes += chunk.length;
    this.queuedMessages++;
  }

  dropOutput(): void {
    this.headBlock = undefined;
    this.firstChunk = undefined;
    this.lastChunk = undefined;
    this.sentOfFirst = 0;
    this.queuedBytes = 0;
    this.queuedMessages = 0;
    this.trailerBlock = undefined;
    this.ending = false;
  }
}
