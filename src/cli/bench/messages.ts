/** The contract's messages as bytes: requests made once, answers read without making objects of them. */

export const userOnline = 1;
export const userOffline = 2;

const service = '/presence.v1.PresenceService';
export const paths = {
  heartbeat: `${service}/SendHeartbeat`,
  set: `${service}/SetUserStatus`,
  get: `${service}/GetUserStatus`,
  getMany: `${service}/GetMultipleUserStatus`,
  subscribe: `${service}/SubscribeStatusUpdates`,
  connect: `${service}/Connect`,
} as const;

function lengthBytes(length: number): number[] {
  const bytes: number[] = [];
  let rest = length;
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return bytes;
}

/** A field of bytes: a string or a message. */
export function field(number: number, content: Uint8Array | string): Buffer {
  const bytes = Buffer.from(content as string);
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...lengthBytes(bytes.length)]), bytes]);
}

const number = (fieldNumber: number, value: number): Buffer =>
  Buffer.from([fieldNumber << 3, ...lengthBytes(value)]);

/** SendHeartbeatRequest, GetUserStatusRequest. */
export const userRequest = (userId: string): Buffer => field(1, userId);

/** SetUserStatusRequest. */
export const setRequest = (userId: string, status: number): Buffer =>
  Buffer.concat([field(1, userId), number(2, status)]);

/** GetMultipleUserStatusRequest. */
export const bulkRequest = (userIds: readonly string[]): Buffer =>
  Buffer.concat(userIds.map((userId) => field(1, userId)));

/** SubscribeStatusUpdatesRequest. */
export const subscribeRequest = (userId: string, watchUserIds: readonly string[]): Buffer =>
  Buffer.concat([
    ...(userId === '' ? [] : [field(1, userId)]),
    ...watchUserIds.map((watched) => field(2, watched)),
  ]);

/** ClientFrame with a hello. */
export const helloFrame = (userId: string): Buffer =>
  Buffer.concat([number(1, 1), field(2, field(1, userId))]);

/** ClientFrame with a watch. */
export const watchFrame = (userIds: readonly string[]): Buffer =>
  Buffer.concat([number(1, 2), field(5, Buffer.concat(userIds.map((userId) => field(1, userId))))]);

/** ClientFrame with a goodbye. */
export const goodbyeFrame = Buffer.concat([number(1, 3), field(9, '')]);

/** What of a StatusUpdateEvent the load generator looks at. One object, written anew by every read. */
export interface SeenEvent {
  /** The number at the end of the user id. */
  user: number;
  status: number;
  snapshot: boolean;
}

export const seen: SeenEvent = { user: 0, status: 0, snapshot: false };

/** Where the last varint read ended. */
let position = 0;

function readVarint(bytes: Uint8Array, at: number): number {
  let value = 0;
  let factor = 1;
  for (let index = at; ; index++) {
    const byte = bytes[index] as number;
    value += (byte & 0x7f) * factor;
    if (byte < 0x80 || byte === undefined) {
      position = index + 1;
      return value;
    }
    factor *= 128;
  }
}

/** Reads a StatusUpdateEvent into `seen`. */
export function readEvent(bytes: Uint8Array, start: number, end: number): void {
  seen.user = -1;
  seen.status = 0;
  seen.snapshot = false;
  let at = start;
  while (at < end) {
    const tag = bytes[at] as number;
    const value = readVarint(bytes, at + 1);
    at = position;
    if (tag === 0x0a) seen.user = trailingNumber(bytes, at, at + value);
    else if (tag === 0x10) seen.status = value;
    else if (tag === 0x20) seen.snapshot = value === 1;
    if ((tag & 7) === 2) at += value;
  }
}

/** Kinds of ServerFrame that matter here. */
export const serverFrame = { welcome: 2, events: 3, ack: 4, error: 5, goingAway: 7 } as const;

/**
 * Reads a ServerFrame: answers its kind (a field number), and calls `onEvent` for each of its events, which is then in
 * `seen`.
 */
export function readServerFrame(bytes: Uint8Array, start: number, end: number, onEvent: () => void): number {
  let kind = 0;
  let at = start;
  while (at < end) {
    const tag = bytes[at] as number;
    const value = readVarint(bytes, at + 1);
    at = position;
    if ((tag & 7) !== 2) continue;
    kind = tag >>> 3;
    const fieldEnd = at + value;
    if (kind === serverFrame.events) {
      while (at < fieldEnd) {
        const length = readVarint(bytes, at + 1);
        at = position;
        readEvent(bytes, at, at + length);
        onEvent();
        at += length;
      }
    }
    at = fieldEnd;
  }
  return kind;
}

function trailingNumber(bytes: Uint8Array, start: number, end: number): number {
  let value = 0;
  let factor = 1;
  for (let at = end - 1; at >= start; at--) {
    const digit = (bytes[at] as number) - 0x30;
    if (digit < 0 || digit > 9) break;
    value += digit * factor;
    factor *= 10;
  }
  return value;
}
