import { Duplex } from 'node:stream';

/** Stands in for the server's end of a TCP connection: the real server reads and writes it, without the kernel. */
export class MemorySocket extends Duplex {
  readonly remoteAddress = '127.0.0.1';
  readonly remotePort = 1;
  readonly encrypted = false;
  /** What the server has written so far, at most the last 64 KiB. */
  written = '';

  /** What the client has said, likewise. */
  said = '';

  constructor() {
    super({ allowHalfOpen: true });
    this.on('error', () => {});
  }

  /** Bytes from the client. */
  say(bytes: Buffer | string): void {
    const chunk = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
    this.said = (this.said + chunk.toString('latin1')).slice(-4096);
    if (!this.destroyed) this.push(chunk);
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.written = (this.written + chunk.toString('latin1')).slice(-65_536);
    done();
  }

  setTimeout(): this {
    return this;
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  destroySoon(): void {
    this.end(() => this.destroy());
  }
}
