import type { IncomingMessage } from 'node:http';
import { PresenceError } from '../../core/errors.ts';
import { problemOfHead } from '../http/request-head.ts';
import type { HandshakeRefusal } from '../http/web-socket-route.ts';

const versionHeaders = { 'sec-websocket-version': '13' };
const isVersion = /^\d{1,3}$/;
/** Sixteen bytes in base64. */
const isKey = /^[+/0-9A-Za-z]{22}==$/;

/** What makes a request no handshake of RFC 6455, section 4.2.1; its method and its Upgrade were looked at before. */
export function malformedHandshake(request: IncomingMessage): HandshakeRefusal | null {
  const { headers, httpVersionMajor, httpVersionMinor } = request;
  const bad = (field: string, problem: string): HandshakeRefusal => ({
    status: 400,
    error: PresenceError.invalidArgument(field, problem),
    headers: versionHeaders,
  });
  if (httpVersionMajor === 1 && httpVersionMinor === 0) return bad('the HTTP version', 'must be 1.1');
  const error = problemOfHead(request);
  if (error) return { status: 400, error, headers: versionHeaders };
  if (!headers.host) return bad('Host', 'is required');
  const { 'sec-websocket-version': version = '', 'sec-websocket-key': key = '' } = headers;
  if (version !== '13') {
    const refusal = bad('Sec-WebSocket-Version', 'must be 13');
    if (!isVersion.test(version)) return refusal;
    const upgrade = { upgrade: 'websocket', connection: 'Upgrade' };
    return { ...refusal, status: 426, headers: { ...versionHeaders, ...upgrade } };
  }
  if (!isKey.test(key)) return bad('Sec-WebSocket-Key', 'must be 16 bytes in base64');
  return null;
}
