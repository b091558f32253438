/** One row of the catalogue: what a code means to each kind of caller. */
export interface ErrorRow {
  /** Name of the canonical gRPC status. */
  readonly grpcStatus: string;
  readonly httpStatus: number;
  /** Whether the same call can succeed later without being changed. */
  readonly retryable: boolean;
  readonly meaning: string;
}

/** The closed catalogue. docs/errors.md is checked against it. */
export const errorCatalogue = {
  USER_NOT_FOUND: {
    grpcStatus: 'NOT_FOUND',
    httpStatus: 404,
    retryable: false,
    meaning: 'a user directory is configured and lacks this user',
  },
  INVALID_STATUS: {
    grpcStatus: 'INVALID_ARGUMENT',
    httpStatus: 400,
    retryable: false,
    meaning: 'status is neither ONLINE nor OFFLINE',
  },
  INVALID_ARGUMENT: {
    grpcStatus: 'INVALID_ARGUMENT',
    httpStatus: 400,
    retryable: false,
    meaning: 'a malformed id, a list too long, bad JSON: the field is named',
  },
  UNAUTHORIZED: {
    grpcStatus: 'PERMISSION_DENIED',
    httpStatus: 403,
    retryable: false,
    meaning: 'not allowed to update or watch this user',
  },
  RATE_LIMITED: {
    grpcStatus: 'RESOURCE_EXHAUSTED',
    httpStatus: 429,
    retryable: true,
    meaning: 'too many calls, or too much of something: with the time to wait',
  },
  REDIS_ERROR: {
    grpcStatus: 'UNAVAILABLE',
    httpStatus: 503,
    retryable: true,
    meaning: 'the engine, the user directory or the watch policy failed or did not answer in time',
  },
  INTERNAL: {
    grpcStatus: 'INTERNAL',
    httpStatus: 500,
    retryable: false,
    meaning: 'a bug; the cause is logged, never sent',
  },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorCatalogue;

export interface PresenceErrorOptions extends ErrorOptions {
  /** UNAUTHORIZED for want of valid credentials, rather than of what they allow. */
  readonly isUnauthenticated?: boolean;
  /** With a retryable code: when the same call may succeed, ms from now. */
  readonly retryAfterMs?: number;
  /** Of a list: the users that the error is about. */
  readonly userIds?: readonly string[];
}

/** The one error that crosses a boundary of this program. Its message is safe to send. */
export class PresenceError extends Error {
  override readonly name = 'PresenceError';
  readonly code: ErrorCode;
  readonly isUnauthenticated: boolean;
  readonly retryAfterMs: number | undefined;
  readonly userIds: readonly string[];

  constructor(code: ErrorCode, message: string, options: PresenceErrorOptions = {}) {
    super(message, options);
    this.code = code;
    this.isUnauthenticated = options.isUnauthenticated ?? false;
    this.retryAfterMs = options.retryAfterMs;
    this.userIds = options.userIds ?? [];
  }

  /** Name of the canonical gRPC status. */
  get grpcStatus() {
    return this.isUnauthenticated ? 'UNAUTHENTICATED' : errorCatalogue[this.code].grpcStatus;
  }

  get httpStatus(): number {
    return this.isUnauthenticated ? 401 : errorCatalogue[this.code].httpStatus;
  }

  static invalidArgument(field: string, problem: string): PresenceError {
    return new PresenceError('INVALID_ARGUMENT', `${field} ${problem}`);
  }

  /** The directory lacks these users, of whom there is at least one. */
  static userNotFound(userIds: readonly string[]): PresenceError {
    return new PresenceError('USER_NOT_FOUND', `User with ID ${userIds[0]} not found`, { userIds });
  }

  /** No credentials, or such as are not valid. */
  static unauthenticated(message: string, options?: ErrorOptions): PresenceError {
    return new PresenceError('UNAUTHORIZED', message, { ...options, isUnauthenticated: true });
  }

  /** The doorway for what was caught: unknown errors become INTERNAL, with the cause kept for the log only. */
  static from(error: unknown): PresenceError {
    if (error instanceof PresenceError) return error;
    return new PresenceError('INTERNAL', 'internal error', { cause: error });
  }
}
