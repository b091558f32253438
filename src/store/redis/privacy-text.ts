import {
  type Face,
  type Hide,
  type LastSeenVisibility,
  lastSeenVisibilities,
  type Privacy,
} from '../../core/privacy.ts';

/**
 * The version of a change that is being made: the script takes it when it writes. In the text it is null, and so it means
 * the version before the text.
 */
export const versionToCome = -1;

type FaceText = Omit<Face, 'version'> & { readonly version: number | null };

interface HideText {
  readonly f: FaceText;
  readonly l: (Omit<NonNullable<Hide['lifted']>, 'version'> & { readonly version: number | null }) | null;
}

interface BlocksText {
  readonly faces: readonly FaceText[];
  readonly users: readonly (readonly [userId: string, face: number, lifted: HideText['l']])[];
}

interface PrivacyText {
  readonly i: HideText | null;
  /**
   * The block list. Users blocked at one time keep the same face, which is written once. Version 0.1 wrote a list of user
   * and hide instead.
   */
  readonly b: BlocksText | readonly (readonly [userId: string, hide: HideText])[];
  readonly s: LastSeenVisibility;
  readonly v: number | null;
}

/** A privacy with `versionToCome`, as privacy-write.lua takes it. */
export function encodePrivacy({ invisible, blocked, lastSeen, lastSeenVersion }: Privacy): string {
  const text: PrivacyText = {
    i: invisible && encodeHide(invisible),
    b: encodeBlocks(blocked),
    s: lastSeen,
    v: encodeVersion(lastSeenVersion),
  };
  return JSON.stringify(text);
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
  const decodeFace = (text: FaceText): Face => ({ ...text, version: text.version ?? version });
  const decodeLift = (text: HideText['l']) => text && { ...text, version: text.version ?? version };
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
  return { ...face, version: encodeVersion(face.version) };
}

function encodeLift(lifted: Hide['lifted']): HideText['l'] {
  return lifted && { ...lifted, version: encodeVersion(lifted.version) };
}

function encodeVersion(version: number): number | null {
  return version === versionToCome ? null : version;
}

function known(face: Face | undefined): Face {
  if (!face) throw new Error('a hide names a face that is not there');
  return face;
}
