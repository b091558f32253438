import {
  GrpcError,
  type GrpcServer,
  type MethodDefinition,
  type ServerCall,
  type Status,
} from '../../src/index.ts';
import { bytesOf, numberOf, parse, Writer } from './protobuf.ts';

/**
 * grpc.testing.TestService, as the interop cases of grpc/grpc doc/interop-test-descriptions.md need it from a server.
 * Messages are src/proto/grpc/testing/messages.proto, only the fields that those cases use.
 */
export const SERVICE = '/grpc.testing.TestService/';

export interface EchoStatus {
  readonly code: number;
  readonly message: string;
}

export interface SimpleRequest {
  readonly responseSize?: number;
  readonly payload?: Uint8Array;
  readonly status?: EchoStatus;
}

export interface StreamingRequest {
  readonly sizes?: readonly number[];
  readonly payload?: Uint8Array;
  readonly status?: EchoStatus;
}

function payload(body: Uint8Array | undefined): Buffer | undefined {
  return body && new Writer().bytes(2, body).finish();
}

function payloadOf(bytes: Buffer | undefined): Buffer {
  return (bytes && bytesOf(parse(bytes), 2)) ?? Buffer.alloc(0);
}

function status(echo: EchoStatus | undefined): Buffer | undefined {
  return echo && new Writer().varint(1, echo.code).bytes(2, echo.message).finish();
}

function statusOf(bytes: Buffer | undefined): EchoStatus | undefined {
  if (bytes === undefined) return undefined;
  const fields = parse(bytes);
  return { code: numberOf(fields, 1), message: bytesOf(fields, 2)?.toString() ?? '' };
}

export const simpleRequest = {
  encode: (one: SimpleRequest): Buffer =>
    new Writer()
      .varint(2, one.responseSize ?? 0)
      .bytes(3, payload(one.payload))
      .bytes(7, status(one.status))
      .finish(),
  decode: (bytes: Uint8Array): SimpleRequest & { payload: Buffer } => {
    const fields = parse(bytes);
    const echo = statusOf(bytesOf(fields, 7));
    return {
      responseSize: numberOf(fields, 2),
      payload: payloadOf(bytesOf(fields, 3)),
      ...(echo && { status: echo }),
    };
  },
};

/** SimpleResponse, StreamingOutputCallResponse and StreamingInputCallRequest: all a payload in field 1. */
export const payloadMessage = {
  encode: (body: Uint8Array): Buffer => new Writer().bytes(1, payload(body)).finish(),
  decode: (bytes: Uint8Array): Buffer => payloadOf(bytesOf(parse(bytes), 1)),
};

export const aggregatedSize = {
  encode: (size: number): Buffer => new Writer().varint(1, size).finish(),
  decode: (bytes: Uint8Array): number => numberOf(parse(bytes), 1),
};

export const streamingRequest = {
  encode: (one: StreamingRequest): Buffer => {
    const out = new Writer();
    for (const size of one.sizes ?? []) out.bytes(2, new Writer().varint(1, size).finish());
    return out.bytes(3, payload(one.payload)).bytes(7, status(one.status)).finish();
  },
  decode: (bytes: Uint8Array): StreamingRequest => {
    const fields = parse(bytes);
    const echo = statusOf(bytesOf(fields, 7));
    return {
      sizes: (fields.get(2) ?? []).map((one) => numberOf(parse(one as Buffer), 1)),
      ...(echo && { status: echo }),
    };
  },
};

export const empty = {
  encode: (): Buffer => Buffer.alloc(0),
  decode: (bytes: Uint8Array): number => bytes.length,
};

function method<I, O>(
  name: string,
  kind: MethodDefinition<I, O>['kind'],
  decode: (bytes: Uint8Array) => I,
  encode: (message: O) => Uint8Array,
): MethodDefinition<I, O> {
  return { path: SERVICE + name, kind, decode, encode };
}

/** custom_metadata: both are sent back, the first in headers, the second in trailers. */
function echoMetadata(call: ServerCall): void {
  const initial = call.metadata.get('x-grpc-test-echo-initial');
  if (initial !== undefined) call.setHeader('x-grpc-test-echo-initial', initial);
  const trailing = call.metadata.getBinary('x-grpc-test-echo-trailing-bin');
  if (trailing !== undefined) call.setTrailer('x-grpc-test-echo-trailing-bin', trailing);
}

function failIfAsked(echo: EchoStatus | undefined): void {
  if (echo && echo.code !== 0) throw new GrpcError(echo.code as Status, echo.message);
}

export function registerTestService(server: GrpcServer): void {
  server.unary(method('EmptyCall', 'unary', empty.decode, empty.encode), (_request, call) => {
    echoMetadata(call);
    return 0;
  });
  server.unary(method('UnaryCall', 'unary', simpleRequest.decode, payloadMessage.encode), (request, call) => {
    echoMetadata(call);
    failIfAsked(request.status);
    return Buffer.alloc(request.responseSize ?? 0);
  });
  server.serverStream(
    method('StreamingOutputCall', 'server-stream', streamingRequest.decode, payloadMessage.encode),
    (request, stream) => {
      for (const size of request.sizes ?? []) stream.send(Buffer.alloc(size));
      stream.end();
    },
  );
  server.clientStream(
    method('StreamingInputCall', 'client-stream', payloadMessage.decode, aggregatedSize.encode),
    async (requests) => {
      let size = 0;
      for await (const body of requests) size += body.length;
      return size;
    },
  );
  server.bidi(method('FullDuplexCall', 'bidi', streamingRequest.decode, payloadMessage.encode), (stream) => {
    echoMetadata(stream);
    stream.onMessage((request) => {
      if (request.status && request.status.code !== 0) {
        stream.fail(new GrpcError(request.status.code as Status, request.status.message));
        return;
      }
      for (const size of request.sizes ?? []) stream.send(Buffer.alloc(size));
    });
    stream.onHalfClose(() => stream.end());
  });
}
