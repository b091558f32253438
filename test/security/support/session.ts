import { create, fromJsonString, type MessageInitShape, toJsonString } from '@bufbuild/protobuf';
import { type CallOptions, ConnectError } from '@connectrpc/connect';
import { ErrorInfoSchema } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import {
  ClientFrameSchema,
  type ServerFrame,
  ServerFrameSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import { WebSocket } from 'ws';
import type { TestServer } from '../../support/pilotlight.ts';
import { waitFor } from '../../support/wait.ts';

export type FrameInit = NonNullable<MessageInitShape<typeof ClientFrameSchema>['frame']>;
export type SessionWire = 'gRPC' | 'WebSocket';
type FrameName = Exclude<ServerFrame['frame']['case'], undefined>;

/** A session with credentials, over either transport: what came, and how it ended. */
export class TestSession {
  readonly frames: ServerFrame[] = [];
  /** Close code of the WebSocket, or `close_code` of the stream's ErrorInfo; 1000: OK. */
  closeCode: number | undefined;
  #nextRequestId = 1;
  #send: (frame: FrameInit, requestId: number) => void = () => {};
  #drop: () => void = () => {};

  /** @param protocols offered besides presence.v1.json */
  static webSocket(
    server: TestServer,
    headers: Record<string, string>,
    protocols: readonly string[] = [],
  ): TestSession {
    const session = new TestSession();
    const url = `${server.httpUrl.replace('http', 'ws')}/v1/connect`;
    const socket = new WebSocket(url, [...protocols, 'presence.v1.json'], { headers });
    const opened = new Promise<void>((resolve) => socket.once('open', resolve));
    socket.on('message', (data: Buffer) =>
      session.frames.push(fromJsonString(ServerFrameSchema, data.toString())),
    );
    socket.on('close', (code) => {
      session.closeCode = code;
    });
    socket.on('error', () => {});
    session.#send = (frame, requestId) =>
      void opened.then(() =>
        socket.send(toJsonString(ClientFrameSchema, create(ClientFrameSchema, { requestId, frame }))),
      );
    session.#drop = () => socket.terminate();
    return session;
  }

  static grpc(server: TestServer, headers: Record<string, string>): TestSession {
    const session = new TestSession();
    const waiting: MessageInitShape<typeof ClientFrameSchema>[] = [];
    let wake = () => {};
    const aborter = new AbortController();
    async function* frames() {
      while (!aborter.signal.aborted) {
        const frame = waiting.shift();
        if (frame) yield frame;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    }
    session.#send = (frame, requestId) => {
      waiting.push({ requestId, frame });
      wake();
    };
    session.#drop = () => {
      aborter.abort();
      wake();
    };
    const options: CallOptions = { headers, signal: aborter.signal };
    void (async () => {
      try {
        for await (const frame of server.newClient().connect(frames(), options)) session.frames.push(frame);
        session.closeCode = 1000;
      } catch (error) {
        const [info] = ConnectError.from(error).findDetails(ErrorInfoSchema);
        session.closeCode = Number(info?.metadata.close_code ?? 1006);
      }
      wake();
    })();
    return session;
  }

  static open(wire: SessionWire, server: TestServer, token: string | null): TestSession {
    const headers: Record<string, string> = token === null ? {} : { authorization: `Bearer ${token}` };
    return wire === 'gRPC' ? TestSession.grpc(server, headers) : TestSession.webSocket(server, headers);
  }

  /** The answer's kind, `error CODE`, or `closed CODE`. */
  async ask(frame: FrameInit): Promise<string> {
    const requestId = this.#nextRequestId++;
    this.#send(frame, requestId);
    const answer = () => this.frames.find((it) => it.requestId === requestId)?.frame;
    await waitFor(
      () => `an answer to ${frame.case}`,
      () => answer() !== undefined || this.closeCode !== undefined,
    );
    const found = answer();
    if (!found) return `closed ${this.closeCode}`;
    return found.case === 'error' ? `error ${found.value.code}` : String(found.case);
  }

  /** Two frames at once: the answer to each. */
  async askBoth(first: FrameInit, second: FrameInit): Promise<[string, string]> {
    return Promise.all([this.ask(first), this.ask(second)]);
  }

  has(name: FrameName): boolean {
    return this.frames.some(({ frame }) => frame.case === name);
  }

  async closes(): Promise<number> {
    await waitFor('the session to close', () => this.closeCode !== undefined);
    return this.closeCode as number;
  }

  drop(): void {
    this.#drop();
  }
}
