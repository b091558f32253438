/** Requests that are not gRPC, answered by the server's fallback. */
import type { Connection } from './connection.ts';
import { H2Error } from './errors.ts';
import type { HeaderField } from './header-field.ts';
import { encodeStateless, type HeaderPair } from './hpack-encoder.ts';
import type { RequestHead } from './request-head.ts';
import { Chunk, Stream } from './stream.ts';

export interface PlainRequest {
  readonly method: string;
  readonly path: string;
  readonly authority: string | undefined;
  /** Names in lower case; values of repeated names joined with ', '. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export interface PlainResponse {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

export type Fallback = (request: PlainRequest) => PlainResponse | Promise<PlainResponse>;

/** A plain HTTP/2 request: the body is collected, the fallback asked, its answer sent. */
export class PlainExchange extends Stream {
  private readonly fallback: Fallback;
  private readonly head: RequestHead;
  /** What came so far, in a buffer that grows: the client chooses how small the pieces are. */
  private body: Buffer = NOTHING;
  private bodyBytes = 0;

  constructor(connection: Connection, id: number, head: RequestHead, fallback: Fallback) {
    super(connection, id, head);
    this.head = head;
    this.fallback = fallback;
  }

  onOpened(): void {}

  onData(bytes: Buffer, start: number, end: number, endStream: boolean): void {
    const length = end - start;
    if (this.ending) return;
    const tooLarge = this.bodyBytes + length > this.connection.limits.maxReceiveMessageBytes;
    if (tooLarge || !this.makeRoom(length)) {
      this.answer({ status: 413 });
      return;
    }
    bytes.copy(this.body, this.bodyBytes, start, end);
    this.bodyBytes += length;
    if (endStream) this.ask();
    else this.connection.receiver.creditStream(this, 0);
  }

  onRemoteEnd(): void {
    if (!this.ending) this.ask();
  }

  onAborted(): void {
    this.releaseBody();
  }

  onSent(): void {}
  onDequeued(): void {}

  onStalled(): void {
    this.connection.resetStream(this, H2Error.CANCEL);
  }

  onRequestTimeout(): void {
    this.answer({ status: 408 });
  }

  yieldMemory(): void {
    if (this.body.length > 0) this.answer({ status: 503 });
  }

  get awaitedSinceMs(): number {
    return this.remoteEnded || this.ending ? -1 : this.openedMs;
  }

  private ask(): void {
    const request: PlainRequest = {
      method: this.head.method,
      path: this.head.path,
      authority: this.head.authority,
      headers: plainHeaders(this.head.fields),
      body: this.body.subarray(0, this.bodyBytes),
    };
    this.releaseBody();
    this.busy = true;
    Promise.resolve()
      .then(() => this.fallback(request))
      .then((response) => this.answer(response))
      .catch((error: unknown) => {
        this.connection.server.onError(error, `fallback for ${this.head.path}`);
        this.answer({ status: 500 });
      })
      .finally(() => this.connection.onHandlerDone(this));
  }

  private answer(response: PlainResponse): void {
    if (this.closed || this.ending) return;
    this.releaseBody();
    const body = toBuffer(response.body);
    const fields: HeaderPair[] = [[':status', String(response.status)]];
    for (const [name, value] of Object.entries(response.headers ?? {}))
      fields.push([name.toLowerCase(), value]);
    if (body.length > 0) fields.push(['content-length', String(body.length)]);
    this.headBlock = encodeStateless(fields);
    if (body.length > 0 && this.head.method !== 'HEAD') this.push(new Chunk(-1, body));
    this.ending = true;
    this.connection.sender.wake(this);
  }

  /** False: no more may be held. */
  private makeRoom(bytes: number): boolean {
    const needed = this.bodyBytes + bytes;
    if (needed <= this.body.length) return true;
    const capacity = Math.max(needed, 2 * this.body.length);
    if (!this.connection.holdBytes(capacity - this.body.length)) return false;
    const grown = Buffer.allocUnsafeSlow(capacity);
    this.body.copy(grown, 0, 0, this.bodyBytes);
    this.body = grown;
    return true;
  }

  private releaseBody(): void {
    this.connection.holdBytes(-this.body.length);
    this.body = NOTHING;
    this.bodyBytes = 0;
  }
}

const NOTHING = Buffer.alloc(0);

function plainHeaders(fields: readonly HeaderField[]): Record<string, string> {
  const headers: Record<string, string> = Object.create(null);
  for (const { name, value } of fields) {
    if (name.startsWith(':')) continue;
    const earlier = headers[name];
    headers[name] = earlier === undefined ? value : `${earlier}, ${value}`;
  }
  return headers;
}

function toBuffer(body: string | Uint8Array | undefined): Buffer {
  if (body === undefined) return Buffer.alloc(0);
  if (typeof body === 'string') return Buffer.from(body);
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}
