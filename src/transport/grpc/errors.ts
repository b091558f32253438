import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { GrpcError, Status } from '@pilotlight/grpc-server';
import { ErrorInfoSchema, RetryInfoSchema } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import type { PresenceError } from '../../core/errors.ts';

/** The domain of every google.rpc.ErrorInfo that this server sends. */
const domain = 'presence.v1';

/** What ErrorInfo says of an error: its code, and when to try again. */
export function errorInfo({ code, retryAfterMs }: PresenceError): MessageInitShape<typeof ErrorInfoSchema> {
  return { reason: code, domain, metadata: retryFacts(retryAfterMs) };
}

/** When to try again, as google.rpc.RetryInfo, which gRPC clients understand by themselves. */
export function retryInfo(retryAfterMs: number): MessageInitShape<typeof RetryInfoSchema> {
  const seconds = Math.floor(retryAfterMs / 1000);
  return {
    retryDelay: { seconds: BigInt(seconds), nanos: Math.round((retryAfterMs - seconds * 1000) * 1e6) },
  };
}

/**
 * The gRPC face of an error: ErrorInfo with the code, RetryInfo where it is known when.
 *
 * @param status default: that of the catalogue
 */
export function toGrpcError(error: PresenceError, status: Status = Status[error.grpcStatus]): GrpcError {
  const details = detailsOf(errorInfo(error), error.retryAfterMs);
  return new GrpcError(status, error.message, details, { cause: error.cause });
}

/** The gRPC face of a session's end, whose reason is its name in docs/protocol.md. */
export function toEndError(
  status: Status,
  reason: string,
  { name, closeCode }: { readonly name: string; readonly closeCode: number },
  retryAfterMs: number | undefined,
): GrpcError {
  const metadata = { close_code: String(closeCode), ...retryFacts(retryAfterMs) };
  return new GrpcError(status, reason, detailsOf({ reason: name, domain, metadata }, retryAfterMs));
}

function retryFacts(retryAfterMs: number | undefined): Record<string, string> {
  return retryAfterMs === undefined ? {} : { retry_after_ms: String(retryAfterMs) };
}

function detailsOf(info: MessageInitShape<typeof ErrorInfoSchema>, retryAfterMs: number | undefined) {
  const details = [
    {
      typeUrl: 'type.googleapis.com/google.rpc.ErrorInfo',
      value: toBinary(ErrorInfoSchema, create(ErrorInfoSchema, info)),
    },
  ];
  if (retryAfterMs !== undefined) {
    details.push({
      typeUrl: 'type.googleapis.com/google.rpc.RetryInfo',
      value: toBinary(RetryInfoSchema, create(RetryInfoSchema, retryInfo(retryAfterMs))),
    });
  }
  return details;
}
