/**
 * The wire form of the few messages that make up nearly all traffic, written by hand: no message object, no bigint, no
 * second copy. What it does not know it leaves to the generated codec; fast-codec.test.ts holds the two equal.
 */
import type { Activity, Cause, UserState } from '../../core/presence.ts';
import type { WatchEvent } from '../../presence/subscription.ts';

const activityNumbers: Readonly<Record<Activity, number>> = {
  ACTIVE: 1,
  IDLE: 2,
  AWAY: 3,
  DO_NOT_DISTURB: 4,
};

const causeNumbers: Readonly<Record<Cause, number>> = {
  SET: 1,
  HEARTBEAT: 2,
  CONNECT: 3,
  DISCONNECT: 4,
  EXPIRED: 5,
  NODE_LOST: 6,
};

/** Tag of a field, for field numbers up to 15. */
const varint = (field: number): number => field << 3;
const text = (field: number): number => (field << 3) | 2;

/** More than all fields of a state besides its strings: 6 varints of at most 10 bytes, tags and lengths. */
const fixedStateBytes = 96;
const firstBytes = 16_384;

/** One buffer that messages are written into, then copied out in their exact size. */
class Writer {
  #bytes = Buffer.allocUnsafeSlow(firstBytes);
  #at = 0;

  begin(): void {
    this.#at = 0;
  }

  get position(): number {
    return this.#at;
  }

  /** A buffer of the message's own. */
  finish(): Buffer {
    const message = Buffer.allocUnsafe(this.#at);
    this.#bytes.copy(message, 0, 0, this.#at);
    return message;
  }

  reserve(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(2 * this.#bytes.length, this.#at + bytes));
    this.#bytes.copy(grown, 0, 0, this.#at);
    this.#bytes = grown;
  }

  /** A varint field of a whole number from 0 to 2^53 - 1; 0 is left out, as proto3 does. */
  number(tag: number, value: number): void {
    if (value === 0) return;
    this.#bytes[this.#at++] = tag;
    let rest = value;
    while (rest > 0x7fff_ffff) {
      this.#bytes[this.#at++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    while (rest > 0x7f) {
      this.#bytes[this.#at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[this.#at++] = rest;
  }

  string(tag: number, value: string): void {
    if (value === '') return;
    const start = this.#at;
    const { length } = value;
    const bytes = this.#bytes;
    // Most strings are short ASCII: for these a call into native code costs more than the copy.
    if (length < 64) {
      let at = start + 2;
      let index = 0;
      for (; index < length; index++) {
        const unit = value.charCodeAt(index);
        if (unit > 0x7f) break;
        bytes[at++] = unit;
      }
      if (index === length) {
        bytes[start] = tag;
        bytes[start + 1] = length;
        this.#at = at;
        return;
      }
    }
    const byteLength = Buffer.byteLength(value);
    this.number(tag, byteLength);
    this.#at += bytes.write(value, this.#at, 'utf8');
  }

  /** A message field whose content `write` writes. */
  message(tag: number, write: () => void): void {
    const start = this.#at;
    // Most messages are shorter than 128 bytes, so that their length takes one.
    this.#at = start + 2;
    write();
    const length = this.#at - start - 2;
    if (length > 0x7f) {
      const lengthBytes = length > 0x3fff ? 3 : 2;
      this.#bytes.copyWithin(start + 1 + lengthBytes, start + 2, this.#at);
      this.#at = start;
      this.number(tag, length);
      this.#at += length;
      return;
    }
    this.#bytes[start] = tag;
    this.#bytes[start + 1] = length;
  }
}

const writer = new Writer();

function stringBytes(state: UserState): number {
  const custom = state.customStatus;
  const units = state.userId.length + (custom ? custom.text.length + custom.emoji.length : 0);
  // A UTF-16 unit takes at most 3 bytes of UTF-8.
  return 3 * units;
}

function writeCustomStatus(tag: number, state: UserState): void {
  const custom = state.customStatus;
  if (!custom) return;
  writer.message(tag, () => {
    writer.string(text(1), custom.text);
    writer.string(text(2), custom.emoji);
    writer.number(varint(3), custom.expiresAtMs);
  });
}

/** UserStatusData. */
function writeState(state: UserState): void {
  writer.string(text(1), state.userId);
  writer.number(varint(2), state.status === 'ONLINE' ? 1 : 2);
  writer.number(varint(3), state.lastSeenMs);
  writer.number(varint(4), state.activity === null ? 0 : activityNumbers[state.activity]);
  writer.number(varint(5), state.sinceMs);
  writeCustomStatus(text(6), state);
  writer.number(varint(7), state.version);
}

/** GetUserStatusResponse of one state, or GetMultipleUserStatusResponse of many. */
export function encodeStates(states: readonly UserState[]): Buffer {
  writer.begin();
  writer.number(varint(1), 1);
  for (const state of states) {
    writer.reserve(fixedStateBytes + stringBytes(state));
    writer.message(text(2), () => writeState(state));
  }
  return writer.finish();
}

/** StatusUpdateEvent. */
export function encodeEvent({ state, snapshot }: WatchEvent): Buffer {
  writer.begin();
  writer.reserve(fixedStateBytes + stringBytes(state));
  writer.string(text(1), state.userId);
  writer.number(varint(2), state.status === 'ONLINE' ? 1 : 2);
  writer.number(varint(3), state.changedAtMs);
  writer.number(varint(4), snapshot ? 1 : 0);
  writer.number(varint(5), state.activity === null ? 0 : activityNumbers[state.activity]);
  writer.number(varint(6), state.lastSeenMs);
  writer.number(varint(7), state.cause === null ? 0 : causeNumbers[state.cause]);
  writer.number(varint(8), state.version);
  writeCustomStatus(text(9), state);
  return writer.finish();
}

/** SendHeartbeatResponse. */
export function encodeHeartbeat(accepted: boolean, nextInMs: number): Buffer {
  writer.begin();
  writer.number(varint(1), accepted ? 1 : 0);
  writer.number(varint(2), Math.max(1, Math.floor(nextInMs / 1000)));
  writer.number(varint(3), nextInMs);
  return writer.finish();
}

/**
 * The strings of a message that has nothing but strings of field 1, each of up to 127 bytes of ASCII; undefined:
 * the message is something else, and the generated codec decides what.
 *
 * @param most it stops after one more than this, which the use case refuses; default: no bound
 */
export function decodeStrings(bytes: Uint8Array, most = Number.POSITIVE_INFINITY): string[] | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const strings: string[] = [];
  let at = 0;
  while (at < buffer.length && strings.length <= most) {
    const length = buffer[at + 1];
    if (buffer[at] !== 0x0a || length === undefined || length > 0x7f) return undefined;
    const start = at + 2;
    at = start + length;
    if (at > buffer.length) return undefined;
    for (let index = start; index < at; index++) if ((buffer[index] as number) > 0x7f) return undefined;
    strings.push(buffer.toString('latin1', start, at));
  }
  return strings;
}
