/** Calls that no handler sees: answered with a fixed block. */
import type { Rejection } from './call-plan.ts';
import type { Connection } from './connection.ts';
import { type GrpcError, H2Error } from './errors.ts';
import { statusFields } from './grpc-wire.ts';
import { encodeStateless, type HeaderPair } from './hpack-encoder.ts';
import type { RequestHead } from './request-head.ts';
import { Stream } from './stream.ts';

export function rejectionBlock(rejection: Rejection, contentType: string): Buffer {
  return encodeStateless([
    [':status', String(rejection.httpStatus)],
    ['content-type', contentType],
    ...statusFields(rejection.status, rejection.message, []),
    ...rejection.extraFields,
  ]);
}

/** The blocks of errors that refuse call after call, made once for each error. */
export class RefusalBlocks {
  private readonly blocks = new WeakMap<GrpcError, Map<string, Buffer>>();

  of(error: GrpcError, contentType: string): Buffer {
    let byType = this.blocks.get(error);
    if (byType === undefined) {
      byType = new Map();
      this.blocks.set(error, byType);
    }
    let block = byType.get(contentType);
    if (block === undefined) {
      const head: HeaderPair[] = [
        [':status', '200'],
        ['content-type', contentType],
      ];
      block = encodeStateless([...head, ...statusFields(error.status, error.message, error.details)]);
      byType.set(contentType, block);
    }
    return block;
  }
}

/** An answer in one HEADERS frame (Trailers-Only), whatever else the client sends. */
export class RejectedCall extends Stream {
  constructor(connection: Connection, id: number, head: RequestHead, block: Buffer) {
    super(connection, id, head);
    this.expectedBytes = -1;
    this.headBlock = block;
    this.ending = true;
  }

  onOpened(): void {
    this.connection.sender.wake(this);
  }

  onData(): void {}
  onRemoteEnd(): void {}
  onAborted(): void {}
  onSent(): void {}
  onDequeued(): void {}
  onRequestTimeout(): void {}
  yieldMemory(): void {}

  get awaitedSinceMs(): number {
    return -1;
  }

  onStalled(): void {
    this.connection.resetStream(this, H2Error.CANCEL);
  }
}
