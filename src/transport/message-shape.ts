import { isUtf8 } from 'node:buffer';
import type { DescMessage } from '@bufbuild/protobuf';
import { PresenceError } from '../core/errors.ts';

/**
 * What a message may be made of, whatever its bytes: looked at before it is parsed, since parsing costs by the number of
 * things in it and by how deep they are nested.
 */

/** Our messages nest 3 deep; what is deeper stands in fields that this server does not know. */
const maxDepth = 32;
/** A user id takes at most 128 bytes, and its tag and length. */
const userIdBytes = 131;
/** A known version beside each id, as a packed varint. */
const versionBytes = 10;
/** What a message may have beside lists of users. */
const spareItems = 1024;
const minRequestBytes = 64 * 1024;
/** A token of 8 KiB, a user id, a device, a resume token; in JSON each may be escaped. */
export const maxHelloBytes = 16 * 1024;

export interface ListBounds {
  readonly maxWatchedUsers: number;
  readonly maxBulkUsers: number;
  readonly maxBlockedUsers: number;
}

/** Most bytes of a protobuf message that names up to so many users. */
export function maxRequestBytes(users: number): number {
  return Math.max(minRequestBytes, users * (userIdBytes + versionBytes));
}

/** Most fields, values or list items of any message of a client. */
export function maxItems({ maxWatchedUsers, maxBulkUsers, maxBlockedUsers }: ListBounds): number {
  // Of each watched user the id and the version; who is blocked and who no longer.
  return 2 * Math.max(maxWatchedUsers, maxBulkUsers, maxBlockedUsers) + spareItems;
}

/** @throws PresenceError INVALID_ARGUMENT: more fields and list items than any message needs */
export function checkProto(desc: DescMessage, bytes: Uint8Array, items: number): void {
  countFields(shapeOf(desc), bytes, 0, bytes.length, items);
}

/**
 * What JSON.parse would settle in silence is refused too: bytes that are not UTF-8, which would all become the same
 * character, and a field that is given twice, of which it keeps the last.
 *
 * @throws PresenceError INVALID_ARGUMENT: also nested deeper, or with more values, than any message needs
 */
export function checkJson(bytes: Uint8Array, items: number): void {
  if (!isUtf8(bytes)) throw PresenceError.invalidArgument('the JSON', 'must be UTF-8');
  /** Of each open object the names so far; of a list null. */
  const open: (Set<string> | null)[] = [];
  let isName = false;
  let left = items;
  for (let at = 0; at < bytes.length; at++) {
    switch (bytes[at]) {
      case quote: {
        const end = endOfString(bytes, at + 1);
        if (isName) addName(open.at(-1), bytes.subarray(at, end + 1));
        isName = false;
        at = end;
        break;
      }
      case openBrace:
      case openBracket:
        isName = bytes[at] === openBrace;
        open.push(isName ? new Set() : null);
        if (open.length > maxDepth)
          throw PresenceError.invalidArgument('the JSON', `nests deeper than ${maxDepth}`);
        if (--left < 0) throw tooManyItems();
        break;
      case closeBrace:
      case closeBracket:
        open.pop();
        isName = false;
        break;
      case comma:
        isName = open.at(-1) != null;
        if (--left < 0) throw tooManyItems();
        break;
    }
  }
}

/** @param quoted the name as it is written, with its quotes */
function addName(names: Set<string> | null | undefined, quoted: Uint8Array): void {
  const text = Buffer.from(quoted.buffer, quoted.byteOffset, quoted.length).toString();
  let name = text;
  if (quoted.includes(backslash)) {
    try {
      name = JSON.stringify(JSON.parse(text));
    } catch {
      // No JSON, which the parser says.
    }
  }
  if (names?.has(name)) {
    throw PresenceError.invalidArgument('the JSON', `has ${name.slice(0, 100)} twice in one object`);
  }
  names?.add(name);
}

const quote = 0x22;
const comma = 0x2c;
const openBracket = 0x5b;
const backslash = 0x5c;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

/** Where the closing quote is, or the end. */
function endOfString(bytes: Uint8Array, start: number): number {
  let at = start;
  while (at < bytes.length && bytes[at] !== quote) at += bytes[at] === backslash ? 2 : 1;
  return at;
}

/** Numbers of the fields that are messages, and of those that are lists of numbers. */
interface Shape {
  readonly messages: ReadonlyMap<number, DescMessage>;
  readonly packed: ReadonlySet<number>;
}

const shapes = new WeakMap<DescMessage, Shape>();

function shapeOf(desc: DescMessage): Shape {
  let shape = shapes.get(desc);
  if (!shape) {
    const messages = new Map<number, DescMessage>();
    const packed = new Set<number>();
    for (const field of desc.fields) {
      if (field.message) messages.set(field.number, field.message);
      else if (field.fieldKind === 'list' && field.packed) packed.add(field.number);
    }
    shape = { messages, packed };
    shapes.set(desc, shape);
  }
  return shape;
}

/** Answers how many of `left` are left. What is no protobuf is left to the parser, which refuses it. */
function countFields(shape: Shape, bytes: Uint8Array, start: number, end: number, left: number): number {
  let rest = left;
  let at = start;
  while (at < end) {
    if (--rest < 0) throw tooManyItems();
    const tag = readVarint(bytes, at, end);
    at = varintEnd(bytes, at, end);
    switch (tag & 7) {
      case 0:
        at = varintEnd(bytes, at, end);
        break;
      case 1:
        at += 8;
        break;
      case 5:
        at += 4;
        break;
      case 2: {
        const length = readVarint(bytes, at, end);
        const from = varintEnd(bytes, at, end);
        at = from + length;
        if (at > end) return rest;
        const number = tag >>> 3;
        const inner = shape.messages.get(number);
        if (inner) rest = countFields(shapeOf(inner), bytes, from, at, rest);
        else if (shape.packed.has(number)) rest -= countVarints(bytes, from, at);
        if (rest < 0) throw tooManyItems();
        break;
      }
      // A group begins or ends: its fields count as any others. The parser bounds how deep they nest.
    }
  }
  return rest;
}

function countVarints(bytes: Uint8Array, start: number, end: number): number {
  let count = 0;
  for (let at = start; at < end; at++) if ((bytes[at] as number) < 0x80) count++;
  return count;
}

function varintEnd(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && (bytes[at] as number) > 0x7f) at++;
  return at + 1;
}

/** Of up to 32 bits: tags and lengths. */
function readVarint(bytes: Uint8Array, start: number, end: number): number {
  let value = 0;
  for (let at = start, shift = 0; at < end && shift < 35; at++, shift += 7) {
    const byte = bytes[at] as number;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) break;
  }
  return value >>> 0;
}

function tooManyItems(): PresenceError {
  return PresenceError.invalidArgument('the message', 'has more values than any request needs');
}
