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

interface HideText {
  readonly f: Omit<Face, 'version'> & { readonly version: number | null };
  readonly l: (Omit<NonNullable<Hide['lifted']>, 'version'> & { readonly version: number | null }) | null;
}

interface PrivacyText {
  readonly i: HideText | null;
  readonly b: readonly (readonly [userId: string, hide: HideText])[];
  readonly s: LastSeenVisibility;
  readonly v: number | null;
}

/** A privacy with `versionToCome`, as privacy-write.lua takes it. */
export function encodePrivacy({ invisible, blocked, lastSeen, lastSeenVersion }: Privacy): string {
  const text: PrivacyText = {
    i: invisible && encodeHide(invisible),
    b: [...blocked].map(([userId, hide]) => [userId, encodeHide(hide)] as const),
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
  const decodeHide = ({ f, l }: HideText): Hide => ({
    face: { ...f, version: f.version ?? version },
    lifted: l && { ...l, version: l.version ?? version },
  });
  try {
    const { i, b, s, v } = JSON.parse(stored.slice(end + 1)) as PrivacyText;
    if (!lastSeenVisibilities.includes(s)) return undefined;
    return {
      version,
      invisible: i && decodeHide(i),
      blocked: new Map(b.map(([userId, hide]) => [userId, decodeHide(hide)])),
      lastSeen: s,
      lastSeenVersion: v ?? version,
    };
  } catch {
    return undefined;
  }
}

function encodeHide({ face, lifted }: Hide): HideText {
  return {
    f: { ...face, version: encodeVersion(face.version) },
    l: lifted && { ...lifted, version: encodeVersion(lifted.version) },
  };
}

function encodeVersion(version: number): number | null {
  return version === versionToCome ? null : version;
}
