/** What a gRPC request asks for, worked out from its head alone, and so shared by all requests with that head. */
import type {
  BidiHandler,
  ClientStreamHandler,
  MethodDefinition,
  ServerStreamHandler,
  UnaryHandler,
} from './api.ts';
import { Status } from './errors.ts';
import { isGrpcContentType, parseTimeoutMs, responseContentType } from './grpc-wire.ts';
import type { HeaderPair } from './hpack-encoder.ts';
import { hasValidBinaryFields } from './metadata.ts';
import type { RequestHead } from './request-head.ts';

/** Types are checked where a method is registered; in here all methods look alike. */
export type AnyDefinition = MethodDefinition<unknown, unknown>;
export type AnyHandler = UnaryHandler<unknown, unknown> &
  ServerStreamHandler<unknown, unknown> &
  ClientStreamHandler<unknown, unknown> &
  BidiHandler<unknown, unknown>;

export interface Route {
  readonly definition: AnyDefinition;
  readonly handler: AnyHandler;
}

/** A request that no handler sees. */
export interface Rejection {
  readonly httpStatus: number;
  readonly status: Status;
  readonly message: string;
  readonly extraFields: readonly HeaderPair[];
}

export interface CallPlan {
  readonly route: Route | undefined;
  readonly rejection: Rejection | undefined;
  /** Not gRPC, and the server has a fallback. */
  readonly plain: boolean;
  /** The response's content type: the request's, without parameters. */
  readonly contentType: string;
  /** -1: no deadline. */
  readonly timeoutMs: number;
  readonly requestGzip: boolean;
  readonly acceptsGzip: boolean;
}

const DEFAULT_CONTENT_TYPE = 'application/grpc';

export function planCall(
  head: RequestHead,
  routes: ReadonlyMap<string, Route>,
  hasFallback: boolean,
): CallPlan {
  const contentType = responseContentType(head.contentType) ?? DEFAULT_CONTENT_TYPE;
  const base = { route: undefined, rejection: undefined, plain: false, contentType, timeoutMs: -1 };
  const encodings = { requestGzip: head.grpcEncoding === 'gzip', acceptsGzip: acceptsGzip(head) };
  if (head.overLimit) return { ...base, ...encodings, rejection: tooLarge(head) };
  if (hasFallback && (head.method !== 'POST' || !isGrpcContentType(head.contentType))) {
    return { ...base, ...encodings, plain: true };
  }
  const route = routes.get(head.path);
  const timeoutMs = head.grpcTimeout === undefined ? -1 : parseTimeoutMs(head.grpcTimeout);
  const rejection = judge(head, route, timeoutMs);
  return { ...base, ...encodings, route, rejection, timeoutMs: timeoutMs ?? -1 };
}

function judge(
  head: RequestHead,
  route: Route | undefined,
  timeoutMs: number | undefined,
): Rejection | undefined {
  if (head.method !== 'POST') {
    return reject(405, Status.INTERNAL, `${head.method} instead of POST`, [['allow', 'POST']]);
  }
  if (!isGrpcContentType(head.contentType)) {
    return reject(415, Status.INVALID_ARGUMENT, 'content-type is not application/grpc');
  }
  if (responseContentType(head.contentType) === undefined) {
    return reject(415, Status.UNIMPLEMENTED, 'only application/grpc and application/grpc+proto are spoken');
  }
  if (timeoutMs === undefined) return reject(400, Status.INTERNAL, 'malformed grpc-timeout');
  if (!hasValidBinaryFields(head.fields)) {
    return reject(400, Status.INTERNAL, 'a -bin header is not base64');
  }
  if (!/^\/[^/]+(?:\/[^/]+)*\/[^/]+$/.test(head.path)) {
    return reject(200, Status.UNIMPLEMENTED, 'malformed method name');
  }
  if (route === undefined) return reject(200, Status.UNIMPLEMENTED, `unknown method ${head.path}`);
  const encoding = head.grpcEncoding;
  if (encoding !== undefined && encoding !== 'identity' && encoding !== 'gzip') {
    return reject(200, Status.UNIMPLEMENTED, `grpc-encoding ${encoding} is not supported`, [
      ['grpc-accept-encoding', 'identity,gzip'],
    ]);
  }
  if (timeoutMs === 0) return reject(200, Status.DEADLINE_EXCEEDED, 'the deadline had passed on arrival');
  return undefined;
}

/** 431 is what HTTP says, but gRPC clients look for a status in an answer that is 200. */
function tooLarge(head: RequestHead): Rejection {
  const httpStatus = isGrpcContentType(head.contentType) ? 200 : 431;
  return reject(httpStatus, Status.RESOURCE_EXHAUSTED, 'request headers are too large');
}

function reject(
  httpStatus: number,
  status: Status,
  message: string,
  extraFields: readonly HeaderPair[] = [],
): Rejection {
  return { httpStatus, status, message, extraFields };
}

function acceptsGzip(head: RequestHead): boolean {
  const accepted = head.grpcAcceptEncoding;
  return accepted?.split(',').some((name) => name.trim() === 'gzip') ?? false;
}
