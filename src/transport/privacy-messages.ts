import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  type PrivacySchema,
  LastSeenVisibility as ProtoLastSeen,
  type SetPrivacyRequest,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import { PresenceError } from '../core/errors.ts';
import { blockedUsers, type LastSeenVisibility, type Privacy } from '../core/privacy.ts';
import type { PrivacyRequest } from '../presence/presence-api.ts';

const numbers: Readonly<Record<LastSeenVisibility, ProtoLastSeen>> = {
  everyone: ProtoLastSeen.EVERYONE,
  nobody: ProtoLastSeen.NOBODY,
  reciprocal: ProtoLastSeen.RECIPROCAL,
};

const visibilities = new Map(
  Object.entries(numbers).map(([name, number]) => [number, name as LastSeenVisibility]),
);

/** @throws PresenceError INVALID_ARGUMENT */
export function fromSetPrivacy({
  invisible,
  lastSeen,
  addBlocked,
  removeBlocked,
}: Omit<SetPrivacyRequest, '$typeName' | 'userId'>): PrivacyRequest {
  const visibility = visibilities.get(lastSeen) ?? null;
  if (visibility === null && lastSeen !== ProtoLastSeen.UNSPECIFIED) {
    throw PresenceError.invalidArgument('last_seen', 'is not one that this server knows');
  }
  return { invisible: invisible ?? null, lastSeen: visibility, addBlocked, removeBlocked };
}

export function toPrivacy(privacy: Privacy): MessageInitShape<typeof PrivacySchema> {
  return {
    invisible: privacy.invisible !== null && privacy.invisible.lifted === null,
    lastSeen: numbers[privacy.lastSeen],
    blockedUserIds: blockedUsers(privacy),
  };
}
