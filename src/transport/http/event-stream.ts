import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';

/** Unsent bytes from which a stream counts as full. */
const fullBytes = 64 * 1024;
/** A comment this often shows both ends, and whatever is between, that the stream lives. */
const heartbeatIntervalMs = 15_000;
/** A client that has taken nothing for so long is gone. */
const stalledMs = 60_000;
/** What EventSource waits before it comes back. */
const retryMs = 1000;

export interface EventStreamListener {
  /** The stream has room again after `write` returned false. */
  drained(): void;
  /** Called once, whatever ended the stream. */
  closed(): void;
}

/**
 * One response of server-sent events (WHATWG HTML, section 9.2). What is written before `open` waits for it, so that a
 * stream that cannot begin is answered with an error instead.
 */
export class EventStream {
  readonly #response: ServerResponse;
  readonly #listener: EventStreamListener;
  #pending = '';
  #isOpen = false;
  #isEnding = false;
  #isFull = false;
  #isClosed = false;
  #isFlushPlanned = false;
  #lastTakenMs = performance.now();

  constructor(response: ServerResponse, listener: EventStreamListener) {
    this.#response = response;
    this.#listener = listener;
    response.on('drain', () => this.#drain());
    response.once('close', () => this.#close());
    response.once('error', () => this.#close());
    // A client that left while its token was looked at: nobody will be told of that again.
    if (response.destroyed) setImmediate(() => this.#close());
  }

  get isFull(): boolean {
    return this.#isFull;
  }

  get queuedBytes(): number {
    return this.#pending.length + this.#response.writableLength;
  }

  /** Sends the head, and what was written so far. */
  open(reply: FastifyReply): void {
    reply.hijack();
    if (this.#isClosed) return;
    for (const [name, value] of Object.entries(reply.getHeaders())) {
      if (value !== undefined) this.#response.setHeader(name, value);
    }
    this.#response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    });
    this.#isOpen = true;
    this.#pending = `retry: ${retryMs}\n\n${this.#pending}`;
    const wasFull = this.#isFull;
    this.#flush();
    if (this.#isEnding) this.#response.end();
    else if (wasFull && !this.#isFull) this.#listener.drained();
  }

  /** Takes whole events. They are sent at the end of this turn. false: full, no more until `drained`. */
  write(text: string): boolean {
    if (this.#isEnding || this.#isClosed) return true;
    this.#pending += text;
    if (this.#pending.length >= fullBytes) {
      if (this.#isOpen) this.#flush();
      else this.#isFull = true;
    } else if (!this.#isFlushPlanned && this.#isOpen) {
      this.#isFlushPlanned = true;
      process.nextTick(() => this.#flush());
    }
    return !this.#isFull;
  }

  /** Shows life, and gives up on a client that shows none. */
  beat(nowMs: number): void {
    if (!this.#isOpen) return;
    if (!this.#isFull) this.write(':\n\n');
    else if (nowMs - this.#lastTakenMs > stalledMs) this.#response.destroy();
  }

  /** Ends the response after what was written; one that is not open yet, when it opens. Nothing is taken after it. */
  end(): void {
    if (this.#isEnding || this.#isClosed) return;
    this.#isEnding = true;
    if (!this.#isOpen) return;
    this.#flush();
    this.#response.end();
  }

  #flush(): void {
    this.#isFlushPlanned = false;
    if (this.#pending === '' || this.#isClosed) return;
    const text = this.#pending;
    this.#pending = '';
    this.#isFull = !this.#response.write(text);
    if (!this.#isFull) this.#lastTakenMs = performance.now();
  }

  #drain(): void {
    if (this.#isClosed) return;
    this.#lastTakenMs = performance.now();
    if (!this.#isFull) return;
    this.#isFull = false;
    this.#listener.drained();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#pending = '';
    this.#listener.closed();
  }
}

/** All open event streams of a server: their heartbeats, their number, their end. */
export class EventStreams {
  readonly #streams = new Set<EventStream>();
  #timer: NodeJS.Timeout | undefined;

  start(): void {
    this.#timer = setInterval(() => {
      const nowMs = performance.now();
      for (const stream of this.#streams) stream.beat(nowMs);
    }, heartbeatIntervalMs);
  }

  /** Ends all of them; clients come back by themselves, to another server or to the next one. */
  stop(): void {
    clearInterval(this.#timer);
    for (const stream of this.#streams) stream.end();
  }

  add(response: ServerResponse, listener: EventStreamListener): EventStream {
    const stream = new EventStream(response, {
      drained: () => listener.drained(),
      closed: () => {
        this.#streams.delete(stream);
        listener.closed();
      },
    });
    this.#streams.add(stream);
    return stream;
  }

  stats(): { streams: number; queuedBytes: number } {
    let queuedBytes = 0;
    for (const stream of this.#streams) queuedBytes += stream.queuedBytes;
    return { streams: this.#streams.size, queuedBytes };
  }
}
