import { create, toBinary } from '@bufbuild/protobuf';
import { GrpcError, Status } from '@pilotlight/grpc-server';
import { ErrorInfoSchema } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import type { PresenceError } from '../../core/errors.ts';

/** The domain of every google.rpc.ErrorInfo that this server sends. */
const domain = 'presence.v1';

/** What ErrorInfo tells besides the code: when to try again. */
export function errorFacts({ retryAfterMs }: PresenceError): Record<string, string> {
  return retryAfterMs === undefined ? {} : { retry_after_ms: String(retryAfterMs) };
}

/** The gRPC face of an error: status of the catalogue, and ErrorInfo with the code. */
export function toGrpcError(error: PresenceError): GrpcError {
  const info = create(ErrorInfoSchema, { reason: error.code, domain, metadata: errorFacts(error) });
  const detail = {
    typeUrl: 'type.googleapis.com/google.rpc.ErrorInfo',
    value: toBinary(ErrorInfoSchema, info),
  };
  return new GrpcError(Status[error.grpcStatus], error.message, [detail], {
    cause: error.cause,
  });
}
