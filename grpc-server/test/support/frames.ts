/** HTTP/2 frames as bytes (RFC 9113 section 6), legal or not: nothing here checks anything. */

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

export const Type = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

export const Flag = { ACK: 1, END_STREAM: 1, END_HEADERS: 4, PADDED: 8, PRIORITY: 32 } as const;

export const Setting = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
} as const;

export const Code = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  SETTINGS_TIMEOUT: 4,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  CONNECT_ERROR: 10,
  ENHANCE_YOUR_CALM: 11,
  INADEQUATE_SECURITY: 12,
  HTTP_1_1_REQUIRED: 13,
} as const;

export function codeName(code: number): string {
  return Object.entries(Code).find(([, value]) => value === code)?.[0] ?? `code ${code}`;
}

export function typeName(type: number): string {
  return Object.entries(Type).find(([, value]) => value === type)?.[0] ?? `type ${type}`;
}

export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array = Buffer.alloc(0),
): Buffer {
  const out = Buffer.alloc(9 + payload.length);
  out.writeUIntBE(payload.length, 0, 3);
  out[3] = type;
  out[4] = flags;
  out.writeUInt32BE(streamId >>> 0, 5);
  out.set(payload, 9);
  return out;
}

export function data(streamId: number, payload: Uint8Array | string = '', flags = 0): Buffer {
  return frame(Type.DATA, flags, streamId, Buffer.from(payload));
}

export function paddedData(
  streamId: number,
  payload: Uint8Array | string,
  padding: number,
  flags = 0,
): Buffer {
  return frame(Type.DATA, flags | Flag.PADDED, streamId, padded(Buffer.from(payload), padding));
}

export function headers(streamId: number, block: Uint8Array, flags: number = Flag.END_HEADERS): Buffer {
  return frame(Type.HEADERS, flags, streamId, block);
}

export function continuation(streamId: number, block: Uint8Array, flags = 0): Buffer {
  return frame(Type.CONTINUATION, flags, streamId, block);
}

/** Pad Length, the payload, that many zero bytes. */
export function padded(payload: Uint8Array, padding: number): Buffer {
  return Buffer.concat([Buffer.from([padding]), payload, Buffer.alloc(padding)]);
}

/** The five bytes of PRIORITY: dependency, exclusive bit, weight as on the wire (0 means 1). */
export function priorityFields(dependsOn: number, rawWeight: number, exclusive = false): Buffer {
  const out = Buffer.alloc(5);
  out.writeUInt32BE((dependsOn | (exclusive ? 0x80000000 : 0)) >>> 0, 0);
  out[4] = rawWeight;
  return out;
}

export function priority(streamId: number, dependsOn: number, rawWeight: number, exclusive = false): Buffer {
  return frame(Type.PRIORITY, 0, streamId, priorityFields(dependsOn, rawWeight, exclusive));
}

export function rstStream(streamId: number, code: number): Buffer {
  return frame(Type.RST_STREAM, 0, streamId, uint32(code));
}

export function settings(entries: readonly (readonly [id: number, value: number])[] = []): Buffer {
  const payload = Buffer.alloc(entries.length * 6);
  for (const [i, [id, value]] of entries.entries()) {
    payload.writeUInt16BE(id, i * 6);
    payload.writeUInt32BE(value >>> 0, i * 6 + 2);
  }
  return frame(Type.SETTINGS, 0, 0, payload);
}

export function settingsAck(): Buffer {
  return frame(Type.SETTINGS, Flag.ACK, 0);
}

export function ping(payload: string | Uint8Array, flags = 0, streamId = 0): Buffer {
  return frame(Type.PING, flags, streamId, Buffer.from(payload));
}

export function goaway(lastStreamId: number, code: number, debug = ''): Buffer {
  return frame(Type.GOAWAY, 0, 0, Buffer.concat([uint32(lastStreamId), uint32(code), Buffer.from(debug)]));
}

export function windowUpdate(streamId: number, increment: number): Buffer {
  return frame(Type.WINDOW_UPDATE, 0, streamId, uint32(increment));
}

export function uint32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value >>> 0);
  return out;
}

/** A gRPC message: flag, length, bytes. */
export function message(bytes: Uint8Array | string = '', flag = 0): Buffer {
  const body = Buffer.from(bytes);
  return Buffer.concat([Buffer.from([flag]), uint32(body.length), body]);
}
