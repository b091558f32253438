import { HeaderField } from './header-field.ts';
import { DynamicTable } from './hpack-dynamic-table.ts';
import { STATIC_FIELD_INDEX, STATIC_NAME_INDEX, STATIC_TABLE_LENGTH } from './hpack-tables.ts';
import { huffmanEncode, huffmanLength } from './huffman.ts';

export type HeaderPair = readonly [name: string, value: string];

/** Never put into any table, here or at an intermediary (RFC 7541 §7.1.3). */
const NEVER_INDEXED: ReadonlySet<string> = new Set([
  'authorization',
  'cookie',
  'proxy-authorization',
  'set-cookie',
]);

/** Hardly ever the same twice: they would only push others out of the table. */
const NOT_INDEXED: ReadonlySet<string> = new Set(['grpc-message', 'grpc-status-details-bin']);

const INDEXED = 0x80;
const LITERAL_INDEXED = 0x40;
const LITERAL_PLAIN = 0x00;
const LITERAL_NEVER = 0x10;
const SIZE_UPDATE = 0x20;

export interface HpackEncoderOptions {
  /** The peer's SETTINGS_HEADER_TABLE_SIZE. Default 4096, the protocol's initial value. */
  readonly maxTableBytes?: number;
  /** Use Huffman coding where it is not longer. Default true. */
  readonly huffman?: boolean;
  /** Names that no table may keep. Default: credentials and cookies. */
  readonly neverIndexed?: ReadonlySet<string>;
}

/**
 * The encoding half of HPACK (RFC 7541) with a dynamic table. The fixed blocks of a gRPC answer do not come
 * from here but from `encodeStateless`; this is for metadata, which repeats within a connection.
 */
export class HpackEncoder {
  private readonly table: DynamicTable;
  private readonly huffman: boolean;
  private readonly neverIndexed: ReadonlySet<string>;
  /** Positions by insertion number, so that an entry's index is a subtraction. */
  private readonly byField = new Map<string, number>();
  private readonly byName = new Map<string, number>();
  private insertions = 0;
  private pendingMinimum = -1;

  constructor(options: HpackEncoderOptions = {}) {
    this.table = new DynamicTable(options.maxTableBytes ?? 4096);
    this.huffman = options.huffman ?? true;
    this.neverIndexed = options.neverIndexed ?? NEVER_INDEXED;
  }

  get tableBytes(): number {
    return this.table.bytes;
  }

  /** The next block has to begin with a size update. */
  get sizeUpdateDue(): boolean {
    return this.pendingMinimum >= 0;
  }

  /** The peer changed SETTINGS_HEADER_TABLE_SIZE: the next block starts with size updates (RFC 7541 §4.2). */
  resize(maxTableBytes: number): void {
    if (maxTableBytes === this.table.maxBytes && this.pendingMinimum < 0) return;
    this.pendingMinimum =
      this.pendingMinimum < 0 ? maxTableBytes : Math.min(this.pendingMinimum, maxTableBytes);
    this.table.resize(maxTableBytes);
  }

  encode(fields: readonly HeaderPair[]): Buffer {
    const writer = new BlockWriter(blockBound(fields) + 16, this.huffman);
    if (this.pendingMinimum >= 0) {
      if (this.pendingMinimum < this.table.maxBytes) writer.integer(SIZE_UPDATE, 5, this.pendingMinimum);
      writer.integer(SIZE_UPDATE, 5, this.table.maxBytes);
      this.pendingMinimum = -1;
    }
    for (const [name, value] of fields) this.writeField(writer, name, value);
    return writer.finish();
  }

  private writeField(writer: BlockWriter, name: string, value: string): void {
    if (this.neverIndexed.has(name)) {
      writer.literal(LITERAL_NEVER, 4, this.nameIndex(name), name, value);
      return;
    }
    const key = `${name}\0${value}`;
    const index = STATIC_FIELD_INDEX.get(key) ?? this.dynamicIndex(this.byField.get(key));
    if (index !== 0) {
      writer.integer(INDEXED, 7, index);
      return;
    }
    const field = new HeaderField(name, value);
    if (field.size > this.table.maxBytes || NOT_INDEXED.has(name)) {
      writer.literal(LITERAL_PLAIN, 4, this.nameIndex(name), name, value);
      return;
    }
    writer.literal(LITERAL_INDEXED, 6, this.nameIndex(name), name, value);
    this.table.insert(field);
    this.insertions++;
    this.byField.set(key, this.insertions);
    this.byName.set(name, this.insertions);
    if (this.byField.size > 2 * this.table.length + 16) this.forgetEvicted();
  }

  private nameIndex(name: string): number {
    return STATIC_NAME_INDEX.get(name) ?? this.dynamicIndex(this.byName.get(name));
  }

  /** The HPACK index of the entry that was inserted as number `insertion`, or 0 if it is gone. */
  private dynamicIndex(insertion: number | undefined): number {
    if (insertion === undefined) return 0;
    const position = this.insertions - insertion;
    return position < this.table.length ? STATIC_TABLE_LENGTH + 1 + position : 0;
  }

  private forgetEvicted(): void {
    for (const map of [this.byField, this.byName]) {
      for (const [key, insertion] of map) if (this.dynamicIndex(insertion) === 0) map.delete(key);
    }
  }
}

/** Encodes without any table but the static one: the bytes are right on every connection, at any time. */
export function encodeStateless(fields: readonly HeaderPair[]): Buffer {
  const writer = new BlockWriter(blockBound(fields), true);
  for (const [name, value] of fields) {
    const index = STATIC_FIELD_INDEX.get(`${name}\0${value}`);
    if (index !== undefined) writer.integer(INDEXED, 7, index);
    else writer.literal(LITERAL_PLAIN, 4, STATIC_NAME_INDEX.get(name) ?? 0, name, value);
  }
  return writer.finish();
}

/** Size by RFC 9113 §6.5.2: what SETTINGS_MAX_HEADER_LIST_SIZE limits. */
export function headerListBytes(fields: readonly HeaderPair[]): number {
  let bytes = 0;
  for (const [name, value] of fields) bytes += name.length + value.length + 32;
  return bytes;
}

function blockBound(fields: readonly HeaderPair[]): number {
  let bytes = 0;
  // Huffman is used only where it is not longer; a length takes at most 6 octets, and there are three integers.
  for (const [name, value] of fields) bytes += name.length + value.length + 18;
  return bytes;
}

class BlockWriter {
  private readonly bytes: Buffer;
  private readonly huffman: boolean;
  private position = 0;

  constructor(capacity: number, huffman: boolean) {
    this.bytes = Buffer.allocUnsafe(capacity);
    this.huffman = huffman;
  }

  /** RFC 7541 §5.1. */
  integer(pattern: number, prefixBits: number, value: number): void {
    const mask = (1 << prefixBits) - 1;
    if (value < mask) {
      this.bytes[this.position++] = pattern | value;
      return;
    }
    this.bytes[this.position++] = pattern | mask;
    let rest = value - mask;
    while (rest >= 0x80) {
      this.bytes[this.position++] = (rest & 0x7f) | 0x80;
      rest = Math.floor(rest / 128);
    }
    this.bytes[this.position++] = rest;
  }

  literal(pattern: number, prefixBits: number, nameIndex: number, name: string, value: string): void {
    this.integer(pattern, prefixBits, nameIndex);
    if (nameIndex === 0) this.string(name);
    this.string(value);
  }

  /** RFC 7541 §5.2. */
  private string(text: string): void {
    const packed = this.huffman ? huffmanLength(text) : Number.POSITIVE_INFINITY;
    if (packed <= text.length && text !== '') {
      this.integer(0x80, 7, packed);
      this.position = huffmanEncode(text, this.bytes, this.position);
    } else {
      this.integer(0, 7, text.length);
      this.position += this.bytes.write(text, this.position, 'latin1');
    }
  }

  finish(): Buffer {
    // An own copy of exact size: prebuilt blocks live as long as the process.
    const block = Buffer.allocUnsafeSlow(this.position);
    this.bytes.copy(block, 0, 0, this.position);
    return block;
  }
}
