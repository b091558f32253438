/** The header section of a request, judged by HTTP's rules (RFC 9113 §8) and nothing else. */
import { type HeaderField, Token } from './header-field.ts';

/**
 * Immutable once built, so that equal requests on a connection can share one. `route` is the one exception:
 * a place for the layer above to remember what it made of this head.
 */
export class RequestHead {
  readonly fields: readonly HeaderField[];
  readonly method: string;
  readonly path: string;
  readonly scheme: string;
  /** `:authority`, or Host where that is missing. */
  readonly authority: string | undefined;
  readonly contentType: string | undefined;
  /** -1: not given. */
  readonly contentLength: number;
  readonly grpcTimeout: string | undefined;
  readonly grpcEncoding: string | undefined;
  readonly grpcAcceptEncoding: string | undefined;
  /** True when the list went past the limits: `fields` is then only its beginning. */
  readonly overLimit: boolean;
  route: unknown;

  constructor(parts: HeadParts, fields: readonly HeaderField[], overLimit: boolean) {
    this.fields = fields;
    this.method = parts.method ?? '';
    this.path = parts.path ?? '';
    this.scheme = parts.scheme ?? '';
    this.authority = parts.authority ?? parts.host;
    this.contentType = parts.contentType;
    this.contentLength = parts.contentLength;
    this.grpcTimeout = parts.grpcTimeout;
    this.grpcEncoding = parts.grpcEncoding;
    this.grpcAcceptEncoding = parts.grpcAcceptEncoding;
    this.overLimit = overLimit;
    this.route = undefined;
  }
}

interface HeadParts {
  method: string | undefined;
  scheme: string | undefined;
  path: string | undefined;
  authority: string | undefined;
  host: string | undefined;
  contentType: string | undefined;
  contentLength: number;
  grpcTimeout: string | undefined;
  grpcEncoding: string | undefined;
  grpcAcceptEncoding: string | undefined;
}

/**
 * Builds the head, or returns undefined when the request is malformed (RFC 9113 §8.1.1). A list over the
 * limits is cut short, so what is missing from it is not held against it.
 */
export function parseRequestHead(
  fields: readonly HeaderField[],
  overLimit: boolean,
): RequestHead | undefined {
  const parts: HeadParts = {
    method: undefined,
    scheme: undefined,
    path: undefined,
    authority: undefined,
    host: undefined,
    contentType: undefined,
    contentLength: -1,
    grpcTimeout: undefined,
    grpcEncoding: undefined,
    grpcAcceptEncoding: undefined,
  };
  let regularSeen = false;
  for (let i = 0; i < fields.length; i++) {
    const field = fields[i] as HeaderField;
    if (!field.valid) return undefined;
    const token = field.token;
    const pseudo = token >= Token.METHOD && token <= Token.UNKNOWN_PSEUDO;
    if (pseudo && regularSeen) return undefined;
    if (!pseudo) regularSeen = true;
    if (token !== Token.OTHER && !take(parts, token, field.value)) return undefined;
  }
  if (!overLimit && !isComplete(parts)) return undefined;
  return new RequestHead(parts, fields, overLimit);
}

/** Puts one field in its place; false when it may not be there. */
function take(parts: HeadParts, token: number, value: string): boolean {
  switch (token) {
    case Token.METHOD:
      if (parts.method !== undefined) return false;
      parts.method = value;
      return true;
    case Token.SCHEME:
      if (parts.scheme !== undefined) return false;
      parts.scheme = value;
      return true;
    case Token.PATH:
      if (parts.path !== undefined) return false;
      parts.path = value;
      return true;
    case Token.AUTHORITY:
      // RFC 9113 §8.3.1: no userinfo.
      if (parts.authority !== undefined || value.includes('@')) return false;
      parts.authority = value;
      return true;
    case Token.HOST:
      if (parts.host !== undefined) return false;
      parts.host = value;
      return true;
    case Token.CONTENT_LENGTH:
      return takeContentLength(parts, value);
    case Token.CONTENT_TYPE:
      parts.contentType ??= value;
      return true;
    case Token.GRPC_TIMEOUT:
      parts.grpcTimeout ??= value;
      return true;
    case Token.GRPC_ENCODING:
      parts.grpcEncoding ??= value;
      return true;
    case Token.GRPC_ACCEPT_ENCODING:
      parts.grpcAcceptEncoding =
        parts.grpcAcceptEncoding === undefined ? value : `${parts.grpcAcceptEncoding},${value}`;
      return true;
    case Token.TE:
      return true;
    default:
      return false;
  }
}

/** Digits only, and repetitions only when equal (RFC 9110 §8.6). */
function takeContentLength(parts: HeadParts, value: string): boolean {
  if (!/^[0-9]{1,16}$/.test(value)) return false;
  const length = Number(value);
  if (!Number.isSafeInteger(length)) return false;
  if (parts.contentLength >= 0 && parts.contentLength !== length) return false;
  parts.contentLength = length;
  return true;
}

/** RFC 9113 §8.3.1 and §8.5. */
function isComplete(parts: HeadParts): boolean {
  if (parts.host !== undefined && parts.authority !== undefined && parts.host !== parts.authority)
    return false;
  if (parts.method === 'CONNECT') {
    return parts.scheme === undefined && parts.path === undefined && parts.authority !== undefined;
  }
  return Boolean(parts.method) && Boolean(parts.scheme) && Boolean(parts.path);
}

/** RFC 9113 §8.1: trailers carry no pseudo fields. */
export function areValidTrailers(fields: readonly HeaderField[]): boolean {
  return fields.every(
    (field) => field.valid && (field.token < Token.METHOD || field.token > Token.UNKNOWN_PSEUDO),
  );
}
