import { PresenceError } from './errors.ts';
import { hasForbiddenCharacter, utf8Length } from './user-id.ts';

/** What a user says of themselves. */
export interface CustomStatus {
  readonly text: string;
  readonly emoji: string;
  /** When the one before it returns, Unix ms; 0 = never. */
  readonly expiresAtMs: number;
}

/** What a caller asks for. */
export interface CustomStatusRequest {
  readonly text: string;
  readonly emoji: string;
  /** How long until the one before it returns, ms; 0 = for good. */
  readonly lifeMs: number;
}

/** Most characters (Unicode code points) of the text. */
export const maxCustomTextCharacters = 140;
export const maxEmojiBytes = 32;
export const maxCustomLifeMs = 31 * 24 * 60 * 60 * 1000;
/** Statuses kept that may return. */
export const maxReturningStatuses = 3;

/** @throws PresenceError INVALID_ARGUMENT */
export function checkCustomStatus({ text, emoji, lifeMs }: CustomStatusRequest): void {
  // A code point takes at most two UTF-16 units, so a long string needs no counting to be too long.
  if (text.length > 2 * maxCustomTextCharacters || [...text].length > maxCustomTextCharacters) {
    throw PresenceError.invalidArgument('text', `must have at most ${maxCustomTextCharacters} characters`);
  }
  if (emoji.length > maxEmojiBytes || utf8Length(emoji) > maxEmojiBytes) {
    throw PresenceError.invalidArgument('emoji', `must have at most ${maxEmojiBytes} bytes`);
  }
  if (hasForbiddenCharacter(text))
    throw PresenceError.invalidArgument('text', 'must not contain control characters');
  if (hasForbiddenCharacter(emoji))
    throw PresenceError.invalidArgument('emoji', 'must not contain control characters');
  if (!(lifeMs >= 0 && lifeMs <= maxCustomLifeMs)) {
    throw PresenceError.invalidArgument('expires_in_ms', `must be from 0 to ${maxCustomLifeMs}`);
  }
}

/**
 * The statuses after one was set. The last is the one in force; those before it return, one by one, as the later ones
 * expire. One that would be over before the new one is has nothing to return to, and goes.
 */
export function pushCustomStatus(
  statuses: readonly CustomStatus[],
  { text, emoji, lifeMs }: CustomStatusRequest,
  nowMs: number,
): readonly CustomStatus[] {
  if (text === '' && emoji === '') return noStatuses;
  const expiresAtMs = lifeMs === 0 ? 0 : nowMs + lifeMs;
  const pushed = { text, emoji, expiresAtMs };
  if (expiresAtMs === 0) return [pushed];
  const returning = statuses.filter((it) => it.expiresAtMs === 0 || it.expiresAtMs > expiresAtMs);
  return [...returning.slice(-maxReturningStatuses), pushed];
}

/** Without those that are over. */
export function dropExpired(statuses: readonly CustomStatus[], nowMs: number): readonly CustomStatus[] {
  const top = statuses.at(-1);
  // Those below expire later, or never.
  if (top === undefined || top.expiresAtMs === 0 || top.expiresAtMs > nowMs) return statuses;
  const kept = statuses.filter((it) => it.expiresAtMs === 0 || it.expiresAtMs > nowMs);
  return kept.length === 0 ? noStatuses : kept;
}

/** Whether watchers see the same. */
export function isSameCustomStatus(a: CustomStatus | null, b: CustomStatus | null): boolean {
  if (a === null || b === null) return a === b;
  return a.text === b.text && a.emoji === b.emoji && a.expiresAtMs === b.expiresAtMs;
}

export const noStatuses: readonly CustomStatus[] = Object.freeze([]);
