import { isIP } from 'node:net';

/** Longest line of version 1, with its end. */
const maxLineBytes = 107;
const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const headBytes = 16;
/** Addresses and what proxies add to them; the field could tell of 64 KiB. */
const maxBodyBytes = 2048;

/** What the first bytes of a connection say of where it comes from. */
export type Preamble =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'malformed' }
  /** `address` is undefined where the proxy speaks for itself. */
  | { readonly kind: 'complete'; readonly bytes: number; readonly address: string | undefined };

const incomplete: Preamble = { kind: 'incomplete' };
const malformed: Preamble = { kind: 'malformed' };

/** Reads a PROXY protocol preamble, version 1 or 2. */
export function readPreamble(bytes: Buffer): Preamble {
  if (isPrefix(signature, bytes)) return readBinary(bytes);
  return isPrefix(Buffer.from('PROXY '), bytes) ? readLine(bytes) : malformed;
}

/** Whether one begins with the other, as far as both go. */
function isPrefix(expected: Buffer, bytes: Buffer): boolean {
  const length = Math.min(expected.length, bytes.length);
  return expected.subarray(0, length).equals(bytes.subarray(0, length));
}

function readLine(bytes: Buffer): Preamble {
  const end = bytes.subarray(0, maxLineBytes).indexOf('\r\n');
  if (end < 0) return bytes.length >= maxLineBytes ? malformed : incomplete;
  const [, protocol, source = '', destination = '', ...ports] = bytes.toString('latin1', 0, end).split(' ');
  const told: Preamble = { kind: 'complete', bytes: end + 2, address: undefined };
  if (protocol === 'UNKNOWN') return told;
  const version = protocol === 'TCP4' ? 4 : protocol === 'TCP6' ? 6 : -1;
  const arePorts =
    ports.length === 2 && ports.every((port) => /^\d{1,5}$/.test(port) && Number(port) < 65_536);
  if (isIP(source) !== version || isIP(destination) !== version || !arePorts) return malformed;
  return { ...told, address: source };
}

function readBinary(bytes: Buffer): Preamble {
  if (bytes.length < headBytes) return incomplete;
  const command = bytes.readUInt8(12);
  const family = bytes.readUInt8(13);
  const bodyBytes = bytes.readUInt16BE(14);
  if (bodyBytes > maxBodyBytes || (command !== 0x20 && command !== 0x21)) return malformed;
  const total = headBytes + bodyBytes;
  if (bytes.length < total) return incomplete;
  // LOCAL: a health check of the proxy itself.
  if (command === 0x20) return { kind: 'complete', bytes: total, address: undefined };
  if (family === 0x11 && bodyBytes >= 12) {
    return { kind: 'complete', bytes: total, address: bytes.subarray(16, 20).join('.') };
  }
  if (family === 0x21 && bodyBytes >= 36) {
    const groups = Array.from({ length: 8 }, (_, at) => bytes.readUInt16BE(headBytes + at * 2).toString(16));
    return { kind: 'complete', bytes: total, address: groups.join(':') };
  }
  // Datagrams and UNIX sockets are not what came here; an unspecified family tells of nobody.
  return family === 0x00 ? { kind: 'complete', bytes: total, address: undefined } : malformed;
}
