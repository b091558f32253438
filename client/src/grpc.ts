/** @pilotlight/client/grpc: sessions over gRPC, for Node. Needs @connectrpc/connect, @connectrpc/connect-node and @pilotlight/proto. */
import { fromJson, type JsonValue, toJson } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { ErrorInfoSchema } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import {
  ClientFrameSchema,
  PresenceService,
  ServerFrameSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { Connect, Link } from './link.ts';
import { warnOfPlainToken } from './plain-token.ts';

/**
 * Connects by gRPC.
 *
 * @param url of the server's gRPC port, `http://presence:50051`
 */
export function grpcLink(url: string): Connect {
  return (events): Link => {
    // A connection of its own: one that hangs must not be the next one's.
    const client = createClient(
      PresenceService,
      createGrpcTransport({ baseUrl: url, pingIntervalMs: 30_000 }),
    );
    const aborter = new AbortController();
    const frames = new FrameQueue();
    let isOver = false;
    const over = (closeCode: number, reason: string) => {
      if (isOver) return;
      isOver = true;
      frames.end();
      aborter.abort();
      events.onClose(closeCode, reason);
    };
    const run = async () => {
      events.onOpen();
      for await (const frame of client.connect(frames, { signal: aborter.signal })) {
        events.onFrame(toJson(ServerFrameSchema, frame));
      }
    };
    setTimeout(() => {
      run().then(
        () => over(1000, 'goodbye'),
        (error: unknown) => over(...endOf(error)),
      );
    }, 0);
    return {
      send: (frame) => {
        if ('hello' in frame && frame.hello.token) warnOfPlainToken(url);
        frames.push(fromJson(ClientFrameSchema, frame as JsonValue));
      },
      close: () => {
        frames.end();
        // What was said is sent before the stream is cut.
        setTimeout(() => over(1006, 'closed here'), 100);
      },
    };
  };
}

function endOf(error: unknown): [closeCode: number, reason: string] {
  const known = ConnectError.from(error);
  const closeCode = known.findDetails(ErrorInfoSchema)[0]?.metadata.close_code;
  if (closeCode !== undefined) return [Number(closeCode), known.rawMessage];
  // Without a session to end, these say that coming back is in vain.
  const isFinal = [Code.Unimplemented, Code.Unauthenticated, Code.PermissionDenied].includes(known.code);
  return [isFinal ? 4501 : 1006, known.rawMessage];
}

type Frame = ReturnType<typeof fromJson<typeof ClientFrameSchema>>;

/** What is to be sent, as the transport wants it. It holds what one connection's client says before the server reads. */
class FrameQueue implements AsyncIterable<Frame> {
  readonly #frames: Frame[] = [];
  #isEnded = false;
  #wake: () => void = () => {};

  push(frame: Frame): void {
    if (this.#isEnded) return;
    this.#frames.push(frame);
    this.#wake();
  }

  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Frame> {
    for (;;) {
      const frame = this.#frames.shift();
      if (frame) {
        yield frame;
      } else if (this.#isEnded) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
