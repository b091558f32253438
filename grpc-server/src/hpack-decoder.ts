import { ConnectionError, H2Error } from './errors.ts';
import { HeaderField } from './header-field.ts';
import { DynamicTable } from './hpack-dynamic-table.ts';
import { STATIC_TABLE, STATIC_TABLE_LENGTH } from './hpack-tables.ts';
import { huffmanDecode } from './huffman.ts';

/** RFC 7541 §5.1 sets no bound; five continuation octets hold every 32-bit value (CVE-2023-33953). */
const MAX_INTEGER_CONTINUATIONS = 5;
const MAX_INTEGER = 0xffff_ffff;

/** Most size updates at the start of one block (RFC 7541 §4.2: the smallest and the last). */
const MAX_SIZE_UPDATES = 2;

/** What one header block decoded to. Reused from block to block by whoever owns it. */
export class FieldList {
  fields: HeaderField[] = [];
  /** Size by RFC 9113 §6.5.2, of all fields, also those left out of `fields`. */
  bytes = 0;
  /** Number of all fields, also those left out of `fields`. */
  count = 0;
  readonly maxBytes: number;
  readonly maxFields: number;
  /** Past this many fields decoding is not worth going on: the connection ends. */
  readonly hardMaxFields: number;

  constructor(maxBytes: number, maxFields: number) {
    this.maxBytes = maxBytes;
    this.maxFields = maxFields;
    this.hardMaxFields = maxFields * 10;
  }

  get overLimit(): boolean {
    return this.bytes > this.maxBytes || this.count > this.maxFields;
  }

  reset(): void {
    this.fields = [];
    this.bytes = 0;
    this.count = 0;
  }
}

/** The decoding half of HPACK (RFC 7541) for one connection. Violations throw COMPRESSION_ERROR. */
export class HpackDecoder {
  /**
   * Grows with every change of the dynamic table. Two equal blocks decoded at the same count, neither of
   * which changes the table, decode to the same list: that is what makes caching by bytes sound.
   */
  changes = 0;

  private table: DynamicTable | undefined;
  /** The bound that we announced (SETTINGS_HEADER_TABLE_SIZE) and the peer has acknowledged. */
  private readonly maxTableBytes: number;
  private position = 0;
  private end = 0;

  constructor(maxTableBytes: number) {
    this.maxTableBytes = maxTableBytes;
  }

  /** Octets that the dynamic table holds now, by RFC 7541 §4.1. */
  get tableBytes(): number {
    return this.table?.bytes ?? 0;
  }

  /**
   * Decodes one complete header block. Past the limits of `list` fields are counted, not kept, and the
   * dynamic table stays right.
   */
  decode(block: Buffer, start: number, end: number, list: FieldList): void {
    this.position = start;
    this.end = end;
    list.reset();
    this.readSizeUpdates(block);
    while (this.position < end) {
      const field = this.readField(block);
      list.count++;
      list.bytes += field.size;
      if (list.count <= list.maxFields && list.bytes <= list.maxBytes) {
        list.fields.push(field);
      } else if (list.count > list.hardMaxFields) {
        throw new ConnectionError(H2Error.ENHANCE_YOUR_CALM, 'far too many header fields');
      }
    }
  }

  private readSizeUpdates(block: Buffer): void {
    for (let updates = 0; this.position < this.end; updates++) {
      const first = block[this.position] as number;
      if ((first & 0xe0) !== 0x20) return;
      if (updates === MAX_SIZE_UPDATES) throw compressionError('too many dynamic table size updates');
      const bytes = this.readInteger(block, 5);
      if (bytes > this.maxTableBytes) throw compressionError('dynamic table size update over the setting');
      this.table ??= new DynamicTable(this.maxTableBytes);
      this.table.resize(bytes);
      this.changes++;
    }
  }

  /** RFC 7541 §6. */
  private readField(block: Buffer): HeaderField {
    const first = block[this.position] as number;
    if (first >= 0x80) return this.lookup(this.readInteger(block, 7));
    if (first >= 0x40) {
      const field = this.readLiteral(block, 6, true);
      this.table ??= new DynamicTable(this.maxTableBytes);
      this.table.insert(field);
      this.changes++;
      return field;
    }
    if (first >= 0x20) throw compressionError('dynamic table size update after a field');
    return this.readLiteral(block, 4, first < 0x10);
  }

  private lookup(index: number): HeaderField {
    if (index <= STATIC_TABLE_LENGTH) {
      if (index === 0) throw compressionError('index 0');
      return STATIC_TABLE[index] as HeaderField;
    }
    const field = this.table?.get(index - STATIC_TABLE_LENGTH - 1);
    if (field === undefined) throw compressionError('index beyond the table');
    return field;
  }

  private readLiteral(block: Buffer, prefixBits: number, shareable: boolean): HeaderField {
    const nameIndex = this.readInteger(block, prefixBits);
    const literalStart = this.position;
    if (nameIndex > STATIC_TABLE_LENGTH) {
      return new HeaderField(this.lookup(nameIndex).name, this.readString(block));
    }
    // Seen before, on any connection: share the field instead of decoding and keeping another copy.
    if (nameIndex === 0) this.skipString(block);
    this.skipString(block);
    const literalEnd = this.position;
    const slot = shareable ? internSlot(nameIndex, block, literalStart, literalEnd) : -1;
    if (slot >= 0) {
      const known = INTERNED[slot];
      if (known?.matches(nameIndex, block, literalStart, literalEnd)) return known.field;
    }
    this.position = literalStart;
    const name = nameIndex === 0 ? this.readString(block) : (STATIC_TABLE[nameIndex] as HeaderField).name;
    const field = new HeaderField(name, this.readString(block));
    if (slot >= 0 && !SECRET_NAMES.has(name))
      INTERNED[slot] = new InternedField(nameIndex, block, literalStart, literalEnd, field);
    return field;
  }

  /** RFC 7541 §5.1. */
  private readInteger(block: Buffer, prefixBits: number): number {
    const mask = (1 << prefixBits) - 1;
    let value = (block[this.position++] as number) & mask;
    if (value < mask) return value;
    for (let i = 0, scale = 1; i < MAX_INTEGER_CONTINUATIONS; i++, scale *= 128) {
      if (this.position >= this.end) throw compressionError('truncated integer');
      const byte = block[this.position++] as number;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value > MAX_INTEGER) throw compressionError('integer over 32 bits');
        return value;
      }
    }
    throw compressionError('integer too long');
  }

  /** The length of a string literal, checked against what is there before anything is read or allocated. */
  private readStringLength(block: Buffer): number {
    if (this.position >= this.end) throw compressionError('truncated literal');
    const length = this.readInteger(block, 7);
    if (length > this.end - this.position) throw compressionError('string longer than the block');
    return length;
  }

  private skipString(block: Buffer): void {
    const length = this.readStringLength(block);
    this.position += length;
  }

  /** RFC 7541 §5.2. */
  private readString(block: Buffer): string {
    if (this.position >= this.end) throw compressionError('truncated literal');
    const huffman = (block[this.position] as number) >= 0x80;
    const length = this.readStringLength(block);
    const start = this.position;
    this.position = start + length;
    if (!huffman) return block.toString('latin1', start, start + length);
    const text = huffmanDecode(block, start, start + length);
    if (text === undefined) throw compressionError('bad Huffman string');
    return text;
  }
}

function compressionError(message: string): ConnectionError {
  return new ConnectionError(H2Error.COMPRESSION_ERROR, message);
}

/**
 * Literals seen by this process, by their encoded bytes: a direct-mapped cache, bounded by its slots and by
 * the length of what is kept. Clients of one kind send the same fields, so 10,000 connections share one
 * `user-agent` object instead of holding 10,000. Never-indexed literals (RFC 7541 §6.2.3) and
 * credentials are left out: they must not outlive their connection.
 */
const SECRET_NAMES: ReadonlySet<string> = new Set(['authorization', 'cookie', 'proxy-authorization']);
const INTERN_SLOTS = 1024;
const MAX_INTERNED_BYTES = 192;
const INTERNED: (InternedField | undefined)[] = new Array(INTERN_SLOTS).fill(undefined);

class InternedField {
  readonly field: HeaderField;
  private readonly nameIndex: number;
  private readonly literal: Buffer;

  constructor(nameIndex: number, block: Buffer, start: number, end: number, field: HeaderField) {
    this.nameIndex = nameIndex;
    this.literal = Buffer.allocUnsafeSlow(end - start);
    block.copy(this.literal, 0, start, end);
    this.field = field;
  }

  matches(nameIndex: number, block: Buffer, start: number, end: number): boolean {
    const literal = this.literal;
    if (nameIndex !== this.nameIndex || end - start !== literal.length) return false;
    for (let i = 0; i < literal.length; i++) if (literal[i] !== block[start + i]) return false;
    return true;
  }
}

function internSlot(nameIndex: number, block: Buffer, start: number, end: number): number {
  if (end - start > MAX_INTERNED_BYTES) return -1;
  let hash = (0x811c9dc5 ^ nameIndex) >>> 0;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ (block[i] as number), 0x01000193);
  return (hash ^ (hash >>> 15)) & (INTERN_SLOTS - 1);
}
