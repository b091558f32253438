import type { JsonValue } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import type { ClientFrame } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { PresenceError } from '../../core/errors.ts';
import type { Session } from '../../presence/session.ts';
import { isObject } from '../proto-json.ts';
import { toRequest } from './frames.ts';

/** A frame that cannot be read as one. It costs its request; the session, only if the request cannot be told apart. */
export class BadFrame {
  /** 0: none, or it cannot be read. */
  readonly requestId: number;
  readonly error: PresenceError;
  /** Whether it is clear which request failed. */
  readonly isToldApart: boolean;

  constructor(requestId: number, error: unknown, isToldApart = requestId !== 0) {
    this.requestId = requestId;
    this.error =
      error instanceof PresenceError
        ? error
        : new PresenceError('INVALID_ARGUMENT', 'the frame is not a valid presence.v1.ClientFrame', {
            cause: error,
          });
    this.isToldApart = isToldApart;
  }
}

/** Passes on what came, whatever it is. */
export function receiveFrame(session: Session, frame: ClientFrame | BadFrame): void {
  if (frame instanceof BadFrame) {
    session.receiveInvalid(frame.requestId, frame.error, frame.isToldApart ? null : 'UNREADABLE_FRAME');
    return;
  }
  try {
    session.receive(toRequest(frame));
  } catch (error) {
    session.receiveInvalid(frame.requestId, PresenceError.from(error), null);
  }
}

const maxRequestId = 0xffff_ffff;

export function requestIdOfJson(json: JsonValue): number {
  if (!isObject(json)) return 0;
  const id = Number(json.requestId ?? json.request_id ?? 0);
  return Number.isInteger(id) && id > 0 && id <= maxRequestId ? id : 0;
}

/** Of JSON that is none, as long as the id comes first, where clients write it. */
export function requestIdOfText(text: string): number {
  const id = Number(/^\s*\{\s*"(?:requestId|request_id)"\s*:\s*"?(\d{1,10})"?\s*[,}]/.exec(text)?.[1] ?? 0);
  return id <= maxRequestId ? id : 0;
}

/** Of a protobuf message that may be broken behind its id. */
export function requestIdOfProto(bytes: Uint8Array): number {
  const reader = new BinaryReader(bytes);
  try {
    while (reader.pos < reader.len) {
      const [field, wireType] = reader.tag();
      if (field === 1 && wireType === WireType.Varint) return reader.uint32();
      reader.skip(wireType, field);
    }
  } catch {
    // Broken before its id, or without one.
  }
  return 0;
}
