import type { UserState } from '../../core/presence.ts';
import type { PrivacyNews } from '../../core/store.ts';
import { decodePrivacy } from './privacy-text.ts';
import { decodeState, separator, stateFields } from './state-line.ts';

/** What was recorded in one partition together: an entry of its log, and the message that says the same. */
export interface LogEntry {
  /** Version of the partition before it: where it is not the last one seen, something was missed. */
  readonly previous: number;
  /** Version of the last transition in it. */
  readonly last: number;
  readonly transitions: readonly UserState[];
  /** Users whose privacy changed: of an entry that has no transitions. */
  readonly privacyOf: readonly string[];
  /** What the privacy of that user is now, where the message says so. */
  readonly privacyNews?: PrivacyNews;
  /** Set where this version cannot read it; it then holds nothing else. */
  readonly unknown?: UnknownEntry;
}

export interface UnknownEntry {
  /** Type and version as written, such as `states 2`. */
  readonly tag: string;
  /** Whether it is of a type that this version follows: then what it says is read afresh. */
  readonly isFollowed: boolean;
}

type Content = Pick<LogEntry, 'transitions' | 'privacyOf' | 'privacyNews' | 'unknown'>;

/** How each type of entry is read, by type and version as transition.lua writes them. */
const readers: Readonly<Record<string, (lines: readonly string[]) => Content | undefined>> = {
  'states 1': readStates,
  'privacy 1': readPrivacy,
};
/** Entries that Pilotlight 0.1.0 wrote carry no tag. */
const untagged = '';
/** Types whose entries say what watchers are told. */
const followedTypes: readonly string[] = ['states', 'privacy'];

/**
 * Decodes a message of the partition's channel: tag, previous, last, then lines, each on a line of its own; Pilotlight 0.1.0
 * wrote no tag. Never throws.
 */
export function decodeMessage(message: string): LogEntry {
  const parts = message.split('\n');
  const isTagged = !/^\d/.test(message);
  const tag = isTagged ? (parts.shift() as string) : untagged;
  const [previous, last, ...lines] = parts;
  return { previous: Number(previous), last: Number(last), ...decodeContent(tag, lines) };
}

/** Decodes an entry of the partition's stream, as XRANGE answers it. Never throws. */
export function decodeLogEntry(entry: readonly [id: string, fields: readonly string[]]): LogEntry {
  const [id, flat] = entry;
  const field = (name: string): string | undefined => {
    for (let i = 0; i < flat.length; i += 2) if (flat[i] === name) return flat[i + 1];
    return undefined;
  };
  const lines = (field('t') ?? '').split('\n');
  return {
    previous: Number(field('p')),
    last: Number.parseInt(id, 10),
    ...decodeContent(field('k') ?? untagged, lines),
  };
}

function decodeContent(tag: string, lines: readonly string[]): Content {
  const reader = tag === untagged ? readUntagged : Object.hasOwn(readers, tag) ? readers[tag] : undefined;
  const content = reader?.(lines);
  if (content) return content;
  const isFollowed = tag === untagged || followedTypes.includes(tag.split(' ', 1)[0] as string);
  return { transitions: [], privacyOf: [], unknown: { tag: tag === untagged ? 'no tag' : tag, isFollowed } };
}

/** A state line for each transition. */
function readStates(lines: readonly string[]): Content | undefined {
  if (lines.length === 0 || lines.some((line) => line.split(separator, stateFields).length < stateFields))
    return undefined;
  return { transitions: lines.map(decodeState), privacyOf: [] };
}

/** One line: version, user; in a message also the version of the user's state, and the privacy. */
function readPrivacy(lines: readonly string[]): Content | undefined {
  const [version, userId, stateVersion, text] = lines[0]?.split(separator) ?? [];
  if (userId === undefined) return undefined;
  const content = { transitions: [], privacyOf: [userId] };
  if (stateVersion === undefined || text === undefined) return content;
  const privacy = text === '' ? null : decodePrivacy(`${version}\n${text}`);
  // What a newer server writes in another way is read with the state.
  if (privacy === undefined) return content;
  const news = { version: Number(version), stateVersion: Number(stateVersion), privacy };
  return { ...content, privacyNews: news };
}

/** Without a tag, a change of privacy is what has two fields. */
function readUntagged(lines: readonly string[]): Content | undefined {
  const isPrivacy = lines[0]?.split(separator, 3).length === 2;
  return isPrivacy ? readPrivacy(lines) : readStates(lines);
}
