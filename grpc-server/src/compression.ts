import { gzipSync } from 'node:zlib';

export interface CompressionOptions {
  /** Smaller messages are sent as they are. Default 1024. */
  readonly minBytes: number;
}

export const DEFAULT_COMPRESSION: CompressionOptions = Object.freeze({ minBytes: 1_024 });

/** One message, one gzip member: contexts are never kept over messages. */
export function compressMessage(message: Buffer): Buffer {
  return gzipSync(message);
}
