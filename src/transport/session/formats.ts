import { create, fromBinary, type JsonValue, toBinary, toJsonString } from '@bufbuild/protobuf';
import {
  type ClientFrame,
  ClientFrameSchema,
  ServerFrameSchema,
  StatusUpdateEventSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { SessionMessage } from '../../presence/session-messages.ts';
import type { WatchEvent } from '../../presence/subscription.ts';
import { toEvent } from '../grpc/codec.ts';
import { encodeEvent } from '../grpc/fast-codec.ts';
import { checkJson, checkProto } from '../message-shape.ts';
import { isObject, readJson } from '../proto-json.ts';
import { BadFrame, requestIdOfJson, requestIdOfProto, requestIdOfText } from './bad-frame.ts';
import { toFrame, type WelcomeFacts } from './frames.ts';

/** A wire format of session frames. An event is encoded once, however many sessions it goes to. */
export interface FrameFormat {
  /** Whether frames are binary rather than text. */
  readonly isBinary: boolean;
  decode(bytes: Buffer): ClientFrame | BadFrame;
  /** The id that a frame seems to have, which is not decoded; 0: none is found. */
  requestId(bytes: Buffer): number;
  encode(message: SessionMessage): Buffer;
}

/** Encodes batches from the pieces of their events; what fan-out offers to many in a row is put together once. */
class BatchEncoder {
  readonly #encodeEvent: (event: WatchEvent) => Buffer;
  readonly #join: (pieces: readonly Buffer[]) => Buffer;
  readonly #pieces = new WeakMap<WatchEvent, Buffer>();
  #last: { readonly events: readonly WatchEvent[]; readonly frame: Buffer } | undefined;

  constructor(encodeEvent: (event: WatchEvent) => Buffer, join: (pieces: readonly Buffer[]) => Buffer) {
    this.#encodeEvent = encodeEvent;
    this.#join = join;
  }

  encode(events: readonly WatchEvent[]): Buffer {
    const last = this.#last;
    if (last && isSame(last.events, events)) return last.frame;
    const frame = this.#join(events.map((event) => this.#piece(event)));
    this.#last = { events, frame };
    return frame;
  }

  #piece(event: WatchEvent): Buffer {
    // A snapshot is made for one watcher alone.
    if (event.snapshot) return this.#encodeEvent(event);
    let piece = this.#pieces.get(event);
    if (!piece) {
      piece = this.#encodeEvent(event);
      this.#pieces.set(event, piece);
    }
    return piece;
  }
}

function isSame(a: readonly WatchEvent[], b: readonly WatchEvent[]): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

/** presence.v1.proto and gRPC: the bytes of the protobuf messages. */
export class ProtoFormat implements FrameFormat {
  readonly isBinary = true;
  readonly #facts: WelcomeFacts;
  readonly #items: number;
  readonly #batches = new BatchEncoder(
    (event) => delimited(eventsField, encodeEvent(event)),
    (pieces) => delimited(eventsFrameField, Buffer.concat(pieces)),
  );

  /** @param items most fields, values and list items of a frame */
  constructor(facts: WelcomeFacts, items: number) {
    this.#items = items;
    this.#facts = facts;
  }

  decode(bytes: Uint8Array): ClientFrame | BadFrame {
    try {
      checkProto(ClientFrameSchema, bytes, this.#items);
      return fromBinary(ClientFrameSchema, bytes, { readUnknownFields: false });
    } catch (error) {
      return new BadFrame(requestIdOfProto(bytes), error);
    }
  }

  requestId(bytes: Uint8Array): number {
    return requestIdOfProto(bytes);
  }

  encode(message: SessionMessage): Buffer {
    if (message.kind === 'events') return this.#batches.encode(message.events);
    if (message.kind === 'ping') return protoPing;
    const bytes = toBinary(ServerFrameSchema, create(ServerFrameSchema, toFrame(message, this.#facts)));
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

/** presence.v1.json: the proto3 JSON mapping. Fields that a server does not know are ignored. */
export class JsonFormat implements FrameFormat {
  readonly isBinary = false;
  readonly #facts: WelcomeFacts;
  readonly #items: number;
  readonly #batches = new BatchEncoder(
    (event) => Buffer.from(toJsonString(StatusUpdateEventSchema, toEvent(event))),
    (pieces) => Buffer.from(`{"events":{"events":[${pieces.join(',')}]}}`),
  );

  /** @param items most fields, values and list items of a frame */
  constructor(facts: WelcomeFacts, items: number) {
    this.#items = items;
    this.#facts = facts;
  }

  decode(bytes: Buffer): ClientFrame | BadFrame {
    let json: JsonValue;
    try {
      checkJson(bytes, this.#items);
      json = JSON.parse(bytes.toString()) as JsonValue;
    } catch (error) {
      return new BadFrame(this.requestId(bytes), error);
    }
    try {
      return readJson(ClientFrameSchema, json);
    } catch (error) {
      return new BadFrame(requestIdOfJson(json), error, isObject(json));
    }
  }

  requestId(bytes: Buffer): number {
    return requestIdOfText(bytes.toString('latin1', 0, maxIdBytes));
  }

  encode(message: SessionMessage): Buffer {
    if (message.kind === 'events') return this.#batches.encode(message.events);
    if (message.kind === 'ping') return jsonPing;
    const frame = create(ServerFrameSchema, toFrame(message, this.#facts));
    return Buffer.from(toJsonString(ServerFrameSchema, frame));
  }
}

/** Where the id of a frame is looked for that is no JSON. */
const maxIdBytes = 64;

/** Encoded once for all sessions and for good. */
const protoPing = Buffer.from(
  toBinary(ServerFrameSchema, create(ServerFrameSchema, { frame: { case: 'ping', value: {} } })),
);
const jsonPing = Buffer.from('{"ping":{}}');

/** ServerFrame.events and Events.events. */
const eventsFrameField = 3;
const eventsField = 1;

/** A length-delimited protobuf field; field numbers up to 15. */
function delimited(field: number, bytes: Buffer): Buffer {
  const length: number[] = [];
  for (let rest = bytes.length; ; rest >>>= 7) {
    if (rest < 0x80) {
      length.push(rest);
      break;
    }
    length.push((rest & 0x7f) | 0x80);
  }
  return Buffer.concat([Buffer.from([(field << 3) | 2, ...length]), bytes]);
}
