import { gzipSync } from 'node:zlib';
import type { MethodDefinition } from './api.ts';
import { writeUint32 } from './frames.ts';
import { PREFIX_BYTES } from './message-reader.ts';

/** A message with its prefix, encoded once and sent on any number of streams. Immutable. */
export class EncodedMessage {
  /** Prefix and message. */
  readonly frame: Buffer;
  private gzipped: Buffer | undefined = undefined;

  constructor(message: Uint8Array) {
    this.frame = frameMessage(0, message);
  }

  /** The frame with its message gzipped; made on first use. */
  get gzipFrame(): Buffer {
    this.gzipped ??= frameMessage(1, gzipSync(this.frame.subarray(PREFIX_BYTES)));
    return this.gzipped;
  }
}

/** Encodes a message for `sendEncoded`. */
export function encodeMessage<I, O>(definition: MethodDefinition<I, O>, message: O): EncodedMessage {
  return new EncodedMessage(definition.encode(message));
}

function frameMessage(flag: number, message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafeSlow(PREFIX_BYTES + message.length);
  frame[0] = flag;
  writeUint32(frame, 1, message.length);
  frame.set(message, PREFIX_BYTES);
  return frame;
}
