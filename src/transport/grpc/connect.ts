import { EncodedMessage, type GrpcServer, type ServerDuplex, Status } from '@pilotlight/grpc-server';
import {
  type ClientFrame,
  PresenceService as PresenceContract,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import { type SessionEnd, sessionEnds } from '../../presence/session-ends.ts';
import type { SessionLink, SessionMessage } from '../../presence/session-messages.ts';
import type { Sessions } from '../../presence/sessions.ts';
import type { Gate } from '../../security/gate.ts';
import { type ListBounds, maxHelloBytes, maxItems, maxRequestBytes } from '../message-shape.ts';
import { type BadFrame, receiveFrame } from '../session/bad-frame.ts';
import { ProtoFormat } from '../session/formats.ts';
import type { WelcomeFacts } from '../session/frames.ts';
import { callerOf } from './caller.ts';
import { toEndError, toGrpcError } from './errors.ts';

interface SizedFrame {
  readonly frame: ClientFrame | BadFrame;
  readonly bytes: number;
}
type Stream = ServerDuplex<SizedFrame, never>;

/** Registers `Connect`: a session is a stream. */
export function registerConnect(
  server: GrpcServer,
  sessions: Sessions,
  gate: Gate,
  facts: WelcomeFacts & ListBounds,
): void {
  const format = new ProtoFormat(facts, maxItems(facts));
  const frames = new FramesOnce(format);
  const { parent, name } = PresenceContract.method.connect;
  server.bidi(
    {
      path: `/${parent.typeName}/${name}`,
      kind: 'bidi',
      // The token may come with the hello: until then nothing but a hello is taken.
      maxFirstRequestBytes: maxHelloBytes,
      maxRequestBytes: Math.max(facts.maxFrameBytes, maxRequestBytes(facts.maxWatchedUsers)),
      // What cannot be decoded ends the session by its own rules, not the stream by the server's.
      decode: (bytes): SizedFrame => ({ frame: format.decode(bytes), bytes: bytes.length }),
      encode: () => {
        throw new Error('frames are encoded by their format');
      },
    },
    (stream: Stream) => {
      const refusal = sessions.refusal();
      if (refusal !== null) throw toGrpcError(refusal, Status.UNAVAILABLE);
      const link = new GrpcLink(stream, frames);
      const caller = callerOf(stream);
      const origin = { address: gate.networkOf(caller), connection: stream.peer };
      const session = sessions.open(link, gate.session(caller), origin);
      stream.onMessage(({ frame, bytes }) => {
        if (session.takeBytes(bytes)) receiveFrame(session, frame);
        else session.hold(bytes, () => receiveFrame(session, frame));
      });
      // A client that has no more to say has said goodbye.
      stream.onHalfClose(() => session.receive({ requestId: 0, kind: 'goodbye' }));
      stream.onDrain(() => session.drained());
      stream.onClose(() => session.closed());
      // Some clients say their hello only then.
      stream.sendHeaders();
    },
  );
}

/** A session's way over a stream. HTTP/2 PINGs are the connection's own. */
class GrpcLink implements SessionLink {
  readonly canPing = false;
  readonly #stream: Stream;
  readonly #frames: FramesOnce;

  constructor(stream: Stream, frames: FramesOnce) {
    this.#stream = stream;
    this.#frames = frames;
  }

  send(message: SessionMessage): boolean {
    return this.#stream.sendEncoded(this.#frames.encode(message));
  }

  close(end: SessionEnd, retryAfterMs?: number): void {
    const { closeCode, grpcStatus, reason } = sessionEnds[end];
    if (end === 'GOODBYE') this.#stream.end();
    else this.#stream.fail(toEndError(Status[grpcStatus], reason, { name: end, closeCode }, retryAfterMs));
  }

  ping(): void {}

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }
}

/** The prefix of gRPC is put before a frame once, too. */
class FramesOnce {
  readonly #format: ProtoFormat;
  #ping: EncodedMessage | undefined;
  #frame: Buffer | undefined;
  #encoded: EncodedMessage | undefined;

  constructor(format: ProtoFormat) {
    this.#format = format;
  }

  encode(message: SessionMessage): EncodedMessage {
    if (message.kind === 'ping') {
      this.#ping ??= new EncodedMessage(this.#format.encode(message));
      return this.#ping;
    }
    const frame = this.#format.encode(message);
    if (frame !== this.#frame || this.#encoded === undefined) {
      this.#frame = frame;
      this.#encoded = new EncodedMessage(frame);
    }
    return this.#encoded;
  }
}
