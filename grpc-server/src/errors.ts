/**
 * gRPC status codes and the one error class that a handler throws to choose one.
 * Source: grpc/grpc doc/statuscodes.md.
 */

export const Status = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

export type Status = (typeof Status)[keyof typeof Status];

/** A `google.protobuf.Any`: the type URL (`type.googleapis.com/google.rpc.ErrorInfo`) and the encoded message. */
export interface AnyDetail {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

export interface GrpcErrorOptions extends ErrorOptions {
  /** Extra trailers, by the rules of `Metadata`. */
  readonly metadata?: Readonly<Record<string, string | Uint8Array>>;
}

/**
 * An answer other than OK. `message` is sent to the client as it stands; `details` travel in
 * `grpc-status-details-bin`; `cause` stays here.
 */
export class GrpcError extends Error {
  readonly status: Status;
  readonly details: readonly AnyDetail[];
  readonly metadata: Readonly<Record<string, string | Uint8Array>> | undefined;

  constructor(
    status: Status,
    message: string,
    details: readonly AnyDetail[] = [],
    options: GrpcErrorOptions = {},
  ) {
    super(message, options);
    this.name = 'GrpcError';
    this.status = status;
    this.details = details;
    this.metadata = options.metadata;
  }
}

/** HTTP/2 error codes (RFC 9113 §7). */
export const H2Error = {
  NO_ERROR: 0x0,
  PROTOCOL_ERROR: 0x1,
  INTERNAL_ERROR: 0x2,
  FLOW_CONTROL_ERROR: 0x3,
  SETTINGS_TIMEOUT: 0x4,
  STREAM_CLOSED: 0x5,
  FRAME_SIZE_ERROR: 0x6,
  REFUSED_STREAM: 0x7,
  CANCEL: 0x8,
  COMPRESSION_ERROR: 0x9,
  CONNECT_ERROR: 0xa,
  ENHANCE_YOUR_CALM: 0xb,
  INADEQUATE_SECURITY: 0xc,
  HTTP_1_1_REQUIRED: 0xd,
} as const;

/**
 * A violation that ends the whole connection (RFC 9113 §5.4.1). Thrown by the codec and the state machine,
 * caught where the connection receives bytes, never beyond.
 */
export class ConnectionError extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.name = 'ConnectionError';
    this.code = code;
  }
}
