/**
 * A second HPACK (RFC 7541), written apart from the package's own, so that a bug in that one cannot hide
 * behind itself. The encoder only writes literals without indexing; the decoder does everything and is strict.
 */

export type Field = readonly [name: string, value: string];

/** Code lengths of RFC 7541 Appendix B for the symbols 0..255 and EOS. The code is canonical, so lengths are enough. */
const HUFFMAN_LENGTHS: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const EOS = 256;

/** Code of every symbol as a string of '0' and '1'. */
const HUFFMAN_CODES: readonly string[] = canonicalCodes(HUFFMAN_LENGTHS);
const SYMBOL_OF_CODE: ReadonlyMap<string, number> = new Map(
  HUFFMAN_CODES.map((code, symbol) => [code, symbol]),
);

function canonicalCodes(lengths: readonly number[]): string[] {
  const codes = new Array<string>(lengths.length);
  let code = 0;
  for (let length = 1; length <= 30; length++) {
    code *= 2;
    for (const [symbol, symbolLength] of lengths.entries()) {
      if (symbolLength !== length) continue;
      codes[symbol] = code.toString(2).padStart(length, '0');
      code++;
    }
  }
  if (code !== 2 ** 30) throw new Error('the Huffman code is not complete');
  return codes;
}

export function huffmanEncode(text: string): Buffer {
  let bits = '';
  for (const byte of Buffer.from(text, 'latin1')) bits += HUFFMAN_CODES[byte];
  while (bits.length % 8 !== 0) bits += '1';
  return Buffer.from((bits.match(/.{8}/g) ?? []).map((octet) => Number.parseInt(octet, 2)));
}

export function huffmanDecode(bytes: Uint8Array): string {
  const out: number[] = [];
  let code = '';
  for (const byte of bytes) {
    for (const bit of byte.toString(2).padStart(8, '0')) {
      code += bit;
      const symbol = SYMBOL_OF_CODE.get(code);
      if (symbol === undefined) continue;
      if (symbol === EOS) throw new Error('EOS in a Huffman string');
      out.push(symbol);
      code = '';
    }
  }
  if (code.length > 7 || code.includes('0')) throw new Error('bad Huffman padding');
  return Buffer.from(out).toString('latin1');
}

/** RFC 7541 section 5.1; `flags` are the bits above the prefix. */
export function integer(value: number, prefixBits: number, flags = 0): Buffer {
  const max = 2 ** prefixBits - 1;
  if (value < max) return Buffer.from([flags | value]);
  const out = [flags | max];
  let rest = value - max;
  while (rest >= 128) {
    out.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  out.push(rest);
  return Buffer.from(out);
}

export function string(text: string | Uint8Array): Buffer {
  const bytes = typeof text === 'string' ? Buffer.from(text, 'latin1') : text;
  return Buffer.concat([integer(bytes.length, 7), bytes]);
}

/** Literal without indexing, new name. Strings are latin1, one character per byte. */
export function literal(name: string | Uint8Array, value: string | Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([0x00]), string(name), string(value)]);
}

/** Literal with incremental indexing, new name. */
export function literalIndexed(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0x40]), string(name), string(value)]);
}

export function encode(fields: readonly Field[]): Buffer {
  return Buffer.concat(fields.map(([name, value]) => literal(name, value)));
}

const STATIC_TABLE: readonly Field[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  [':status', '200'],
  [':status', '204'],
  [':status', '206'],
  [':status', '304'],
  [':status', '400'],
  [':status', '404'],
  [':status', '500'],
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ['accept-language', ''],
  ['accept-ranges', ''],
  ['accept', ''],
  ['access-control-allow-origin', ''],
  ['age', ''],
  ['allow', ''],
  ['authorization', ''],
  ['cache-control', ''],
  ['content-disposition', ''],
  ['content-encoding', ''],
  ['content-language', ''],
  ['content-length', ''],
  ['content-location', ''],
  ['content-range', ''],
  ['content-type', ''],
  ['cookie', ''],
  ['date', ''],
  ['etag', ''],
  ['expect', ''],
  ['expires', ''],
  ['from', ''],
  ['host', ''],
  ['if-match', ''],
  ['if-modified-since', ''],
  ['if-none-match', ''],
  ['if-range', ''],
  ['if-unmodified-since', ''],
  ['last-modified', ''],
  ['link', ''],
  ['location', ''],
  ['max-forwards', ''],
  ['proxy-authenticate', ''],
  ['proxy-authorization', ''],
  ['range', ''],
  ['referer', ''],
  ['refresh', ''],
  ['retry-after', ''],
  ['server', ''],
  ['set-cookie', ''],
  ['strict-transport-security', ''],
  ['transfer-encoding', ''],
  ['user-agent', ''],
  ['vary', ''],
  ['via', ''],
  ['www-authenticate', ''],
];

export class Decoder {
  #table: Field[] = [];
  #tableBytes = 0;
  #maxBytes = 4096;
  #limitBytes = 4096;
  #mustShrink = false;

  /** SETTINGS_HEADER_TABLE_SIZE that the other side has acknowledged. */
  setLimit(bytes: number): void {
    if (bytes < this.#maxBytes) this.#mustShrink = true;
    this.#limitBytes = bytes;
  }

  decode(block: Uint8Array): Field[] {
    const reader = new BlockReader(block);
    const fields: Field[] = [];
    while (!reader.done) {
      const first = reader.peek();
      if ((first & 0xe0) === 0x20) {
        if (fields.length > 0) throw new Error('a table size update after the first field');
        this.#resize(reader.integer(5));
        continue;
      }
      if (this.#mustShrink) throw new Error('the block does not start with the table size update it owes');
      if (first & 0x80) fields.push(this.#lookUp(reader.integer(7)));
      else fields.push(this.#literal(reader, first));
    }
    return fields;
  }

  #literal(reader: BlockReader, first: number): Field {
    const indexing = (first & 0xc0) === 0x40;
    const index = reader.integer(indexing ? 6 : 4);
    const name = index === 0 ? reader.string() : this.#lookUp(index)[0];
    const field: Field = [name, reader.string()];
    if (indexing) {
      this.#table.unshift(field);
      this.#tableBytes += sizeOf(field);
      this.#evict();
    }
    return field;
  }

  #lookUp(index: number): Field {
    const field =
      index <= STATIC_TABLE.length ? STATIC_TABLE[index - 1] : this.#table[index - STATIC_TABLE.length - 1];
    if (field === undefined) throw new Error(`no field at index ${index}`);
    return field;
  }

  #resize(bytes: number): void {
    if (bytes > this.#limitBytes)
      throw new Error(`table size ${bytes} is above the limit ${this.#limitBytes}`);
    this.#maxBytes = bytes;
    this.#mustShrink = false;
    this.#evict();
  }

  #evict(): void {
    while (this.#tableBytes > this.#maxBytes) {
      const field = this.#table.pop();
      if (field === undefined) throw new Error('the table accounting is wrong');
      this.#tableBytes -= sizeOf(field);
    }
  }
}

function sizeOf([name, value]: Field): number {
  return name.length + value.length + 32;
}

class BlockReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length;
  }

  peek(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw new Error('the block is truncated');
    return byte;
  }

  integer(prefixBits: number): number {
    const max = 2 ** prefixBits - 1;
    let value = this.peek() & max;
    this.#at++;
    if (value < max) return value;
    for (let scale = 1; ; scale *= 128) {
      if (scale > 2 ** 28) throw new Error('an integer is too long');
      const byte = this.peek();
      this.#at++;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  }

  string(): string {
    const huffman = (this.peek() & 0x80) !== 0;
    const length = this.integer(7);
    const bytes = this.#bytes.subarray(this.#at, this.#at + length);
    if (bytes.length !== length) throw new Error('a string is truncated');
    this.#at += length;
    return huffman ? huffmanDecode(bytes) : Buffer.from(bytes).toString('latin1');
  }
}
