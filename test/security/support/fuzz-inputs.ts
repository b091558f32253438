/** Inputs of each surface: valid ones, changed by a seed. */
import { create, type MessageInitShape, toBinary, toJson } from '@bufbuild/protobuf';
import { ClientFrameSchema, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { Random } from '../../../grpc-server/test/support/fuzz.ts';
import { mutateBytes, mutateJson, mutateLine, randomBytes } from './mutate.ts';

const methods = ['GET', 'GET', 'PUT', 'POST', 'POST', 'DELETE', 'OPTIONS', 'HEAD', 'PATCH', 'TRACE', 'QUERY'];
const paths = [
  '/v1/users/victim/status',
  '/v1/users/victim/heartbeat',
  '/v1/users/victim/connections',
  '/v1/users/victim/privacy',
  '/v1/users/status:batchGet',
  '/v1/events?watch=victim,b&user_id=victim',
  '/v1/stats',
  '/v1/connect',
  '/presence.v1.PresenceService/SetUserStatus',
  '/presence.v1.PresenceService/SetPrivacy',
  '/presence.v1.PresenceService/GetMultipleUserStatus',
  '/presence.v1.PresenceService/SubscribeStatusUpdates',
  '/metrics',
  '/livez',
  '/openapi.json',
  '/assets/../../package.json',
  '/%2e%2e/%2e%2e/etc/passwd',
];
const contentTypes = [
  'application/json',
  'application/json; charset=utf-16',
  'application/proto',
  'application/connect+json',
  'application/grpc-web+proto',
  'application/grpc-web-text',
  'text/plain',
  'multipart/form-data; boundary=x',
];
const moreHeaders = [
  'origin: https://evil.example',
  'origin: null',
  'last-event-id: 123',
  'connect-protocol-version: 1',
  'connect-timeout-ms: 1',
  'grpc-timeout: 1S',
  'accept-encoding: gzip, br',
  'content-encoding: gzip',
  'traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  'expect: 100-continue',
  'range: bytes=0-1,5-',
  'if-none-match: *',
  'cookie: a=b',
];
const bodies: readonly unknown[] = [
  { status: 'ONLINE', activity: 'ACTIVITY_IDLE' },
  { status: 'OFFLINE' },
  { userIds: ['victim', 'b'] },
  { userId: 'victim', status: 'ONLINE' },
  { userId: 'victim', watchUserIds: ['victim'] },
];

/** A request that is HTTP, whatever it asks. */
export function httpRequest(random: Random, authorizations: readonly string[]): Buffer {
  const path = random.int(3) === 0 ? mutateLine(random.of(paths), random) : random.of(paths);
  const json = random.of(bodies);
  const text = JSON.stringify(random.int(2) === 0 ? mutateJson(json, random) : json) ?? '';
  const body = random.int(4) === 0 ? mutateBytes(Buffer.from(text), random) : Buffer.from(text);
  const lines = [
    `${random.of(methods)} ${path.replaceAll(/[\s\0]/g, '%20')} HTTP/1.1`,
    'host: 127.0.0.1',
    `content-type: ${random.of(contentTypes)}`,
  ];
  if (random.int(2) === 0) lines.push(`authorization: ${random.of(authorizations)}`);
  for (let more = random.int(3); more > 0; more--) {
    const header = random.of(moreHeaders);
    lines.push(random.int(3) === 0 ? mutateLine(header, random).replaceAll(/[^ -~]/g, '') : header);
  }
  const isChunked = random.int(5) === 0;
  lines.push(isChunked ? 'transfer-encoding: chunked' : `content-length: ${body.length}`);
  const head = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
  if (!isChunked) return Buffer.concat([head, body]);
  const size = Buffer.from(`${body.length.toString(16)}\r\n`);
  const chunk = body.length > 0 ? [size, body, Buffer.from('\r\n')] : [];
  return Buffer.concat([head, ...chunk, Buffer.from('0\r\n\r\n')]);
}

/** What may be no HTTP at all. */
export function rawHttp(random: Random, authorizations: readonly string[]): Buffer {
  if (random.int(10) === 0) return randomBytes(random, 300);
  return mutateBytes(httpRequest(random, authorizations), random);
}

const handshakeLines = [
  'GET /v1/connect HTTP/1.1',
  'Host: 127.0.0.1',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
];

export function handshake(protocol: string, authorization: string | undefined): string {
  const lines = [...handshakeLines, `Sec-WebSocket-Protocol: ${protocol}`];
  if (authorization !== undefined) lines.push(`Authorization: ${authorization}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}

export function mutatedHandshake(random: Random, authorizations: readonly string[]): Buffer {
  const protocols = ['presence.v1.json', 'presence.v1.proto', 'presence.v1.json, presence.bearer.x', ', ,'];
  const text = handshake(random.of(protocols), random.of([undefined, ...authorizations]));
  return mutateBytes(Buffer.from(text, 'latin1'), random);
}

type FrameInit = NonNullable<MessageInitShape<typeof ClientFrameSchema>['frame']>;
const frames: readonly FrameInit[] = [
  { case: 'hello', value: { userId: 'victim', device: 'phone', resumeToken: 'x', token: 'y' } },
  { case: 'setStatus', value: { status: UserStatus.ONLINE, activity: 2 } },
  { case: 'setCustomStatus', value: { text: 'here', emoji: '!', expiresInMs: 1000n } },
  { case: 'watch', value: { userIds: ['victim', 'b'], knownVersions: [1n, 2n] } },
  { case: 'unwatch', value: { userIds: ['victim', 'b'] } },
  { case: 'query', value: { userIds: ['victim', 'b'] } },
  { case: 'heartbeat', value: { activity: 1 } },
  { case: 'authenticate', value: { token: 'x' } },
  { case: 'goodbye', value: {} },
];
const messages = frames.map((frame, index) => create(ClientFrameSchema, { requestId: index, frame }));
const jsonFrames = messages.map((message) => toJson(ClientFrameSchema, message));
const protoFrames = messages.map((message) => Buffer.from(toBinary(ClientFrameSchema, message)));

/** One session frame, changed or not; mostly such as a session survives. */
export function jsonFrame(random: Random): Buffer {
  const json = jsonFrames[random.int(jsonFrames.length - 1)];
  const text = JSON.stringify(random.int(3) > 0 ? mutateJson(json, random) : json) ?? 'null';
  return random.int(8) === 0 ? mutateBytes(Buffer.from(text), random) : Buffer.from(text);
}

export function protoFrame(random: Random): Buffer {
  const bytes = random.of(protoFrames);
  return random.int(3) > 0 ? mutateBytes(bytes, random) : bytes;
}

export function protoHello(userId: string): Buffer {
  const frame: FrameInit = { case: 'hello', value: { userId } };
  return Buffer.from(toBinary(ClientFrameSchema, create(ClientFrameSchema, { requestId: 1, frame })));
}

/** A WebSocket frame from a client, with a mask of zeros. */
export function masked(firstByte: number, payload: Buffer): Buffer {
  const { length } = payload;
  const head = length < 126 ? [firstByte, 0x80 | length] : [firstByte, 0xfe, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([...head, 0, 0, 0, 0]), payload]);
}

/** Bytes after a handshake that may be no frames. */
export function rawFrames(random: Random): Buffer {
  const pieces = Array.from({ length: 1 + random.int(4) }, () =>
    masked(
      random.of([0x81, 0x82, 0x01, 0x80, 0x88, 0x89, 0x8a, 0xc1, 0x83]),
      jsonFrame(random).subarray(0, 200),
    ),
  );
  return mutateBytes(Buffer.concat(pieces), random);
}

/** A token: a valid one changed, or nothing like one. */
export function mutatedToken(random: Random, tokens: readonly string[]): string {
  const valid = random.of(tokens);
  const parts = valid.split('.');
  switch (random.int(5)) {
    case 0: {
      // Claims or header changed as JSON, under the old signature.
      const at = random.int(2);
      const part = parts[at];
      if (parts.length !== 3 || !part?.startsWith('eyJ')) return mutateLine(valid, random);
      const json = mutateJson(JSON.parse(Buffer.from(part, 'base64url').toString()), random);
      parts[at] = Buffer.from(JSON.stringify(json) ?? '').toString('base64url');
      return parts.join('.');
    }
    case 1:
      return parts.map((part) => (random.int(3) === 0 ? random.of(tokens) : part)).join('.');
    case 2:
      return randomBytes(random, 60).toString(random.of(['base64url', 'latin1', 'utf8']));
    default:
      return mutateLine(valid, random);
  }
}
