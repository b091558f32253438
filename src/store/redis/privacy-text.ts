import {
  type Face,
  type Hide,
  type LastSeenVisibility,
  type Lift,
  lastSeenVisibilities,
  type Privacy,
} from '../../core/privacy.ts';
import { toCome } from '../../core/privacy-change.ts';

/**
 * Stands in a text for the time of a change that is being made: the script that writes it reads the clock. No name and no
 * custom status holds a control character.
 */
const timeMark = '\x1f';
const markText = JSON.stringify(timeMark);

/** A time; the mark: that of the change. */
type TimeText = number | typeof timeMark;
/** null: that of the change, which stands before the text. */
type VersionText = number | null;

type FaceText = Omit<Face, 'sinceMs' | 'changedAtMs' | 'lastSeenMs' | 'version'> & {
  readonly sinceMs: TimeText;
  readonly changedAtMs: TimeText;
  readonly lastSeenMs: TimeText;
  readonly version: VersionText;
};

type LiftText = Omit<Lift, 'atMs' | 'sinceMs' | 'version'> & {
  readonly atMs: TimeText;
  readonly sinceMs: TimeText;
  readonly version: VersionText;
};

interface HideText {
  readonly f: FaceText;
  readonly l: LiftText | null;
}

interface BlocksText {
  readonly faces: readonly FaceText[];
  readonly users: readonly (readonly [userId: string, face: number, lifted: LiftText | null])[];
}

interface PrivacyText {
  readonly i: HideText | null;
  /**
   * The block list. Users blocked at one time keep the same face, which is written once. Version 0.1 wrote a list of user
   * and hide instead.
   */
  readonly b: BlocksText | readonly (readonly [userId: string, hide: HideText])[];
  readonly s: LastSeenVisibility;
  readonly v: VersionText;
}

/** `toCome` becomes null in a version, and in a time the mark that `aroundTime` cuts the text at. */
export function encodePrivacy({ invisible, blocked, lastSeen, lastSeenVersion }: Privacy): string {
  const text: PrivacyText = {
    i: invisible && encodeHide(invisible),
    b: encodeBlocks(blocked),
    s: lastSeen,
    v: encodeVersion(lastSeenVersion),
  };
  return JSON.stringify(text);
}

/** What stands before, between and after the places of the time of the change, as privacy-write.lua takes it. */
export function aroundTime(text: string): string[] {
  return text.split(markText);
}

/**
 * Resolves what a newer version may have written in another way to nothing, never to a part of it.
 *
 * @param stored as it stands in Redis: version, newline, text
 * @returns undefined: it cannot be read
 */
export function decodePrivacy(stored: string): Privacy | undefined {
  const end = stored.indexOf('\n');
  const version = Number(stored.slice(0, end));
  // No time is left open in what is stored.
  const decodeFace = (text: FaceText) => ({ ...text, version: text.version ?? version }) as Face;
  const decodeLift = (text: LiftText | null) =>
    text && ({ ...text, version: text.version ?? version } as Lift);
  const decodeHide = ({ f, l }: HideText): Hide => ({ face: decodeFace(f), lifted: decodeLift(l) });
  const decodeBlocks = (text: PrivacyText['b']): Map<string, Hide> => {
    if ('map' in text) return new Map(text.map(([userId, hide]) => [userId, decodeHide(hide)]));
    const faces = text.faces.map(decodeFace);
    return new Map(
      text.users.map(([userId, face, lifted]) => [
        userId,
        { face: known(faces[face]), lifted: decodeLift(lifted) },
      ]),
    );
  };
  try {
    const { i, b, s, v } = JSON.parse(stored.slice(end + 1)) as PrivacyText;
    if (!lastSeenVisibilities.includes(s)) return undefined;
    return {
      version,
      invisible: i && decodeHide(i),
      blocked: decodeBlocks(b),
      lastSeen: s,
      lastSeenVersion: v ?? version,
    };
  } catch {
    return undefined;
  }
}

function encodeBlocks(blocked: Privacy['blocked']): BlocksText {
  const places = new Map<Face, number>();
  const users = [...blocked].map(([userId, { face, lifted }]) => {
    const place = places.get(face) ?? places.size;
    places.set(face, place);
    return [userId, place, encodeLift(lifted)] as const;
  });
  return { faces: [...places.keys()].map(encodeFace), users };
}

function encodeHide({ face, lifted }: Hide): HideText {
  return { f: encodeFace(face), l: encodeLift(lifted) };
}

function encodeFace(face: Face): FaceText {
  const { sinceMs, changedAtMs, lastSeenMs, version } = face;
  return {
    ...face,
    sinceMs: encodeTime(sinceMs),
    changedAtMs: encodeTime(changedAtMs),
    lastSeenMs: encodeTime(lastSeenMs),
    version: encodeVersion(version),
  };
}

function encodeLift(lifted: Hide['lifted']): LiftText | null {
  if (!lifted) return null;
  const { atMs, sinceMs, version } = lifted;
  return {
    ...lifted,
    atMs: encodeTime(atMs),
    sinceMs: encodeTime(sinceMs),
    version: encodeVersion(version),
  };
}

function encodeTime(timeMs: number): TimeText {
  return timeMs === toCome ? timeMark : timeMs;
}

function encodeVersion(version: number): VersionText {
  return version === toCome ? null : version;
}

function known(face: Face | undefined): Face {
  if (!face) throw new Error('a hide names a face that is not there');
  return face;
}
