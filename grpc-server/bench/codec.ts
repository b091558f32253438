/**
 * The messages of the benchmark and a hand-written codec, the same for every server:
 * GetUserStatusRequest { string user_id = 1; }
 * UserStatusData { string user_id = 1; UserStatus status = 2; int64 last_seen = 3; }
 */
import type { MethodDefinition } from '../src/index.ts';

export interface GetUserStatusRequest {
  readonly userId: string;
}

export interface UserStatusData {
  readonly userId: string;
  readonly status: number;
  readonly lastSeenMs: number;
}

export function encodeRequest(request: GetUserStatusRequest): Buffer {
  const id = Buffer.from(request.userId, 'utf8');
  return Buffer.concat([Buffer.from([0x0a, id.length]), id]);
}

export function decodeRequest(bytes: Uint8Array): GetUserStatusRequest {
  let userId = '';
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at++] as number;
    if (tag !== 0x0a) throw new RangeError(`unexpected tag ${tag}`);
    const length = bytes[at++] as number;
    if (length > 127 || at + length > bytes.length) throw new RangeError('bad length');
    userId = Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString('utf8');
    at += length;
  }
  return { userId };
}

export function encodeStatus(data: UserStatusData): Buffer {
  const target = Buffer.allocUnsafe(16 + 3 * data.userId.length);
  const idBytes = target.write(data.userId, 2, 'utf8');
  target[0] = 0x0a;
  target[1] = idBytes;
  let at = 2 + idBytes;
  target[at++] = 0x10;
  target[at++] = data.status;
  target[at++] = 0x18;
  let rest = data.lastSeenMs;
  while (rest >= 0x80) {
    target[at++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  target[at++] = rest;
  return target.subarray(0, at);
}

const SERVICE = '/presence.v1.PresenceService';

export const GET: MethodDefinition<GetUserStatusRequest, UserStatusData> = {
  path: `${SERVICE}/GetUserStatus`,
  kind: 'unary',
  decode: decodeRequest,
  encode: encodeStatus,
};

/** The same through a promise, as a handler that asks a database does. */
export const GET_LATER: MethodDefinition<GetUserStatusRequest, UserStatusData> = {
  ...GET,
  path: `${SERVICE}/GetUserStatusLater`,
};

/** Sends STREAM_MESSAGES messages and ends. */
export const LIST: MethodDefinition<GetUserStatusRequest, UserStatusData> = {
  ...GET,
  path: `${SERVICE}/ListUserStatus`,
  kind: 'server-stream',
};

/** Sends one message at once, and one with each broadcast. */
export const WATCH: MethodDefinition<GetUserStatusRequest, UserStatusData> = {
  ...GET,
  path: `${SERVICE}/SubscribeStatusUpdates`,
  kind: 'server-stream',
};

export const STREAM_MESSAGES = 100;
