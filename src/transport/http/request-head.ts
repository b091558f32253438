import type { IncomingMessage } from 'node:http';
import { PresenceError } from '../../core/errors.ts';

/** What makes a head one that two programs may read in two ways, which Node lets pass; null: nothing. */
export function problemOfHead(request: IncomingMessage): PresenceError | null {
  const { headers, rawHeaders, httpVersionMajor, httpVersionMinor } = request;
  if (httpVersionMajor !== 1) return PresenceError.invalidArgument('the HTTP version', 'must be 1.0 or 1.1');
  if (headers.host === undefined) {
    return httpVersionMinor > 0 ? PresenceError.invalidArgument('Host', 'is required') : null;
  }
  // RFC 9112, section 3.2: of two, Node keeps the first, a proxy perhaps the last.
  const hosts = rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === 'host');
  if (hosts.length > 1) return PresenceError.invalidArgument('Host', 'must be given once');
  // Section 6.1: Node undoes chunks alone, and what else is named would be taken for the body itself.
  const coding = headers['transfer-encoding'];
  if (coding !== undefined && coding.trim().toLowerCase() !== 'chunked') {
    return PresenceError.invalidArgument('Transfer-Encoding', 'must be chunked');
  }
  return null;
}

/**
 * Media types and codings are named in any case, and a charset with or without quotes (RFC 9110, sections 8.3 and 8.4). The
 * library of Connect compares them letter by letter.
 */
export function plainContentHeaders({ headers }: IncomingMessage): void {
  const { 'content-type': type, 'content-encoding': encoding } = headers;
  if (type !== undefined && isUtf8OrNothing.test(type)) {
    headers['content-type'] = (type.split(';', 1)[0] as string).trim().toLowerCase();
  }
  if (encoding === '') delete headers['content-encoding'];
  else if (encoding !== undefined) headers['content-encoding'] = encoding.toLowerCase();
}

const isUtf8OrNothing = /^[^;]+;\s*(?:charset=(?:utf-8|"utf-8")\s*)?$/i;
