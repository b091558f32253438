import assert from 'node:assert/strict';
import { connect as connectTcp, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import {
  Code,
  codeName,
  Flag,
  frame,
  PREFACE,
  ping,
  Setting,
  settings,
  settingsAck,
  Type,
  typeName,
} from './frames.ts';
import { Decoder, type Field } from './hpack.ts';

/** Every wait in these tests ends after this at the latest. Loose: a hang bound, not a measurement. */
export const WAIT_MS = 60_000;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
  /** On the frame that ends a header block: its decoded fields and its bytes. */
  readonly fields?: readonly Field[];
  readonly block?: Buffer;
  /** END_STREAM on DATA, and on the HEADERS that began this block. */
  readonly endStream: boolean;
}

export interface ConnectOptions {
  readonly host?: string;
  readonly tls?: ConnectionOptions;
  /** Entries of the client's first SETTINGS. */
  readonly settings?: readonly (readonly [number, number])[];
  /** false: nothing is sent and no SETTINGS is acknowledged. Default: preface, SETTINGS, both ACKs. */
  readonly handshake?: boolean;
  /** false: the server's SETTINGS are not acknowledged. */
  readonly ackSettings?: boolean;
  /** true: credit for DATA is returned at once, on the stream and the connection. */
  readonly returnCredit?: boolean;
}

interface Waiter {
  readonly matches: (frame: Frame) => boolean;
  readonly resolve: (frame: Frame) => void;
  readonly reject: (error: Error) => void;
  readonly what: string;
}

/**
 * An HTTP/2 client that sends exactly the bytes it is told to and keeps every frame that comes back. It also
 * watches the server's manners on every connection: legal frame order, frame sizes, flow control, header blocks,
 * silence after END_STREAM and RST_STREAM. What it finds is in `violations`, which `close()` asserts to be empty.
 */
export class RawClient {
  readonly frames: Frame[] = [];
  readonly violations: string[] = [];
  readonly serverSettings = new Map<number, number>();
  /** The server sent FIN. */
  ended = false;
  closed = false;
  socketError: Error | undefined;
  bytesReceived = 0;
  /** What the server has granted less what was sent; the stream's own part is in `grantedOn`. */
  connectionCredit = 65_535;
  readonly grantedOn = new Map<number, number>();
  readonly socket: Socket;
  readonly #options: ConnectOptions;
  #unread: Frame[] = [];
  #waiters: Waiter[] = [];
  #input: Buffer = Buffer.alloc(0);
  #decoder = new Decoder();
  #openBlock: { streamId: number; parts: Buffer[]; endStream: boolean } | undefined;
  #credit: FlowLedger = new FlowLedger();
  #highestOpened = 0;
  #pings = 0;
  #pendingSettings: (readonly (readonly [number, number])[])[] = [];
  #maxFrameBytes = 16_384;
  #first = true;

  private constructor(socket: Socket, options: ConnectOptions) {
    this.socket = socket;
    this.#options = options;
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('end', () => {
      this.ended = true;
      this.#failWaiters('the server ended the connection');
    });
    socket.on('error', (error: Error) => {
      this.socketError = error;
    });
    socket.on('close', () => {
      this.closed = true;
      this.#failWaiters('the connection is closed');
    });
  }

  static async connect(port: number, options: ConnectOptions = {}): Promise<RawClient> {
    const host = options.host ?? '127.0.0.1';
    const socket = options.tls
      ? connectTls({ host, port, ALPNProtocols: ['h2'], rejectUnauthorized: false, ...options.tls })
      : connectTcp({ host, port });
    await deadline(once(socket, options.tls ? 'secureConnect' : 'connect'), 'the connection');
    const client = new RawClient(socket, options);
    if (options.handshake !== false) {
      client.send(PREFACE);
      client.sendSettings(options.settings ?? []);
      await client.expectSettings();
      await client.expectSettingsAck();
    }
    return client;
  }

  send(...chunks: readonly Uint8Array[]): void {
    const bytes = chunks.length === 1 ? (chunks[0] as Uint8Array) : Buffer.concat(chunks);
    this.note(bytes);
    this.sendRaw(bytes);
  }

  /** Bytes that are no whole frames. What they add up to is told to `note()`, so that the books are right. */
  sendRaw(bytes: Uint8Array): void {
    if (!this.socket.destroyed) this.socket.write(bytes);
  }

  sendSettings(entries: readonly (readonly [number, number])[]): void {
    this.send(settings(entries));
  }

  /** Resolves when the kernel has taken what was sent, or when the connection has died. */
  async flushed(): Promise<void> {
    if (this.socket.destroyed) return;
    await new Promise<void>((resolve) => this.socket.write(Buffer.alloc(0), () => resolve()));
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  /** The first frame not yet taken that matches; frames before it stay for other waits. */
  async next(matches: (frame: Frame) => boolean, what: string, timeoutMs = WAIT_MS): Promise<Frame> {
    const at = this.#unread.findIndex(matches);
    if (at >= 0) return this.#unread.splice(at, 1)[0] as Frame;
    if (this.ended || this.closed)
      throw new Error(`waiting for ${what}, but the connection is closed; ${this.#log()}`);
    let waiter: Waiter | undefined;
    const found = new Promise<Frame>((resolve, reject) => {
      waiter = { matches, resolve, reject, what };
      this.#waiters.push(waiter);
    });
    try {
      return await deadline(found, what, timeoutMs);
    } catch (error) {
      throw new Error(`${(error as Error).message}; ${this.#log()}`);
    } finally {
      this.#waiters = this.#waiters.filter((other) => other !== waiter);
    }
  }

  async expectSettings(): Promise<Frame> {
    return this.next((f) => f.type === Type.SETTINGS && (f.flags & Flag.ACK) === 0, 'SETTINGS');
  }

  async expectSettingsAck(): Promise<Frame> {
    return this.next((f) => f.type === Type.SETTINGS && (f.flags & Flag.ACK) !== 0, 'SETTINGS ACK');
  }

  async expectHeaders(streamId: number): Promise<Frame & { fields: readonly Field[] }> {
    const found = await this.next(
      (f) => f.streamId === streamId && f.fields !== undefined,
      `HEADERS on ${streamId}`,
    );
    return found as Frame & { fields: readonly Field[] };
  }

  async expectData(streamId: number): Promise<Frame> {
    return this.next((f) => f.type === Type.DATA && f.streamId === streamId, `DATA on ${streamId}`);
  }

  async expectEndStream(streamId: number): Promise<Frame> {
    return this.next((f) => f.streamId === streamId && f.endStream, `END_STREAM on ${streamId}`);
  }

  async expectPingAck(payload: string | Uint8Array): Promise<void> {
    const bytes = Buffer.from(payload);
    await this.next(
      (f) => f.type === Type.PING && (f.flags & Flag.ACK) !== 0 && f.payload.equals(bytes),
      `PING ACK ${bytes.toString('hex')}`,
    );
  }

  /** PING and its answer: everything sent before has been processed and the connection lives. */
  async expectAlive(): Promise<void> {
    const payload = Buffer.alloc(8, 0xa5);
    payload.writeUInt32BE(++this.#pings, 4);
    this.send(ping(payload));
    await this.expectPingAck(payload);
    assert.equal(this.goaway(), undefined, 'the connection has had a GOAWAY');
  }

  async expectRst(streamId: number, code: number): Promise<void> {
    const rst = await this.next(
      (f) => f.type === Type.RST_STREAM && f.streamId === streamId,
      `RST_STREAM(${streamId}, ${codeName(code)})`,
    );
    assert.equal(codeName(rst.payload.readUInt32BE()), codeName(code));
  }

  /** A connection error (RFC 9113 section 5.4.1): GOAWAY with this code and a true last stream id, then a clean close. */
  async expectGoaway(code: number): Promise<Frame> {
    const found = await this.next((f) => f.type === Type.GOAWAY, `GOAWAY(${codeName(code)})`);
    assert.equal(codeName(found.payload.readUInt32BE(4)), codeName(code));
    const last = found.payload.readUInt32BE(0);
    if (code !== Code.NO_ERROR) {
      assert.ok(
        last <= this.#highestOpened,
        `last stream id ${last} is above the highest opened, ${this.#highestOpened}`,
      );
      await this.expectClosedWithin(WAIT_MS);
      assert.equal(
        this.socketError,
        undefined,
        'closed with a TCP reset: the client might never see the GOAWAY',
      );
    }
    return found;
  }

  /**
   * GOAWAY with this code in the middle of a flood. Where part of the flood is still on its way when the server closes,
   * TCP resets, and the GOAWAY may be lost with it.
   */
  async expectCut(code: number): Promise<void> {
    try {
      await this.expectGoaway(code);
    } catch (error) {
      const seen = this.goaway()?.code;
      if (seen !== code && !(seen === undefined && this.closed && this.socketError !== undefined))
        throw error;
    }
  }

  /** RST_STREAM with this code and a connection that lives on, or the same code as a connection error. */
  async expectStreamError(streamId: number, code: number): Promise<void> {
    const found = await this.next(
      (f) => f.type === Type.GOAWAY || (f.type === Type.RST_STREAM && f.streamId === streamId),
      `RST_STREAM(${streamId}) or GOAWAY with ${codeName(code)}`,
    );
    if (found.type === Type.RST_STREAM) {
      assert.equal(codeName(found.payload.readUInt32BE()), codeName(code));
      await this.expectAlive();
      return;
    }
    assert.equal(codeName(found.payload.readUInt32BE(4)), codeName(code));
    await this.expectClosedWithin(WAIT_MS);
  }

  async expectClosedWithin(timeoutMs: number): Promise<void> {
    if (this.ended || this.closed) return;
    const socket = this.socket;
    socket.resume();
    await deadline(
      new Promise<void>((resolve) => {
        socket.once('end', resolve);
        socket.once('close', () => resolve());
      }),
      `the server to close; ${this.#log()}`,
      timeoutMs,
    );
  }

  /** The first GOAWAY so far that tells of an error. */
  goaway(): { code: number; lastStreamId: number; debug: string } | undefined {
    const found = this.frames.find(
      (f) => f.type === Type.GOAWAY && f.payload.readUInt32BE(4) !== Code.NO_ERROR,
    );
    if (found === undefined) return undefined;
    return {
      code: found.payload.readUInt32BE(4),
      lastStreamId: found.payload.readUInt32BE(0),
      debug: found.payload.subarray(8).toString(),
    };
  }

  /** All frames so far on one stream. */
  on(streamId: number): Frame[] {
    return this.frames.filter((f) => f.streamId === streamId);
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Ends the connection and asserts that the server kept the rules on it. */
  async close(): Promise<void> {
    if (!this.closed) {
      const gone = once(this.socket, 'close');
      this.socket.destroy();
      await deadline(gone, 'the socket to close');
    }
    assert.deepEqual(this.violations, []);
  }

  #log(): string {
    const shown = this.frames.slice(-12).map((f) => {
      const code =
        f.type === Type.GOAWAY
          ? ` ${codeName(f.payload.readUInt32BE(4))} "${f.payload.subarray(8)}"`
          : f.type === Type.RST_STREAM
            ? ` ${codeName(f.payload.readUInt32BE())}`
            : '';
      return `${typeName(f.type)}(${f.streamId}, flags ${f.flags}, ${f.payload.length} bytes${code})`;
    });
    return `received ${this.frames.length} frames, the last: ${shown.join(' ') || 'none'}`;
  }

  #failWaiters(why: string): void {
    for (const waiter of this.#waiters) waiter.reject(new Error(`waiting for ${waiter.what}, but ${why}`));
  }

  #receive(chunk: Buffer): void {
    this.bytesReceived += chunk.length;
    this.#input = this.#input.length === 0 ? chunk : Buffer.concat([this.#input, chunk]);
    let at = 0;
    while (this.#input.length - at >= 9) {
      const length = this.#input.readUIntBE(at, 3);
      if (length > this.#maxFrameBytes) this.violations.push(`a frame of ${length} bytes`);
      if (this.#input.length - at < 9 + length) break;
      this.#frame(
        this.#input[at + 3] as number,
        this.#input[at + 4] as number,
        this.#input.readUInt32BE(at + 5) & 0x7fffffff,
        this.#input.subarray(at + 9, at + 9 + length),
      );
      at += 9 + length;
    }
    this.#input = this.#input.subarray(at);
  }

  #frame(type: number, flags: number, streamId: number, payload: Buffer): void {
    let received: Frame = { type, flags, streamId, payload, endStream: false };
    if (this.#openBlock && (type !== Type.CONTINUATION || streamId !== this.#openBlock.streamId)) {
      this.violations.push(`${typeName(type)}(${streamId}) inside a header block`);
    }
    if (this.#first && (type !== Type.SETTINGS || flags !== 0)) {
      this.violations.push(`the first frame is ${typeName(type)} with flags ${flags}`);
    }
    this.#first = false;
    if (streamId !== 0 && type !== Type.WINDOW_UPDATE)
      this.#credit.checkOpen(type, streamId, this.violations);
    if (type === Type.HEADERS || type === Type.CONTINUATION) received = this.#headerFrame(received);
    else if (type === Type.DATA) received = this.#dataFrame(received);
    else if (type === Type.RST_STREAM) this.#credit.reset(streamId);
    else if (type === Type.WINDOW_UPDATE) this.#granted(streamId, payload.readUInt32BE() & 0x7fffffff);
    else if (type === Type.SETTINGS) this.#settingsFrame(flags, payload);
    else if (type === Type.PUSH_PROMISE || type === Type.PRIORITY)
      this.violations.push(`a server sent ${typeName(type)}`);
    this.frames.push(received);
    const waiter = this.#waiters.find((candidate) => candidate.matches(received));
    if (waiter === undefined) {
      this.#unread.push(received);
      return;
    }
    this.#waiters = this.#waiters.filter((other) => other !== waiter);
    waiter.resolve(received);
  }

  #headerFrame(received: Frame): Frame {
    const { type, flags, streamId, payload } = received;
    if (type === Type.HEADERS) {
      this.#openBlock = { streamId, parts: [], endStream: (flags & Flag.END_STREAM) !== 0 };
    }
    const open = this.#openBlock;
    if (open === undefined) {
      this.violations.push('CONTINUATION outside a header block');
      return received;
    }
    open.parts.push(payload);
    if ((flags & Flag.END_HEADERS) === 0) return received;
    this.#openBlock = undefined;
    const block = Buffer.concat(open.parts);
    if (open.endStream) this.#credit.end(streamId);
    try {
      return { ...received, fields: this.#decoder.decode(block), block, endStream: open.endStream };
    } catch (error) {
      this.violations.push(`a header block on ${streamId} does not decode: ${(error as Error).message}`);
      return received;
    }
  }

  #dataFrame(received: Frame): Frame {
    const { streamId, payload } = received;
    const endStream = (received.flags & Flag.END_STREAM) !== 0;
    this.#credit.spend(streamId, payload.length, this.violations);
    if (endStream) this.#credit.end(streamId);
    if (this.#options.returnCredit && payload.length > 0) {
      const increment = Buffer.alloc(4);
      increment.writeUInt32BE(payload.length);
      this.send(frame(Type.WINDOW_UPDATE, 0, 0, increment));
      if (!endStream) this.send(frame(Type.WINDOW_UPDATE, 0, streamId, increment));
    }
    return { ...received, endStream };
  }

  #granted(streamId: number, bytes: number): void {
    if (bytes === 0) this.violations.push(`WINDOW_UPDATE(${streamId}) of 0`);
    if (streamId === 0) this.connectionCredit += bytes;
    else this.grantedOn.set(streamId, (this.grantedOn.get(streamId) ?? 0) + bytes);
  }

  #settingsFrame(flags: number, payload: Buffer): void {
    if (flags & Flag.ACK) {
      const applied = this.#pendingSettings.shift();
      if (applied === undefined) this.violations.push('a SETTINGS ACK for nothing');
      for (const [id, value] of applied ?? []) {
        if (id === Setting.INITIAL_WINDOW_SIZE) this.#credit.setInitial(value);
        if (id === Setting.HEADER_TABLE_SIZE) this.#decoder.setLimit(value);
        if (id === Setting.MAX_FRAME_SIZE) this.#maxFrameBytes = value;
      }
      return;
    }
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      const id = payload.readUInt16BE(at);
      const value = payload.readUInt32BE(at + 2);
      if (id === Setting.ENABLE_PUSH && value !== 0) this.violations.push('ENABLE_PUSH from a server');
      this.serverSettings.set(id, value);
    }
    if (this.#options.ackSettings !== false && this.#options.handshake !== false)
      this.socket.write(settingsAck());
  }

  /** Keeps the books on what whole frames we send: settings awaiting their ACK, credit, streams opened. */
  note(bytes: Uint8Array): void {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const start = buffer.subarray(0, PREFACE.length).equals(PREFACE) ? PREFACE.length : 0;
    for (let at = start; at + 9 <= buffer.length; ) {
      const length = buffer.readUIntBE(at, 3);
      const type = buffer[at + 3];
      const streamId = buffer.readUInt32BE(at + 5) & 0x7fffffff;
      const payload = buffer.subarray(at + 9, at + 9 + length);
      if (payload.length < length) return;
      if (type === Type.DATA) this.connectionCredit -= length;
      if (type === Type.HEADERS) this.#highestOpened = Math.max(this.#highestOpened, streamId);
      if (type === Type.WINDOW_UPDATE && length === 4)
        this.#credit.grant(streamId, payload.readUInt32BE() & 0x7fffffff);
      if (type === Type.SETTINGS && (Number(buffer[at + 4]) & Flag.ACK) === 0 && length % 6 === 0) {
        const entries: [number, number][] = [];
        for (let i = 0; i + 6 <= length; i += 6)
          entries.push([payload.readUInt16BE(i), payload.readUInt32BE(i + 2)]);
        this.#pendingSettings.push(entries);
        for (const [id, value] of entries)
          if (id === Setting.INITIAL_WINDOW_SIZE) this.#credit.raiseInitial(value);
      }
      at += 9 + length;
    }
  }
}

/** What the server may still send. A lowered initial window counts from its ACK on, a raised one at once. */
class FlowLedger {
  #connection = 65_535;
  #initial = 65_535;
  #granted = new Map<number, number>();
  #spent = new Map<number, number>();
  #finished = new Map<number, 'ended' | 'reset'>();

  grant(streamId: number, bytes: number): void {
    if (streamId === 0) this.#connection += bytes;
    else this.#granted.set(streamId, (this.#granted.get(streamId) ?? 0) + bytes);
  }

  raiseInitial(bytes: number): void {
    this.#initial = Math.max(this.#initial, bytes);
  }

  setInitial(bytes: number): void {
    this.#initial = bytes;
  }

  spend(streamId: number, bytes: number, violations: string[]): void {
    if (bytes === 0) return;
    this.#connection -= bytes;
    const spent = (this.#spent.get(streamId) ?? 0) + bytes;
    this.#spent.set(streamId, spent);
    if (this.#connection < 0) violations.push(`DATA beyond the connection window by ${-this.#connection}`);
    const allowed = this.#initial + (this.#granted.get(streamId) ?? 0);
    if (spent > allowed)
      violations.push(`DATA beyond the window of stream ${streamId}: ${spent} of ${allowed}`);
  }

  end(streamId: number): void {
    this.#finished.set(streamId, 'ended');
  }

  reset(streamId: number): void {
    this.#finished.set(streamId, 'reset');
  }

  /** RST_STREAM may follow END_STREAM (early closure, section 8.1); nothing else may, and nothing follows a reset. */
  checkOpen(type: number, streamId: number, violations: string[]): void {
    const how = this.#finished.get(streamId);
    if (how === undefined || (how === 'ended' && (type === Type.RST_STREAM || type === Type.CONTINUATION)))
      return;
    violations.push(`${typeName(type)} on stream ${streamId}, which the server had ${how}`);
  }
}

/** Rejects after `timeoutMs`, naming what was awaited. */
export async function deadline<T>(promise: Promise<T>, what: string, timeoutMs = WAIT_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${timeoutMs} ms passed waiting for ${what}`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Polls until `holds` returns true. */
export async function eventually(holds: () => boolean, what: string, timeoutMs = WAIT_MS): Promise<void> {
  const until = performance.now() + timeoutMs;
  while (!holds()) {
    if (performance.now() > until) throw new Error(`${timeoutMs} ms passed waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function once(socket: Socket, event: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once(event, () => resolve());
    socket.once('error', event === 'close' ? () => {} : reject);
  });
}
