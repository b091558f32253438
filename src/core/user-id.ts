import { PresenceError } from './errors.ts';

/** Most bytes of UTF-8 that a user id may have. */
export const maxUserIdBytes = 128;

/** Longest id, in characters, that an error gives back. */
const maxNamedLength = 1024;

const printableAscii = /^[\x20-\x7e]*$/;
// Cc: C0, DEL and C1. Unpaired surrogates have no UTF-8 form, so two such ids could meet in one key.
const forbidden = /[\p{Cc}\p{Cs}]/u;

/**
 * Checks that `value` is a user id: 1 to 128 bytes of UTF-8 without control characters.
 *
 * @param field name of the request field, for the error
 * @throws PresenceError INVALID_ARGUMENT
 */
export function checkUserId(value: string, field: string): void {
  if (value.length === 0) throw PresenceError.invalidArgument(field, 'must not be empty');
  // A character takes 1 to 3 bytes per UTF-16 unit, so a long string needs no counting to be too long.
  if (value.length > maxUserIdBytes || utf8Length(value) > maxUserIdBytes) {
    throw PresenceError.invalidArgument(field, `must have at most ${maxUserIdBytes} bytes`);
  }
  if (hasForbiddenCharacter(value)) {
    throw PresenceError.invalidArgument(field, 'must not contain control characters');
  }
}

/**
 * Checks a list of user ids.
 *
 * @param field name of the request field, for the error
 * @throws PresenceError INVALID_ARGUMENT: an id, or more than `maxUsers`
 */
export function checkUserIds(userIds: readonly string[], field: string, maxUsers: number): void {
  if (userIds.length > maxUsers)
    throw PresenceError.invalidArgument(field, `must name at most ${maxUsers} users`);
  for (const [index, userId] of userIds.entries()) {
    try {
      checkUserId(userId, `${field}[${index}]`);
    } catch (error) {
      const { message } = error as PresenceError;
      // Named for the client to find it, unless it is too long to be sent back or no text that can be.
      const isNameable = userId.length <= maxNamedLength && !/\p{Cs}/u.test(userId);
      throw new PresenceError('INVALID_ARGUMENT', message, { userIds: isNameable ? [userId] : [] });
    }
  }
}

/** Whether there are control characters or unpaired surrogates. */
export function hasForbiddenCharacter(value: string): boolean {
  return !printableAscii.test(value) && forbidden.test(value);
}

export function utf8Length(value: string): number {
  let bytes = value.length;
  for (let i = 0; i < value.length; i++) {
    const unit = value.charCodeAt(i);
    if (unit < 0x80) continue;
    // Each half of a surrogate pair adds one: four bytes for two units.
    bytes += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2;
  }
  return bytes;
}
