import type { Connection } from './connection.ts';

/**
 * Request bytes that come before it is known whose they are: kept as they are, and looked at by nobody. Their window is
 * not returned, so that they are `streamWindowBytes` at most.
 */
export class EarlyBytes {
  private readonly connection: Connection;
  private buffer: Buffer = NOTHING;
  private length = 0;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  get bytes(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  /** False: no more may be held. */
  add(bytes: Buffer, start: number, end: number): boolean {
    const needed = this.length + end - start;
    if (needed > this.buffer.length) {
      const capacity = Math.max(needed, 2 * this.length, 64);
      if (!this.connection.holdBytes(capacity - this.buffer.length)) return false;
      const grown = Buffer.allocUnsafeSlow(capacity);
      this.buffer.copy(grown, 0, 0, this.length);
      this.buffer = grown;
    }
    bytes.copy(this.buffer, this.length, start, end);
    this.length = needed;
    return true;
  }

  release(): void {
    this.connection.holdBytes(-this.buffer.length);
    this.buffer = NOTHING;
    this.length = 0;
  }
}

const NOTHING = Buffer.alloc(0);
