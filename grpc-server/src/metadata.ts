import { type HeaderField, Token } from './header-field.ts';
import type { HeaderPair } from './hpack-encoder.ts';

/** A name or value that a handler may not send. */
export class MetadataError extends TypeError {
  override readonly name = 'MetadataError';
}

const NAME = /^[0-9a-z_.-]+$/;
/** Printable ASCII; the field rules of HTTP forbid blanks at the ends. */
const VALUE = /^(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?$/;
const RESERVED: ReadonlySet<string> = new Set([
  'content-type',
  'te',
  'user-agent',
  'host',
  'connection',
  'proxy-connection',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
  'content-length',
]);

/**
 * The metadata of a request: read only, names in lower case, several values per name. `grpc-*`, `content-type`
 * and `te` belong to the protocol and are not in it; `user-agent` is.
 */
export class Metadata implements Iterable<readonly [string, string]> {
  private readonly fields: readonly HeaderField[];

  constructor(fields: readonly HeaderField[]) {
    this.fields = fields;
  }

  /** The first value, as text; a `-bin` value still in base64. */
  get(name: string): string | undefined {
    for (const field of this.fields) if (field.name === name && isMetadata(field)) return field.value;
    return undefined;
  }

  /** All values in order; those of `-bin` names split at commas (they may have been joined on the way). */
  getAll(name: string): string[] {
    const values: string[] = [];
    for (const field of this.fields) {
      if (field.name !== name || !isMetadata(field)) continue;
      if (name.endsWith('-bin')) values.push(...field.value.split(',').map((part) => part.trim()));
      else values.push(field.value);
    }
    return values;
  }

  /** The first value of a `-bin` name, decoded. Padded and unpadded base64 are both accepted. */
  getBinary(name: string): Buffer | undefined {
    return this.getAllBinary(name)[0];
  }

  /** All values of a `-bin` name, decoded. */
  getAllBinary(name: string): Buffer[] {
    return this.getAll(name).map((value) => Buffer.from(value, 'base64'));
  }

  *[Symbol.iterator](): Iterator<readonly [string, string]> {
    for (const field of this.fields) if (isMetadata(field)) yield [field.name, field.value];
  }
}

function isMetadata(field: HeaderField): boolean {
  const name = field.name;
  if (field.token !== Token.OTHER) return false;
  return !name.startsWith('grpc-') && NAME.test(name);
}

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** Whether every `-bin` value is base64 (standard alphabet, padded or not). */
export function hasValidBinaryFields(fields: readonly HeaderField[]): boolean {
  for (const field of fields) {
    if (!field.name.endsWith('-bin')) continue;
    for (const part of field.value.split(',')) {
      const text = part.trim();
      if (!BASE64.test(text) || text.replace(/=+$/, '').length % 4 === 1) return false;
    }
  }
  return true;
}

/** Checks what a handler wants to send. Throws MetadataError. Binary values go out as unpadded base64. */
export function encodeMetadataEntry(name: string, value: string | Uint8Array): HeaderPair {
  if (!NAME.test(name)) throw new MetadataError(`metadata name ${JSON.stringify(name)} is not [0-9a-z_.-]+`);
  if (name.startsWith('grpc-') || RESERVED.has(name))
    throw new MetadataError(`metadata name ${name} is reserved`);
  if (name.endsWith('-bin')) {
    if (typeof value === 'string') throw new MetadataError(`metadata ${name} needs bytes`);
    return [name, unpaddedBase64(value)];
  }
  if (typeof value !== 'string')
    throw new MetadataError(`metadata ${name} needs text: only -bin names take bytes`);
  if (!VALUE.test(value)) throw new MetadataError(`metadata ${name} has a value that is not printable ASCII`);
  return [name, value];
}

export function unpaddedBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64').replace(/=+$/, '');
}
