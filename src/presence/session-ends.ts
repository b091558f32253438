/** Why a session ends by the server's will: one row of the table in docs/protocol.md, which a test compares. */
export interface SessionEndRow {
  /** WebSocket close code. Its range says whether to come back: see comesBack. */
  readonly closeCode: number;
  /** Name of the gRPC status that ends a Connect stream. */
  readonly grpcStatus: string;
  /** One sentence for people; sent. */
  readonly reason: string;
}

export const sessionEnds = {
  GOODBYE: { closeCode: 1000, grpcStatus: 'OK', reason: 'goodbye' },
  FRAME_TOO_LARGE: {
    closeCode: 1009,
    grpcStatus: 'RESOURCE_EXHAUSTED',
    reason: 'a frame is larger than MAX_FRAME_BYTES, or the first one than 16 KiB',
  },
  INTERNAL: { closeCode: 1011, grpcStatus: 'INTERNAL', reason: 'internal error' },
  DRAINING: { closeCode: 1012, grpcStatus: 'UNAVAILABLE', reason: 'the server is stopping' },
  HELLO_TIMEOUT: { closeCode: 4000, grpcStatus: 'DEADLINE_EXCEEDED', reason: 'no hello came in time' },
  PING_TIMEOUT: { closeCode: 4001, grpcStatus: 'UNAVAILABLE', reason: 'no answer to a ping in time' },
  TOO_SLOW: {
    closeCode: 4002,
    grpcStatus: 'RESOURCE_EXHAUSTED',
    reason: 'what was sent was not read in time',
  },
  RATE_LIMITED: { closeCode: 4003, grpcStatus: 'RESOURCE_EXHAUSTED', reason: 'too many frames' },
  ENGINE_AWAY: { closeCode: 4004, grpcStatus: 'UNAVAILABLE', reason: 'the engine does not answer' },
  TOKEN_EXPIRED: {
    closeCode: 4005,
    grpcStatus: 'UNAUTHENTICATED',
    reason: 'the token has expired; come back with a new one',
  },
  LIMITED: {
    closeCode: 4006,
    grpcStatus: 'RESOURCE_EXHAUSTED',
    reason: 'a limit has no room for this session now',
  },
  UNREADABLE_FRAME: {
    closeCode: 4007,
    grpcStatus: 'INVALID_ARGUMENT',
    reason: 'a frame cannot be read, and names no request',
  },
  CROWDED_OUT: {
    closeCode: 4008,
    grpcStatus: 'RESOURCE_EXHAUSTED',
    reason: 'too many sessions wait for their hello, and this was the oldest; see MAX_SESSIONS_WITHOUT_HELLO',
  },
  REPLACED: {
    closeCode: 4500,
    grpcStatus: 'RESOURCE_EXHAUSTED',
    reason: 'the user has too many sessions, and this was the oldest',
  },
  BAD_FRAME: { closeCode: 4501, grpcStatus: 'INVALID_ARGUMENT', reason: 'the first frame is not a hello' },
  BAD_HELLO: { closeCode: 4502, grpcStatus: 'INVALID_ARGUMENT', reason: 'the hello is not valid' },
  UNAUTHORIZED: {
    closeCode: 4503,
    grpcStatus: 'UNAUTHENTICATED',
    reason: 'the token is missing, not valid, or not for this user',
  },
  WITHDRAWN: {
    closeCode: 4503,
    grpcStatus: 'UNAUTHENTICATED',
    reason: 'the token or key was withdrawn, or allows less than before',
  },
  USER_NOT_FOUND: {
    closeCode: 4504,
    grpcStatus: 'NOT_FOUND',
    reason: 'the user directory does not have this user',
  },
  DELETED: { closeCode: 4505, grpcStatus: 'NOT_FOUND', reason: 'the user was deleted' },
} as const satisfies Record<string, SessionEndRow>;

export type SessionEnd = keyof typeof sessionEnds;

/**
 * Whether a client is to come back after a close code: 3000 to 3499 and 4000 to 4499 say yes, 3500 to 3999 and 4500 to
 * 4999 no. Of the standard codes those that tell of the server or the way (1001, 1005, 1006, 1011 to 1014) say yes,
 * and so do those of one bad message (1007, 1009).
 */
export function comesBack(closeCode: number): boolean {
  if (closeCode >= 3000) return closeCode % 1000 < 500;
  return [1001, 1005, 1006, 1007, 1009, 1011, 1012, 1013, 1014].includes(closeCode);
}
