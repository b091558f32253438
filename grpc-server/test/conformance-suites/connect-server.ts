/**
 * The server under test of the Connect conformance suite: reads what to serve from stdin, answers with its port, and
 * serves connectrpc.conformance.v1 until it is stopped. `argv[2]` is a descriptor set of the suite's own .proto files.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import {
  create,
  createFileRegistry,
  type DescMessage,
  fromBinary,
  type Message,
  toBinary,
} from '@bufbuild/protobuf';
import { type Any, anyPack, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import {
  GrpcError,
  GrpcServer,
  type MethodDefinition,
  type MethodKind,
  type ServerCall,
  type ServerStream,
  type Status,
} from '../../src/index.ts';

interface Header {
  readonly name: string;
  readonly value: readonly string[];
}

interface ErrorDefinition {
  readonly code: Status;
  readonly message?: string;
  readonly details: readonly Any[];
}

interface Definition {
  readonly responseHeaders: readonly Header[];
  readonly responseTrailers: readonly Header[];
  readonly responseDelayMs: number;
}

interface UnaryDefinition extends Definition {
  readonly response: { readonly case?: 'responseData' | 'error'; readonly value?: unknown };
}

interface StreamDefinition extends Definition {
  readonly responseData: readonly Uint8Array[];
  readonly error?: ErrorDefinition;
}

type UnaryRequest = Message & { readonly responseDefinition?: UnaryDefinition };
type StreamRequest = Message & {
  readonly responseDefinition?: StreamDefinition;
  readonly fullDuplex?: boolean;
};

interface ServerCompatRequest {
  readonly useTls: boolean;
  readonly clientTlsCert: Uint8Array;
  readonly messageReceiveLimit: number;
  readonly serverCreds?: { readonly cert: Uint8Array; readonly key: Uint8Array };
}

const PACKAGE = 'connectrpc.conformance.v1.';
const registry = createFileRegistry(
  fromBinary(FileDescriptorSetSchema, readFileSync(process.argv[2] as string)),
);

function schema(name: string): DescMessage {
  const found = registry.getMessage(PACKAGE + name);
  if (found === undefined) throw new Error(`the suite has no message ${name}`);
  return found;
}

const requestInfoSchema = schema('ConformancePayload.RequestInfo');

function method<I>(name: string, kind: MethodKind, message = name): MethodDefinition<I, Message> {
  const request = schema(`${message}Request`);
  const response = schema(`${message}Response`);
  return {
    path: `/${PACKAGE}ConformanceService/${name}`,
    kind,
    // protobuf-es keeps parts of the input; these bytes are valid only during the call.
    decode: (bytes) => fromBinary(request, Uint8Array.from(bytes)) as I,
    encode: (payload) => toBinary(response, create(response, { payload })),
  };
}

function packed(message: Message): Any {
  return anyPack(schema(message.$typeName.slice(PACKAGE.length)), message);
}

function requestInfo(call: ServerCall, requests: readonly Message[], withHead = true): Message {
  const headers = new Map<string, string[]>();
  for (const [name, value] of withHead ? call.metadata : []) {
    const values = headers.get(name);
    if (values) values.push(value);
    else headers.set(name, [value]);
  }
  const timeoutMs =
    call.deadlineMs === undefined ? undefined : Math.max(0, call.deadlineMs - performance.now());
  return create(requestInfoSchema, {
    requestHeaders: [...headers].map(([name, value]) => ({ name, value })),
    ...(withHead && timeoutMs !== undefined && { timeoutMs: BigInt(Math.floor(timeoutMs)) }),
    requests: requests.map(packed),
  });
}

function payload(data: Uint8Array | undefined, info?: Message): Message {
  return create(schema('ConformancePayload'), {
    ...(data && { data }),
    ...(info && { requestInfo: info }),
  });
}

function setMetadata(call: ServerCall, definition: Definition): void {
  for (const { name, value } of definition.responseHeaders)
    for (const one of value) call.setHeader(name.toLowerCase(), metadataValue(name, one));
  for (const { name, value } of definition.responseTrailers)
    for (const one of value) call.setTrailer(name.toLowerCase(), metadataValue(name, one));
}

function metadataValue(name: string, text: string): string | Uint8Array {
  return name.toLowerCase().endsWith('-bin') ? Buffer.from(text, 'base64') : text;
}

function toError(error: ErrorDefinition, info?: Message): GrpcError {
  const details = info ? [...error.details, packed(info)] : error.details;
  return new GrpcError(
    error.code,
    error.message ?? '',
    details.map(({ typeUrl, value }) => ({ typeUrl, value })),
  );
}

async function answerUnary(
  call: ServerCall,
  definition: UnaryDefinition | undefined,
  requests: readonly Message[],
): Promise<Message> {
  const info = requestInfo(call, requests);
  if (definition === undefined) return payload(undefined, info);
  setMetadata(call, definition);
  if (definition.responseDelayMs > 0) await delay(definition.responseDelayMs);
  const { response } = definition;
  if (response.case === 'error') throw toError(response.value as ErrorDefinition, info);
  return payload(response.value as Uint8Array | undefined, info);
}

/** Some answers are larger than the send queue: the next one waits until the client has read. */
async function send(stream: ServerStream<Message>, message: Message): Promise<void> {
  if (stream.send(message) || stream.closed) return;
  await new Promise<void>((resolve) => {
    stream.onDrain(resolve);
    stream.onClose(() => resolve());
  });
}

async function answerStream(
  stream: ServerStream<Message>,
  definition: StreamDefinition | undefined,
  requests: readonly Message[],
  from = 0,
): Promise<void> {
  for (let i = from; i < (definition?.responseData.length ?? 0) && !stream.closed; i++) {
    if (definition?.responseDelayMs) await delay(definition.responseDelayMs);
    const info = i === 0 ? requestInfo(stream, requests) : undefined;
    await send(stream, payload(definition?.responseData[i], info));
  }
  if (definition?.error === undefined) return stream.end();
  const isFirst = definition.responseData.length === 0;
  stream.fail(toError(definition.error, isFirst ? requestInfo(stream, requests) : undefined));
}

function register(server: GrpcServer): void {
  for (const name of ['Unary', 'IdempotentUnary'])
    server.unary(method<UnaryRequest>(name, 'unary'), (request, call) =>
      answerUnary(call, request.responseDefinition, [request]),
    );
  server.clientStream(method<UnaryRequest>('ClientStream', 'client-stream'), async (requests, call) => {
    const received: UnaryRequest[] = [];
    for await (const request of requests) received.push(request);
    return answerUnary(call, received[0]?.responseDefinition, received);
  });
  server.serverStream(method<StreamRequest>('ServerStream', 'server-stream'), (request, stream) => {
    if (request.responseDefinition) setMetadata(stream, request.responseDefinition);
    stream.sendHeaders();
    return answerStream(stream, request.responseDefinition, [request]);
  });
  server.bidi(method<StreamRequest>('BidiStream', 'bidi'), async (stream) => {
    let definition: StreamDefinition | undefined;
    let unanswered: StreamRequest[] = [];
    let isFirst = true;
    let sent = 0;
    for await (const request of stream) {
      unanswered.push(request);
      if (isFirst) {
        definition = request.responseDefinition;
        if (definition) setMetadata(stream, definition);
        if (request.fullDuplex) stream.sendHeaders();
        isFirst = false;
      }
      if (!request.fullDuplex && sent === 0) continue;
      if (sent >= (definition?.responseData.length ?? 0)) break;
      if (definition?.responseDelayMs) await delay(definition.responseDelayMs);
      await send(
        stream,
        payload(definition?.responseData[sent], requestInfo(stream, unanswered, sent === 0)),
      );
      unanswered = [];
      sent++;
    }
    await answerStream(stream, definition, unanswered, sent);
  });
}

/** One message of stdin: its length in four bytes, then its bytes. */
async function readRequest(): Promise<ServerCompatRequest> {
  let bytes = Buffer.alloc(0);
  for await (const chunk of process.stdin) {
    bytes = Buffer.concat([bytes, chunk as Buffer]);
    if (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE(0)) break;
  }
  const message = fromBinary(schema('ServerCompatRequest'), bytes.subarray(4, 4 + bytes.readUInt32BE(0)));
  return message as unknown as ServerCompatRequest;
}

function writeResponse(fields: { host: string; port: number; pemCert?: Uint8Array }): void {
  const response = schema('ServerCompatResponse');
  const bytes = toBinary(response, create(response, fields));
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32BE(bytes.length);
  process.stdout.write(Buffer.concat([prefix, bytes]));
}

const asked = await readRequest();
const needsClientCertificate = asked.clientTlsCert.length > 0;
const server = new GrpcServer({
  // All responses are compressed where the client accepts it: the suite's messages are small.
  compression: { minBytes: 1 },
  ...(asked.messageReceiveLimit > 0 && { limits: { maxReceiveMessageBytes: asked.messageReceiveLimit } }),
  ...(asked.useTls && {
    tls: {
      key: Buffer.from(asked.serverCreds?.key ?? []),
      cert: Buffer.from(asked.serverCreds?.cert ?? []),
      ...(needsClientCertificate && {
        ca: Buffer.from(asked.clientTlsCert),
        requestCert: true,
        rejectUnauthorized: true,
      }),
    },
  }),
});
register(server);
const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
process.once('SIGTERM', () => void server.close().then(() => process.exit(0)));
writeResponse({ host: '127.0.0.1', port, ...(asked.serverCreds && { pemCert: asked.serverCreds.cert }) });
