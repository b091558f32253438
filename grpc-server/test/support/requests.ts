import { data, Flag, headers, message } from './frames.ts';
import { encode, type Field } from './hpack.ts';

const END = Flag.END_HEADERS | Flag.END_STREAM;

/** The plain route's request, pseudo fields in h2spec's order. */
export function plainFields(method = 'GET', extra: readonly Field[] = []): Field[] {
  return [[':method', method], [':scheme', 'http'], [':path', '/'], [':authority', '127.0.0.1'], ...extra];
}

export function get(streamId: number, extra: readonly Field[] = []): Buffer {
  return headers(streamId, encode(plainFields('GET', extra)), END);
}

/** Request headers that leave the stream open. */
export function post(streamId: number, extra: readonly Field[] = []): Buffer {
  return headers(streamId, encode(plainFields('POST', extra)), Flag.END_HEADERS);
}

export function request(streamId: number, fields: readonly Field[], endStream = true): Buffer {
  return headers(streamId, encode(fields), endStream ? END : Flag.END_HEADERS);
}

export function grpcFields(path: string, extra: readonly Field[] = []): Field[] {
  return [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', path],
    [':authority', '127.0.0.1'],
    ['te', 'trailers'],
    ['content-type', 'application/grpc'],
    ...extra,
  ];
}

/** Request headers of a gRPC call; the stream stays open. */
export function callHeaders(streamId: number, path: string, extra: readonly Field[] = []): Buffer {
  return headers(streamId, encode(grpcFields(path, extra)), Flag.END_HEADERS);
}

/** A whole unary request: headers, one message, END_STREAM. */
export function call(
  streamId: number,
  path: string,
  body: Uint8Array | string = '',
  extra: readonly Field[] = [],
): Buffer {
  return Buffer.concat([callHeaders(streamId, path, extra), data(streamId, message(body), Flag.END_STREAM)]);
}
