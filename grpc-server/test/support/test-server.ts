import { GrpcServer, type MethodDefinition } from '../../src/index.ts';
import { Flag, Type } from './frames.ts';
import type { Field } from './hpack.ts';
import { type ConnectOptions, eventually, RawClient } from './raw-client.ts';
import { call } from './requests.ts';

export type ServerOptions = NonNullable<ConstructorParameters<typeof GrpcServer>[0]>;

/** The plain route's answer: longer than the five bytes that flow-control cases need. */
export const PLAIN_BODY = 'a plain answer of more than five bytes';

export interface TestServer {
  readonly server: GrpcServer;
  readonly port: number;
  /** What reached `onError`. */
  readonly errors: unknown[];
  connect(options?: ConnectOptions): Promise<RawClient>;
  close(): Promise<void>;
}

/** A method whose messages are plain bytes. */
export function bytesMethod(
  path: string,
  kind: MethodDefinition<Buffer, Buffer>['kind'],
): MethodDefinition<Buffer, Buffer> {
  return { path, kind, decode: (bytes) => Buffer.from(bytes), encode: (bytes) => bytes };
}

export async function startServer(
  options: ServerOptions = {},
  register: (server: GrpcServer) => void = registerEcho,
): Promise<TestServer> {
  const errors: unknown[] = [];
  const server = new GrpcServer({
    fallback: (request) => ({
      status: 200,
      headers: { 'content-type': 'text/plain' },
      body: request.method === 'HEAD' ? '' : PLAIN_BODY,
    }),
    // These tests ask "are you alive?" often. What happens to a client that does is tested where it belongs.
    keepalive: { timeMs: 7_200_000, timeoutMs: 20_000, minClientPingMs: 0, permitWithoutCalls: true },
    onError: (error) => errors.push(error),
    ...options,
  });
  register(server);
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  return {
    server,
    port,
    errors,
    connect: (connectOptions) => RawClient.connect(port, connectOptions),
    close: () => server.close(),
  };
}

export const UNARY = '/test.Echo/Unary';
export const SERVER_STREAM = '/test.Echo/ServerStream';
export const CLIENT_STREAM = '/test.Echo/ClientStream';
export const BIDI = '/test.Echo/Bidi';
export const HANG = '/test.Echo/Hang';

/**
 * Unary echoes. ServerStream sends the request back as many times as its first byte says and ends. ClientStream
 * joins what it got. Bidi echoes each. Hang answers its first message and stays open until cancelled.
 */
export function registerEcho(server: GrpcServer): void {
  server.unary(bytesMethod(UNARY, 'unary'), (request) => request);
  server.serverStream(bytesMethod(SERVER_STREAM, 'server-stream'), (request, stream) => {
    for (let i = 0; i < (request[0] ?? 0); i++) stream.send(request);
    stream.end();
  });
  server.clientStream(bytesMethod(CLIENT_STREAM, 'client-stream'), async (requests) => {
    const parts: Buffer[] = [];
    for await (const part of requests) parts.push(part);
    return Buffer.concat(parts);
  });
  server.bidi(bytesMethod(BIDI, 'bidi'), (stream) => {
    stream.onMessage((received) => stream.send(received));
    stream.onHalfClose(() => stream.end());
  });
  server.serverStream(bytesMethod(HANG, 'server-stream'), (request, stream) => {
    stream.send(request);
  });
}

export interface GrpcAnswer {
  readonly status: number;
  readonly message: string | undefined;
  readonly headers: readonly Field[];
  readonly trailers: readonly Field[];
  readonly messages: readonly { readonly flag: number; readonly bytes: Buffer }[];
  readonly trailersOnly: boolean;
}

export function value(fields: readonly Field[], name: string): string | undefined {
  return fields.find(([other]) => other === name)?.[1];
}

/** Waits for the end of a gRPC answer on a stream and takes it apart. */
export async function readAnswer(client: RawClient, streamId: number): Promise<GrpcAnswer> {
  await client.expectEndStream(streamId);
  const frames = client.on(streamId);
  const blocks = frames.flatMap((f) => (f.fields ? [f.fields] : []));
  const body = Buffer.concat(frames.filter((f) => f.type === Type.DATA).map(unpadded));
  const trailers = blocks.at(-1) ?? [];
  const status = value(trailers, 'grpc-status');
  if (status === undefined)
    throw new Error(`no grpc-status on stream ${streamId}: ${JSON.stringify(blocks)}`);
  return {
    status: Number(status),
    message: value(trailers, 'grpc-message'),
    headers: blocks[0] ?? [],
    trailers,
    messages: splitMessages(body),
    trailersOnly: blocks.length === 1 && body.length === 0,
  };
}

function unpadded(frame: { flags: number; payload: Buffer }): Buffer {
  if ((frame.flags & Flag.PADDED) === 0) return frame.payload;
  return frame.payload.subarray(1, frame.payload.length - (frame.payload[0] ?? 0));
}

export function splitMessages(body: Buffer): { flag: number; bytes: Buffer }[] {
  const messages: { flag: number; bytes: Buffer }[] = [];
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32BE(at + 1);
    if (body.length - at - 5 < length) throw new Error('the body ends inside a message');
    messages.push({ flag: body[at] as number, bytes: body.subarray(at + 5, at + 5 + length) });
    at += 5 + length;
  }
  return messages;
}

/** A good client on a connection of its own that keeps making calls; `stop()` asserts that none of them failed. */
export class Bystander {
  readonly #client: RawClient;
  #stopped = false;
  #calls = 0;
  readonly #running: Promise<void>;

  private constructor(client: RawClient) {
    this.#client = client;
    this.#running = this.#run();
    this.#running.catch(() => {});
  }

  static async start(server: Pick<TestServer, 'connect'>): Promise<Bystander> {
    return new Bystander(await server.connect({ returnCredit: true }));
  }

  get calls(): number {
    return this.#calls;
  }

  async #run(): Promise<void> {
    for (let streamId = 1; !this.#stopped; streamId += 2) {
      this.#client.send(call(streamId, UNARY, `call ${streamId}`));
      const answer = await readAnswer(this.#client, streamId);
      if (answer.status !== 0 || answer.messages[0]?.bytes.toString() !== `call ${streamId}`) {
        throw new Error(`a good client got status ${answer.status} ${answer.message}`);
      }
      this.#client.frames.length = 0;
      this.#calls++;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  async stop(): Promise<void> {
    const before = this.#calls;
    await Promise.race([this.#running, eventually(() => this.#calls > before, 'one more good call', 10_000)]);
    this.#stopped = true;
    await this.#running;
    await this.#client.close();
  }
}
