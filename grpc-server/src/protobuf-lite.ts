/** As much of the protobuf wire format as health, reflection and status details need. */

const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

export class ProtoWriter {
  private readonly parts: Uint8Array[] = [];

  int32(field: number, value: number): void {
    if (value === 0) return;
    this.tag(field, VARINT);
    this.varint(value);
  }

  string(field: number, value: string): void {
    if (value !== '') this.bytes(field, Buffer.from(value, 'utf8'));
  }

  /** Written also when empty: for repeated fields and oneofs. */
  bytes(field: number, value: Uint8Array): void {
    this.tag(field, LENGTH_DELIMITED);
    this.varint(value.length);
    this.parts.push(value);
  }

  message(field: number, value: ProtoWriter): void {
    this.bytes(field, value.finish());
  }

  finish(): Buffer {
    return Buffer.concat(this.parts);
  }

  private tag(field: number, wireType: number): void {
    this.varint(field * 8 + wireType);
  }

  private varint(value: number): void {
    const bytes: number[] = [];
    let rest = value;
    while (rest >= 0x80) {
      bytes.push((rest & 0x7f) | 0x80);
      rest = Math.floor(rest / 128);
    }
    bytes.push(rest);
    this.parts.push(Uint8Array.from(bytes));
  }
}

export interface ProtoField {
  readonly number: number;
  /** The value of a varint; 0 for other wire types. */
  readonly varint: number;
  /** The content of a length-delimited field; empty for other wire types. */
  readonly bytes: Uint8Array;
}

/** The fields of a message in wire order. Throws RangeError on bytes that are no message. */
export function* readFields(message: Uint8Array): Generator<ProtoField> {
  const reader = new ProtoReader(message);
  while (!reader.done) {
    const tag = reader.varint();
    const number = Math.floor(tag / 8);
    if (number === 0) throw new RangeError('protobuf field number 0');
    switch (tag & 7) {
      case VARINT:
        yield { number, varint: reader.varint(), bytes: EMPTY };
        break;
      case LENGTH_DELIMITED:
        yield { number, varint: 0, bytes: reader.take(reader.varint()) };
        break;
      case FIXED64:
        yield { number, varint: 0, bytes: reader.take(8) };
        break;
      case FIXED32:
        yield { number, varint: 0, bytes: reader.take(4) };
        break;
      default:
        throw new RangeError('protobuf wire type');
    }
  }
}

const EMPTY = new Uint8Array(0);

class ProtoReader {
  private readonly message: Uint8Array;
  private position = 0;

  constructor(message: Uint8Array) {
    this.message = message;
  }

  get done(): boolean {
    return this.position >= this.message.length;
  }

  varint(): number {
    let value = 0;
    for (let i = 0, scale = 1; i < 10; i++, scale *= 128) {
      const byte = this.message[this.position++];
      if (byte === undefined) throw new RangeError('truncated protobuf varint');
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw new RangeError('protobuf varint too long');
  }

  take(length: number): Uint8Array {
    const end = this.position + length;
    if (end > this.message.length) throw new RangeError('truncated protobuf field');
    const bytes = this.message.subarray(this.position, end);
    this.position = end;
    return bytes;
  }
}

export function utf8(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}
