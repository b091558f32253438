/** Codes of docs/errors.md, and what only a client can know. */
export type PresenceErrorCode =
  | 'USER_NOT_FOUND'
  | 'INVALID_STATUS'
  | 'INVALID_ARGUMENT'
  | 'UNAUTHORIZED'
  | 'RATE_LIMITED'
  | 'REDIS_ERROR'
  | 'INTERNAL'
  /** The connection was lost before the answer came; the request may or may not have been done. */
  | 'DISCONNECTED'
  /** No answer came in time. */
  | 'TIMEOUT'
  /** The client was closed, or the server said not to come back. */
  | 'CLOSED';

/** The one error that this package rejects with. */
export class PresenceError extends Error {
  override readonly name = 'PresenceError';
  readonly code: PresenceErrorCode;
  /** Whether the same request can succeed later. */
  readonly retryable: boolean;
  /** Of a list: the users that the error is about, such as those who may not be watched. */
  readonly userIds: readonly string[];

  constructor(code: PresenceErrorCode, message: string, retryable: boolean, userIds: readonly string[] = []) {
    super(message);
    this.code = code;
    this.retryable = retryable;
    this.userIds = userIds;
  }
}
