/**
 * One header field as HPACK sees it: immutable, shared between tables and requests, with everything that
 * can be known of it alone (size, validity, meaning) worked out once.
 */

/** What a request field means to us; 0 for everything else. */
export const Token = {
  OTHER: 0,
  METHOD: 1,
  SCHEME: 2,
  PATH: 3,
  AUTHORITY: 4,
  UNKNOWN_PSEUDO: 5,
  CONTENT_TYPE: 6,
  CONTENT_LENGTH: 7,
  HOST: 8,
  TE: 9,
  GRPC_TIMEOUT: 10,
  GRPC_ENCODING: 11,
  GRPC_ACCEPT_ENCODING: 12,
  /** A field that must not appear in HTTP/2 at all (RFC 9113 §8.2.2). */
  CONNECTION_SPECIFIC: 13,
} as const;

const TOKENS: ReadonlyMap<string, number> = new Map<string, number>([
  [':method', Token.METHOD],
  [':scheme', Token.SCHEME],
  [':path', Token.PATH],
  [':authority', Token.AUTHORITY],
  ['content-type', Token.CONTENT_TYPE],
  ['content-length', Token.CONTENT_LENGTH],
  ['host', Token.HOST],
  ['te', Token.TE],
  ['grpc-timeout', Token.GRPC_TIMEOUT],
  ['grpc-encoding', Token.GRPC_ENCODING],
  ['grpc-accept-encoding', Token.GRPC_ACCEPT_ENCODING],
  ['connection', Token.CONNECTION_SPECIFIC],
  ['proxy-connection', Token.CONNECTION_SPECIFIC],
  ['keep-alive', Token.CONNECTION_SPECIFIC],
  ['transfer-encoding', Token.CONNECTION_SPECIFIC],
  ['upgrade', Token.CONNECTION_SPECIFIC],
]);

/** RFC 7541 §4.1: every entry is charged 32 bytes beside its octets. */
export const ENTRY_OVERHEAD_BYTES = 32;

const COLON = 0x3a;

export class HeaderField {
  readonly name: string;
  /** One character per octet (latin1): HTTP field values have no character set. */
  readonly value: string;
  /** Octets of name and value plus 32 (RFC 7541 §4.1). */
  readonly size: number;
  readonly token: number;
  /** False when the field makes its message malformed whatever else is in it (RFC 9113 §8.2). */
  readonly valid: boolean;

  constructor(name: string, value: string) {
    const token = TOKENS.get(name) ?? (name.charCodeAt(0) === COLON ? Token.UNKNOWN_PSEUDO : Token.OTHER);
    this.name = name;
    this.value = value;
    this.size = name.length + value.length + ENTRY_OVERHEAD_BYTES;
    this.token = token;
    this.valid =
      isValidName(name) &&
      isValidValue(value) &&
      token !== Token.CONNECTION_SPECIFIC &&
      (token !== Token.TE || value === 'trailers');
  }
}

/** RFC 9113 §8.2.1: no 0x00-0x20, 'A'-'Z', 0x7f-0xff; ':' only as the first octet of a pseudo field. */
function isValidName(name: string): boolean {
  if (name.length === 0) return false;
  for (let i = 0; i < name.length; i++) {
    const c = name.charCodeAt(i);
    if (c <= 0x20 || c >= 0x7f || (c >= 0x41 && c <= 0x5a) || (c === COLON && i > 0)) return false;
  }
  return true;
}

/** RFC 9113 §8.2.1: no NUL, CR, LF; no space or tab at either end. */
function isValidValue(value: string): boolean {
  if (value.length === 0) return true;
  if (isBlank(value.charCodeAt(0)) || isBlank(value.charCodeAt(value.length - 1))) return false;
  for (let i = 0; i < value.length; i++) {
    const c = value.charCodeAt(i);
    if (c === 0x00 || c === 0x0a || c === 0x0d) return false;
  }
  return true;
}

function isBlank(c: number): boolean {
  return c === 0x20 || c === 0x09;
}
