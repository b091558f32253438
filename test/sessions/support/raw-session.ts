import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from 'node:http2';
import {
  create,
  fromBinary,
  fromJsonString,
  type MessageInitShape,
  toBinary,
  toJsonString,
} from '@bufbuild/protobuf';
import {
  type ClientFrame,
  ClientFrameSchema,
  type ServerFrame,
  ServerFrameSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import { WebSocket } from 'ws';
import { comesBack, type SessionEnd, sessionEnds } from '../../../src/presence/session-ends.ts';
import type { TestServer } from '../../support/pilotlight.ts';
import { Story } from '../../support/story.ts';
import { waitFor } from '../../support/wait.ts';

export type WireName = 'gRPC' | 'WebSocket JSON' | 'WebSocket protobuf';
export const wireNames: readonly WireName[] = ['gRPC', 'WebSocket JSON', 'WebSocket protobuf'];

type FrameInit = MessageInitShape<typeof ClientFrameSchema>['frame'];
type Answer = Exclude<ServerFrame['frame'], { case: 'events' | 'goingAway' | 'ping' | undefined }>;

/** Bytes both ways; each transport has one. */
export interface Wire {
  send(frame: ClientFrame): void;
  /** Without a goodbye: as when a process dies. */
  drop(): void;
}

interface WireEvents {
  onFrame(frame: ServerFrame): void;
  /** Close code of a WebSocket, or `close_code` of a stream's ErrorInfo (1000 for OK); 1006: cut. */
  onEnd(closeCode: number): void;
}

export function openWire(name: WireName, server: TestServer, events: WireEvents): Promise<Wire> {
  if (name === 'gRPC') return openGrpc(server, events);
  return openWebSocket(name === 'WebSocket JSON' ? 'presence.v1.json' : 'presence.v1.proto', server, events);
}

/** A session client without any cleverness: what the server sends is kept, and can be asked for. */
export class RawSession extends Story {
  readonly batches: number[] = [];
  readonly goingAways: { closeCode: number; reconnectInMs: number }[] = [];
  readonly errors: string[] = [];
  /** Ping frames that came. */
  pings = 0;
  /** Whether ping frames are answered. */
  isAlive = true;
  closeCode: number | undefined;
  resumeToken = '';
  sessionId = '';
  #wire: Wire | undefined;
  #nextRequestId = 1;
  readonly #answers = new Map<number, Answer>();

  static async open(
    name: WireName,
    server: TestServer,
    hello: {
      userId: string;
      device?: string;
      resumeToken?: string;
      activity?: number;
      answersPings?: boolean;
    } | null,
  ): Promise<RawSession> {
    const session = new RawSession();
    session.#wire = await openWire(name, server, {
      onFrame: (frame) => session.#take(frame),
      onEnd: (closeCode) => {
        session.closeCode = closeCode;
      },
    });
    if (hello) {
      const answer = await session.ask({ case: 'hello', value: hello });
      if (answer.case === 'welcome') {
        session.resumeToken = answer.value.resumeToken;
        session.sessionId = answer.value.sessionId;
      }
    }
    return session;
  }

  /** Sends a frame and waits for its answer. */
  async ask(frame: FrameInit): Promise<Answer> {
    const requestId = this.tell(frame, this.#nextRequestId++);
    await waitFor(
      () => `an answer to ${frame?.case}`,
      () => this.#answers.has(requestId) || this.closeCode !== undefined,
    );
    const answer = this.#answers.get(requestId);
    if (!answer) throw new Error(`the session ended with ${this.closeCode} instead of an answer`);
    return answer;
  }

  /** Sends a frame; with request id 0 only failures are answered. */
  tell(frame: FrameInit, requestId = 0): number {
    this.#wire?.send(create(ClientFrameSchema, { requestId, frame: frame as never }));
    return requestId;
  }

  watch(userIds: readonly string[], knownVersions: readonly bigint[] = []): Promise<Answer> {
    return this.ask({ case: 'watch', value: { userIds: [...userIds], knownVersions: [...knownVersions] } });
  }

  async endsWith(end: SessionEnd, timeoutMs?: number): Promise<void> {
    const { closeCode } = sessionEnds[end];
    await waitFor(
      () => `the session to end with ${end}; it ended with ${this.closeCode}`,
      () => this.closeCode === closeCode,
      timeoutMs,
    );
    if (end !== 'GOODBYE') {
      if (this.goingAways.at(-1)?.closeCode !== closeCode) throw new Error('was not told why');
      if (comesBack(closeCode) !== comesBack(this.goingAways.at(-1)?.closeCode ?? 0))
        throw new Error('range');
    }
  }

  /** As when the process dies. */
  drop(): void {
    this.#wire?.drop();
  }

  async goodbye(): Promise<void> {
    this.tell({ case: 'goodbye', value: {} });
    await this.endsWith('GOODBYE');
  }

  #take({ requestId, frame }: ServerFrame): void {
    if (frame.case === 'events') {
      this.batches.push(frame.value.events.length);
      this.events.push(...frame.value.events);
    } else if (frame.case === 'goingAway') {
      const { closeCode, reconnectInMs } = frame.value;
      this.goingAways.push({ closeCode, reconnectInMs: Number(reconnectInMs) });
    } else if (frame.case === 'ping') {
      this.pings++;
      if (this.isAlive) this.tell({ case: 'heartbeat', value: {} });
    } else if (frame.case) {
      if (frame.case === 'error') this.errors.push(frame.value.code);
      this.#answers.set(requestId, frame);
    }
  }
}

async function openWebSocket(protocol: string, server: TestServer, events: WireEvents): Promise<Wire> {
  const socket = new WebSocket(`${server.httpUrl.replace('http', 'ws')}/v1/connect`, protocol);
  const isJson = protocol === 'presence.v1.json';
  socket.on('message', (data: Buffer, isBinary) => {
    if (isBinary === isJson) throw new Error('a frame of the wrong type');
    events.onFrame(
      isJson ? fromJsonString(ServerFrameSchema, data.toString()) : fromBinary(ServerFrameSchema, data),
    );
  });
  socket.on('close', (code) => events.onEnd(code));
  socket.on('error', () => {});
  await Promise.race([
    once(socket, 'open'),
    once(socket, 'close').then(() => Promise.reject(new Error('the handshake was refused'))),
  ]);
  return {
    send: (frame) =>
      socket.send(isJson ? toJsonString(ClientFrameSchema, frame) : toBinary(ClientFrameSchema, frame)),
    drop: () => socket.terminate(),
  };
}

/** A stream of `Connect` on a connection of its own, on which a test sends what it wants. */
export function openConnectStream(server: TestServer) {
  const connection = connectHttp2(`http://127.0.0.1:${server.grpcPort}`);
  connection.on('error', () => {});
  const stream = connection.request({
    ':method': 'POST',
    ':path': '/presence.v1.PresenceService/Connect',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  stream.on('error', () => {});
  return { connection, stream };
}

async function openGrpc(server: TestServer, events: WireEvents): Promise<Wire> {
  const { connection, stream } = openConnectStream(server);
  readMessages(stream, (message) => events.onFrame(fromBinary(ServerFrameSchema, message)));
  let status: string | undefined;
  let details = '';
  const readTrailers = (headers: Record<string, unknown>) => {
    status = (headers['grpc-status'] as string | undefined) ?? status;
    details = Buffer.from(String(headers['grpc-status-details-bin'] ?? ''), 'base64').toString('latin1');
  };
  stream.on('response', readTrailers);
  stream.on('trailers', readTrailers);
  stream.on('close', () => {
    const closeCode = /close_code..(\d{4})/s.exec(details)?.[1];
    events.onEnd(status === '0' ? 1000 : Number(closeCode ?? 1006));
    connection.close();
  });
  await opened(connection, stream);
  return {
    send: (frame) => stream.write(prefixed(toBinary(ClientFrameSchema, frame))),
    drop: () => connection.destroy(),
  };
}

async function opened(connection: ClientHttp2Session, stream: ClientHttp2Stream): Promise<void> {
  if (connection.connecting) await once(connection, 'connect');
  if (stream.pending) await once(stream, 'ready');
}

export function prefixed(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

function readMessages(stream: ClientHttp2Stream, onMessage: (message: Buffer) => void): void {
  let rest = Buffer.alloc(0);
  stream.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
      const end = 5 + rest.readUInt32BE(1);
      onMessage(rest.subarray(5, end));
      rest = rest.subarray(end);
    }
  });
}
