/** The parts of gRPC over HTTP/2 that are text: timeouts, content types, percent-encoding, status details. */
import { type AnyDetail, GrpcError, Status } from './errors.ts';
import type { HeaderPair } from './hpack-encoder.ts';
import { unpaddedBase64 } from './metadata.ts';
import { ProtoWriter } from './protobuf-lite.ts';

const TIMEOUT = /^([0-9]{1,8})([HMSmun])$/;
const UNIT_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 0.001,
  n: 0.000_001,
};

/** grpc-timeout in milliseconds, fractions kept; undefined when it breaks the grammar. */
export function parseTimeoutMs(text: string): number | undefined {
  const match = TIMEOUT.exec(text);
  if (match === null) return undefined;
  return Number(match[1]) * (UNIT_MS[match[2] as string] as number);
}

/** 'application/grpc' or its `+proto` form; undefined: not gRPC, or a message format that we do not speak. */
export function responseContentType(contentType: string | undefined): string | undefined {
  if (contentType === undefined) return undefined;
  const semicolon = contentType.indexOf(';');
  const media = (semicolon < 0 ? contentType : contentType.slice(0, semicolon)).trim().toLowerCase();
  return media === 'application/grpc' || media === 'application/grpc+proto' ? media : undefined;
}

/** Whether a content type names gRPC at all: exactly `application/grpc`, or followed by `+` or `;`. */
export function isGrpcContentType(contentType: string | undefined): boolean {
  return contentType !== undefined && /^application\/grpc(?:$|[+; ])/i.test(contentType);
}

/** UTF-8, then %XX (upper case) for all but 0x20-0x24 and 0x26-0x7E. Lone surrogates become U+FFFD. */
export function percentEncode(message: string): string {
  if (/^[\x20-\x24\x26-\x7e]*$/.test(message)) return message;
  let out = '';
  for (const byte of Buffer.from(message, 'utf8')) {
    const plain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    out += plain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return out;
}

/** Longest message text that is sent: a status is no place for documents, and clients limit header lists. */
const MAX_MESSAGE_CHARS = 4_096;

/** `grpc-status` and what goes with it. */
export function statusFields(status: Status, message: string, details: readonly AnyDetail[]): HeaderPair[] {
  const fields: HeaderPair[] = [['grpc-status', String(status)]];
  const text = message.length > MAX_MESSAGE_CHARS ? message.slice(0, MAX_MESSAGE_CHARS) : message;
  // A field value must not begin or end with a blank (RFC 9113 §8.2.1): encode those too.
  const encoded = percentEncode(text).replace(/^ | $/g, '%20');
  if (text !== '') fields.push(['grpc-message', encoded]);
  if (details.length > 0) {
    fields.push(['grpc-status-details-bin', unpaddedBase64(encodeRpcStatus(status, text, details))]);
  }
  return fields;
}

/** google.rpc.Status { int32 code = 1; string message = 2; repeated Any details = 3; } */
function encodeRpcStatus(status: Status, message: string, details: readonly AnyDetail[]): Uint8Array {
  const writer = new ProtoWriter();
  writer.int32(1, status);
  writer.string(2, message);
  for (const detail of details) {
    const any = new ProtoWriter();
    any.string(1, detail.typeUrl);
    any.bytes(2, detail.value);
    writer.message(3, any);
  }
  return writer.finish();
}

/** Whatever a handler threw, as what the client may know. The cause stays in `cause`. */
export function toGrpcError(error: unknown): GrpcError {
  if (error instanceof GrpcError) return error;
  return new GrpcError(Status.UNKNOWN, 'unknown error', [], { cause: error });
}
