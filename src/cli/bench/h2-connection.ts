import { connect, type Socket } from 'node:net';
import {
  clientOpening,
  defaultMaxFrameBytes,
  defaultWindowBytes,
  flagAck,
  flagEndHeaders,
  flagEndStream,
  frameHeaderBytes,
  frameType,
  makeFrame,
  settingInitialWindowSize,
  settingMaxConcurrentStreams,
  settingsAck,
  windowRefill,
  windowRefillBytes,
  writeFrameHeader,
} from './h2-frames.ts';

/** Who is told of a call. Must not throw. */
export interface CallSink {
  /** The server has taken the call; not where it ends at once. */
  onHead?(): void;
  /** One message of the response: `bytes[start, end)`, valid only during the call. */
  onMessage(bytes: Buffer, start: number, end: number): void;
  /** Once. A call with a message before its end went well; one without is an error. */
  onEnd(): void;
}

export interface Target {
  readonly host: string;
  readonly port: number;
  /** Address of this machine to come from; undefined: the system's choice. */
  readonly localAddress: string | undefined;
}

interface Call {
  readonly sink: CallSink;
  /** What of a message has come, where it came in parts. */
  partial: Buffer | undefined;
  sendWindow: number;
}

interface Waiting {
  readonly head: Buffer;
  readonly message: Buffer;
  readonly end: boolean;
  readonly sink: CallSink;
  readonly onStream: ((stream: H2Stream) => void) | undefined;
}

interface Blocked {
  readonly streamId: number;
  readonly bytes: Buffer;
  readonly end: boolean;
}

/** A call that goes on: a subscription, a session. */
export interface H2Stream {
  /** Sends a message; false: the connection or the call is gone. */
  send(message: Uint8Array): boolean;
  cancel(): void;
}

const connectTimeoutMs = 10_000;
const prefixBytes = 5;
const outBytes = 32_768;
/** Calls that wait for a free stream; more are answered as failed. */
const maxWaiting = 100_000;

/**
 * One HTTP/2 connection of the load generator. It does per request only what differs between requests: a stream id and a
 * message; so that one core of it drives several cores of a server.
 */
export class H2Connection {
  readonly #socket: Socket;
  readonly #calls = new Map<number, Call>();
  readonly #waiting: Waiting[] = [];
  #waitingFrom = 0;
  /** Data that waits for the peer's window. */
  readonly #blocked: Blocked[] = [];
  #out = Buffer.allocUnsafeSlow(outBytes);
  #outAt = 0;
  #flushPlanned = false;
  #nextStreamId = 1;
  #maxStreams = 100;
  #window = defaultWindowBytes;
  #streamWindow = defaultWindowBytes;
  #receivedBytes = 0;
  #partial: Buffer | undefined;
  #isClosed = false;
  #onClose: (() => void) | undefined;
  readonly #opened = Promise.withResolvers<void>();

  constructor({ host, port, localAddress }: Target) {
    this.#socket = connect({
      host,
      port,
      noDelay: true,
      ...(localAddress === undefined ? {} : { localAddress }),
    });
    this.#socket.setTimeout(connectTimeoutMs, () =>
      this.#socket.destroy(new Error('no answer to a connection')),
    );
    let error: Error | undefined;
    // Waits in the socket until it is connected, before whatever is called meanwhile.
    this.#socket.write(clientOpening);
    this.#socket.on('data', (chunk: Buffer) => this.#read(chunk));
    this.#socket.on('error', (cause) => {
      error = cause;
    });
    this.#socket.on('close', () => {
      this.#isClosed = true;
      this.#opened.reject(error ?? new Error('the server closed the connection'));
      this.#onClose?.();
      for (const { sink } of this.#calls.values()) sink.onEnd();
      this.#calls.clear();
      for (const { sink } of this.#waiting.splice(this.#waitingFrom)) sink.onEnd();
    });
    this.#opened.promise.catch(() => {});
  }

  /** Resolves when the server has sent its settings. */
  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Called when the connection is gone, whoever ended it. */
  onClose(listener: () => void): void {
    this.#onClose = listener;
  }

  /** Calls under way. */
  get openCalls(): number {
    return this.#calls.size + this.#waiting.length - this.#waitingFrom;
  }

  /** A call with one message. `head` is a block of `requestHead`. */
  call(head: Buffer, message: Buffer, sink: CallSink): void {
    this.#begin({ head, message, end: true, sink, onStream: undefined });
  }

  /** A call that stays open for more messages. */
  open(head: Buffer, message: Buffer, sink: CallSink): Promise<H2Stream> {
    return new Promise((resolve) => {
      this.#begin({ head, message, end: false, sink, onStream: resolve });
    });
  }

  /** Drops the connection as a crashed client or a cut cable would. */
  destroy(): void {
    this.#isClosed = true;
    this.#socket.destroy();
  }

  #begin(waiting: Waiting): void {
    const isFull = this.#waiting.length - this.#waitingFrom >= maxWaiting;
    if (this.#isClosed || isFull) {
      waiting.sink.onEnd();
      return;
    }
    if (this.#calls.size >= this.#maxStreams) {
      this.#waiting.push(waiting);
      return;
    }
    this.#send(waiting);
  }

  #send({ head, message, end, sink, onStream }: Waiting): void {
    const streamId = this.#nextStreamId;
    this.#nextStreamId += 2;
    const call: Call = { sink, partial: undefined, sendWindow: this.#streamWindow };
    this.#calls.set(streamId, call);
    this.#reserve(frameHeaderBytes + head.length);
    writeFrameHeader(this.#out, this.#outAt, head.length, frameType.headers, flagEndHeaders, streamId);
    head.copy(this.#out, this.#outAt + frameHeaderBytes);
    this.#outAt += frameHeaderBytes + head.length;
    this.#sendMessage(streamId, call, message, end);
    onStream?.({
      send: (more) => this.#sendMore(streamId, more),
      cancel: () => this.#cancel(streamId),
    });
  }

  #sendMore(streamId: number, message: Uint8Array): boolean {
    const call = this.#calls.get(streamId);
    if (!call || this.#isClosed) return false;
    this.#sendMessage(streamId, call, message, false);
    return true;
  }

  #cancel(streamId: number): void {
    if (!this.#calls.delete(streamId) || this.#isClosed) return;
    const cancelled = 8;
    this.#write(makeFrame(frameType.rstStream, 0, streamId, Buffer.from([0, 0, 0, cancelled])));
  }

  #sendMessage(streamId: number, call: Call, message: Uint8Array, end: boolean): void {
    const length = prefixBytes + message.length;
    const isRoom = length <= this.#window && length <= call.sendWindow && this.#blocked.length === 0;
    if (isRoom && length <= defaultMaxFrameBytes) {
      this.#reserve(frameHeaderBytes + length);
      const flags = end ? flagEndStream : 0;
      writeFrameHeader(this.#out, this.#outAt, length, frameType.data, flags, streamId);
      const at = this.#outAt + frameHeaderBytes;
      this.#out[at] = 0;
      this.#out.writeUInt32BE(message.length, at + 1);
      this.#out.set(message, at + prefixBytes);
      this.#outAt = at + length;
      this.#window -= length;
      call.sendWindow -= length;
      return;
    }
    const bytes = Buffer.allocUnsafe(length);
    bytes[0] = 0;
    bytes.writeUInt32BE(message.length, 1);
    bytes.set(message, prefixBytes);
    for (let at = 0; at < length; at += defaultMaxFrameBytes) {
      const part = bytes.subarray(at, at + defaultMaxFrameBytes);
      this.#blocked.push({ streamId, bytes: part, end: end && at + part.length === length });
    }
    this.#unblock();
  }

  /** Sends what the windows allow, in order: streams of a load generator need no fairness among them. */
  #unblock(): void {
    while (this.#blocked.length > 0) {
      const { streamId, bytes, end } = this.#blocked[0] as Blocked;
      const call = this.#calls.get(streamId);
      if (call) {
        if (bytes.length > this.#window || bytes.length > call.sendWindow) return;
        this.#window -= bytes.length;
        call.sendWindow -= bytes.length;
        this.#write(makeFrame(frameType.data, end ? flagEndStream : 0, streamId, bytes));
      }
      this.#blocked.shift();
    }
  }

  #write(bytes: Buffer): void {
    this.#reserve(bytes.length);
    bytes.copy(this.#out, this.#outAt);
    this.#outAt += bytes.length;
  }

  #reserve(bytes: number): void {
    if (this.#outAt + bytes > this.#out.length) {
      this.#flush();
      if (bytes > this.#out.length) this.#out = Buffer.allocUnsafeSlow(bytes);
    }
    if (this.#flushPlanned) return;
    this.#flushPlanned = true;
    setImmediate(() => {
      this.#flushPlanned = false;
      this.#flush();
    });
  }

  /** What one turn of the event loop brings goes out in one write. */
  #flush(): void {
    if (this.#outAt === 0 || this.#isClosed) return;
    this.#socket.write(Buffer.from(this.#out.subarray(0, this.#outAt)));
    this.#outAt = 0;
    // Idle connections by the thousand keep no buffer.
    if (this.#calls.size < 4 && this.#out.length >= outBytes) this.#out = Buffer.allocUnsafe(256);
    else if (this.#out.length < outBytes && this.#calls.size >= 4)
      this.#out = Buffer.allocUnsafeSlow(outBytes);
  }

  #read(chunk: Buffer): void {
    const bytes = this.#partial === undefined ? chunk : Buffer.concat([this.#partial, chunk]);
    this.#partial = undefined;
    let at = 0;
    while (bytes.length - at >= frameHeaderBytes) {
      const start = at + frameHeaderBytes;
      const end = start + (((bytes[at] as number) << 16) | bytes.readUInt16BE(at + 1));
      if (end > bytes.length) break;
      this.#onFrame(bytes, at, start, end);
      at = end;
    }
    if (at < bytes.length) this.#partial = Buffer.from(bytes.subarray(at));
  }

  #onFrame(bytes: Buffer, at: number, start: number, end: number): void {
    const flags = bytes[at + 4] as number;
    const streamId = bytes.readUInt32BE(at + 5) & 0x7fff_ffff;
    switch (bytes[at + 3]) {
      case frameType.data:
        this.#receivedBytes += end - start;
        if (this.#receivedBytes >= windowRefillBytes) {
          this.#receivedBytes -= windowRefillBytes;
          this.#write(windowRefill);
        }
        this.#onData(streamId, bytes, start, end);
        if (flags & flagEndStream) this.#end(streamId);
        return;
      case frameType.headers:
        if (flags & flagEndStream) this.#end(streamId);
        else this.#calls.get(streamId)?.sink.onHead?.();
        return;
      case frameType.rstStream:
        this.#end(streamId);
        return;
      case frameType.settings:
        if (!(flags & flagAck)) this.#onSettings(bytes, start, end);
        return;
      case frameType.ping:
        if (!(flags & flagAck))
          this.#write(makeFrame(frameType.ping, flagAck, 0, bytes.subarray(start, end)));
        return;
      case frameType.windowUpdate: {
        const increment = bytes.readUInt32BE(start) & 0x7fff_ffff;
        const call = this.#calls.get(streamId);
        if (streamId === 0) this.#window += increment;
        else if (call) call.sendWindow += increment;
        this.#unblock();
        return;
      }
    }
  }

  #onSettings(bytes: Buffer, start: number, end: number): void {
    for (let at = start; at + 6 <= end; at += 6) {
      const id = bytes.readUInt16BE(at);
      const value = bytes.readUInt32BE(at + 2);
      if (id === settingMaxConcurrentStreams) this.#maxStreams = value;
      if (id === settingInitialWindowSize) {
        for (const call of this.#calls.values()) call.sendWindow += value - this.#streamWindow;
        this.#streamWindow = value;
      }
    }
    this.#write(settingsAck);
    this.#socket.setTimeout(0);
    this.#opened.resolve();
  }

  #onData(streamId: number, bytes: Buffer, start: number, end: number): void {
    const call = this.#calls.get(streamId);
    if (!call) return;
    let source = bytes;
    let at = start;
    let limit = end;
    if (call.partial !== undefined) {
      source = Buffer.concat([call.partial, bytes.subarray(start, end)]);
      at = 0;
      limit = source.length;
      call.partial = undefined;
    }
    while (limit - at >= prefixBytes) {
      const messageEnd = at + prefixBytes + source.readUInt32BE(at + 1);
      if (messageEnd > limit) break;
      call.sink.onMessage(source, at + prefixBytes, messageEnd);
      at = messageEnd;
    }
    if (at < limit) call.partial = Buffer.from(source.subarray(at, limit));
  }

  #end(streamId: number): void {
    const call = this.#calls.get(streamId);
    if (!call) return;
    this.#calls.delete(streamId);
    call.sink.onEnd();
    while (this.#waitingFrom < this.#waiting.length && this.#calls.size < this.#maxStreams) {
      this.#send(this.#waiting[this.#waitingFrom++] as Waiting);
    }
    if (this.#waitingFrom > 1024 || this.#waitingFrom === this.#waiting.length) {
      this.#waiting.splice(0, this.#waitingFrom);
      this.#waitingFrom = 0;
    }
  }
}
