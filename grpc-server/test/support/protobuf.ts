/** Just enough of the protobuf wire format for grpc.testing messages. Unknown fields are skipped. */

export class Writer {
  #parts: Buffer[] = [];

  /** Omitted when zero, as proto3 does. */
  varint(field: number, value: number): this {
    if (value !== 0) this.#parts.push(varint(field * 8), varint(value));
    return this;
  }

  bytes(field: number, value: Uint8Array | string | undefined): this {
    if (value === undefined) return this;
    const body = Buffer.from(value);
    this.#parts.push(varint(field * 8 + 2), varint(body.length), body);
    return this;
  }

  finish(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

function varint(value: number): Buffer {
  const out: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) out.push((rest % 128) | 128);
  out.push(rest);
  return Buffer.from(out);
}

export type FieldValue = number | Buffer;

/** Field number -> values in order: a number for a varint, bytes for everything length-delimited. */
export function parse(bytes: Uint8Array): Map<number, FieldValue[]> {
  const buffer = Buffer.from(bytes);
  const fields = new Map<number, FieldValue[]>();
  let at = 0;
  const readVarint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = buffer[at++];
      if (byte === undefined || scale > 2 ** 49) throw new Error('a truncated varint');
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < buffer.length) {
    const tag = readVarint();
    const wireType = tag % 8;
    let value: FieldValue;
    if (wireType === 0) value = readVarint();
    else if (wireType === 2) {
      const length = readVarint();
      if (at + length > buffer.length) throw new Error('a truncated field');
      value = buffer.subarray(at, at + length);
      at += length;
    } else throw new Error(`wire type ${wireType}`);
    const field = Math.floor(tag / 8);
    fields.set(field, [...(fields.get(field) ?? []), value]);
  }
  return fields;
}

export function numberOf(fields: Map<number, FieldValue[]>, field: number): number {
  const last = fields.get(field)?.at(-1);
  return typeof last === 'number' ? last : 0;
}

export function bytesOf(fields: Map<number, FieldValue[]>, field: number): Buffer | undefined {
  const last = fields.get(field)?.at(-1);
  return typeof last === 'number' ? undefined : last;
}
