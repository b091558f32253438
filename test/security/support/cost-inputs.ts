/** Every kind of input that needs no token, as bytes of a connection. */
import { gzipSync } from 'node:zlib';
import {
  data,
  Flag,
  headers,
  message,
  PREFACE,
  settings,
  settingsAck,
} from '../../../grpc-server/test/support/frames.ts';
import { encode, type Field } from '../../../grpc-server/test/support/hpack.ts';
import { badTokens } from './credentials.ts';
import { handshake, masked } from './fuzz-inputs.ts';

export interface CostInput {
  readonly name: string;
  readonly port: 'http' | 'grpc';
  /** What one connection sends. */
  readonly bytes: Buffer;
  /** Requests in it: each counts as a kB at least, since a head is parsed and answered whatever its size. */
  readonly requests: number;
  readonly connections: number;
  /** The client takes no answer. */
  readonly isDeaf?: boolean;
}

const service = '/presence.v1.PresenceService';
const end = Flag.END_STREAM;
const opening = Buffer.concat([PREFACE, settings(), settingsAck()]);

function http(
  target: string,
  lines: readonly string[],
  body: Buffer | string = '',
  length = body.length,
): Buffer {
  const head = [`${target} HTTP/1.1`, 'host: localhost', `content-length: ${length}`, ...lines, '\r\n'].join(
    '\r\n',
  );
  return Buffer.concat([Buffer.from(head), Buffer.from(body)]);
}

function grpcHead(streamId: number, path: string, extra: readonly Field[] = [], flags = 0): Buffer {
  const fields: Field[] = [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', path],
    [':authority', 'localhost'],
    ['te', 'trailers'],
    ['content-type', 'application/grpc'],
    ...extra,
  ];
  return headers(streamId, encode(fields), Flag.END_HEADERS | flags);
}

/** A connection of so many calls. */
function calls(count: number, one: (streamId: number, index: number) => Buffer): Buffer {
  return Buffer.concat([opening, ...Array.from({ length: count }, (_, index) => one(1 + 2 * index, index))]);
}

function framed(bytes: Buffer, flag = 0, length = bytes.length): Buffer {
  const prefix = Buffer.from([flag, 0, 0, 0, 0]);
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, bytes]);
}

export async function costInputs(): Promise<CostInput[]> {
  const tokens = Object.values(await badTokens());
  const json = ['content-type: application/json'];
  const gzip = [...json, 'content-encoding: gzip'];
  const deep = gzipSync('['.repeat(640_000));
  const empty = Buffer.alloc(15_000, Buffer.from([0x0a, 0]));
  const batchGet = 'POST /v1/users/status:batchGet';
  const connectGet = `POST ${service}/GetMultipleUserStatus`;
  const getMany = `${service}/GetMultipleUserStatus`;
  const text = (value: unknown) => masked(0x81, Buffer.from(JSON.stringify(value)));
  const webSocket = Buffer.from(handshake('presence.v1.json', undefined));
  const longName = Buffer.concat([Buffer.from([0x0a, 0xff, 0xff, 0x03]), Buffer.alloc(14_000, 'x')]);
  const input = (
    name: string,
    port: 'http' | 'grpc',
    connections: number,
    requests: number,
    bytes: Buffer,
    isDeaf = false,
  ): CostInput => ({ name, port, connections, requests, bytes, isDeaf });
  return [
    input('REST: JSON body of 60 kB', 'http', 200, 1, http(batchGet, json, Buffer.alloc(60_000, ' '))),
    input('REST: 640,000 arrays in gzip', 'http', 500, 1, http(batchGet, gzip, deep)),
    input('REST: body that never ends', 'http', 200, 1, http(batchGet, json, Buffer.alloc(30_000), 60_000)),
    input(
      'REST: head that never ends',
      'http',
      500,
      1,
      Buffer.from('GET /v1/users/ada/status HTTP/1.1\r\nhost: a'),
    ),
    input('Connect: 640,000 arrays in gzip', 'http', 500, 1, http(connectGet, gzip, deep)),
    input(
      'Connect: protobuf of empty strings',
      'http',
      300,
      1,
      http(connectGet, ['content-type: application/proto'], empty),
    ),
    input(
      'gRPC-Web: message that never ends',
      'http',
      300,
      1,
      http(connectGet, ['content-type: application/grpc-web+proto'], framed(empty, 0, 60_000), 60_000),
    ),
    ...tokens
      .map((token, index) =>
        input(
          `REST: bad token ${index + 1}`,
          'http',
          300,
          1,
          http('GET /v1/users/ada/status', [`authorization: Bearer ${token}`]),
        ),
      )
      .slice(0, 4),
    input(
      '/metrics, dashboard, what there is not',
      'http',
      200,
      3,
      Buffer.concat(['/metrics', '/', '/nothing'].map((path) => http(`GET ${path}`, []))),
    ),
    input(
      '/livez, 100 at once, unread',
      'http',
      50,
      100,
      Buffer.concat(Array(100).fill(http('GET /livez', []))),
      true,
    ),
    input(
      '/livez, 2,000 at once, unread',
      'http',
      10,
      2000,
      Buffer.concat(Array(2000).fill(http('GET /livez', []))),
      true,
    ),
    input('WebSocket: no hello', 'http', 300, 1, webSocket),
    input(
      'WebSocket: frames of 60 kB before the hello',
      'http',
      50,
      5,
      Buffer.concat([webSocket, ...Array(5).fill(masked(0x81, Buffer.alloc(60_000, 'x')))]),
    ),
    input(
      'WebSocket: pings before the hello',
      'http',
      100,
      100,
      Buffer.concat([webSocket, ...Array(100).fill(masked(0x89, Buffer.alloc(0)))]),
    ),
    input(
      'WebSocket: after the end',
      'http',
      20,
      40,
      Buffer.concat([
        webSocket,
        text('no frame'),
        ...Array(40).fill(masked(0x81, Buffer.alloc(60_000, 'x'))),
      ]),
    ),
    input(
      'gRPC: heads without token',
      'grpc',
      20,
      100,
      calls(100, (id) => grpcHead(id, `${service}/SendHeartbeat`, [], end)),
    ),
    input(
      'gRPC: bad tokens',
      'grpc',
      20,
      tokens.length - 1,
      calls(tokens.length - 1, (id, index) =>
        grpcHead(id, getMany, [['authorization', `Bearer ${tokens[index]}`]], end),
      ),
    ),
    input(
      'gRPC: empty strings',
      'grpc',
      20,
      20,
      calls(20, (id) => Buffer.concat([grpcHead(id, getMany), data(id, message(empty), end)])),
    ),
    input(
      'gRPC: gzip',
      'grpc',
      20,
      100,
      calls(100, (id) =>
        Buffer.concat([
          grpcHead(id, getMany, [['grpc-encoding', 'gzip']]),
          data(id, framed(gzipSync(Buffer.alloc(60_000)), 1), end),
        ]),
      ),
    ),
    input(
      'gRPC: session, first frame that never ends',
      'grpc',
      20,
      50,
      calls(50, (id) =>
        Buffer.concat([grpcHead(id, `${service}/Connect`), data(id, framed(Buffer.alloc(8_000), 0, 16_000))]),
      ),
    ),
    input(
      'gRPC: reflection',
      'grpc',
      20,
      50,
      calls(50, (id) =>
        Buffer.concat([
          grpcHead(id, '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo'),
          data(id, message(Buffer.alloc(4_000))),
        ]),
      ),
    ),
    input(
      'gRPC: health, Check',
      'grpc',
      20,
      100,
      calls(100, (id) =>
        Buffer.concat([grpcHead(id, '/grpc.health.v1.Health/Check'), data(id, message(''), end)]),
      ),
    ),
    input(
      'gRPC: health, Watch',
      'grpc',
      20,
      100,
      calls(100, (id) =>
        Buffer.concat([grpcHead(id, '/grpc.health.v1.Health/Watch'), data(id, message(''), end)]),
      ),
    ),
    input(
      'gRPC: health, long names',
      'grpc',
      20,
      50,
      calls(50, (id) =>
        Buffer.concat([grpcHead(id, '/grpc.health.v1.Health/Watch'), data(id, message(longName))]),
      ),
    ),
    input('HTTP/2: preface and no more', 'grpc', 300, 1, PREFACE),
  ];
}
