/** The header blocks of gRPC answers: those that never change, made once, and trailers from a status. */
import type { GrpcError, Status } from './errors.ts';
import { Flag, FrameType, writeFrameHeader } from './frames.ts';
import { statusFields } from './grpc-wire.ts';
import { encodeStateless, type HeaderPair } from './hpack-encoder.ts';
import { encodeMetadataEntry } from './metadata.ts';

export const OK_FIELDS: readonly HeaderPair[] = [['grpc-status', '0']];
export const OK_TRAILERS = encodeStateless(OK_FIELDS);
/** With the stream id left open, as in `ResponseHead`. */
export const OK_TRAILERS_FRAME = headersFrame(OK_TRAILERS, Flag.END_STREAM);

/** What opens an answer without metadata: as fields, as a block, and as a frame whose stream id is 0. */
export interface ResponseHead {
  readonly fields: readonly HeaderPair[];
  readonly block: Buffer;
  readonly frame: Buffer;
}

const HEADS = new Map<string, ResponseHead>(
  ['application/grpc', 'application/grpc+proto'].map((contentType) => {
    const fields: HeaderPair[] = [
      [':status', '200'],
      ['content-type', contentType],
    ];
    const block = encodeStateless(fields);
    return [contentType, { fields, block, frame: headersFrame(block, 0) }];
  }),
);

/** `contentType` as planned (`CallPlan`): one of the two that we answer with. */
export function responseHead(contentType: string): ResponseHead {
  return HEADS.get(contentType) as ResponseHead;
}

function headersFrame(block: Buffer, flags: number): Buffer {
  const frame = Buffer.allocUnsafeSlow(9 + block.length);
  block.copy(frame, writeFrameHeader(frame, 0, block.length, FrameType.HEADERS, flags | Flag.END_HEADERS, 0));
  return frame;
}

/** Status, details, the error's metadata, the handler's trailers. Metadata that cannot be sent goes to `report`. */
export function trailerFields(
  status: Status,
  message: string,
  error: GrpcError | undefined,
  trailers: readonly HeaderPair[],
  report: (error: unknown) => void,
): HeaderPair[] {
  const fields = statusFields(status, message, error?.details ?? []);
  for (const [name, value] of Object.entries(error?.metadata ?? {})) {
    try {
      fields.push(encodeMetadataEntry(name, value));
    } catch (invalid) {
      report(invalid);
    }
  }
  for (const entry of trailers) {
    // Ours is made from the same status; another one must not contradict it.
    if (entry[0] !== 'grpc-status-details-bin') fields.push(entry);
  }
  return fields;
}
