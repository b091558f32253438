/** Control, format (bidi among them), separators of lines, private use, and halves of surrogate pairs. */
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu;

/**
 * Text of others as a terminal may be shown it: what could move the cursor, turn the direction of a line or hide is written
 * as `\uXXXX`. Also for lines of JSON, which mean the same then.
 */
export function printable(text: string): string {
  return text.replace(unprintable, (character) =>
    Array.from({ length: character.length }, (_, index) => {
      const unit = character.charCodeAt(index).toString(16).padStart(4, '0');
      return `\\u${unit}`;
    }).join(''),
  );
}

/** Reads JSON of others, all its texts printable. @throws SyntaxError */
export function parsePrintable(json: string): unknown {
  return JSON.parse(json, (_key, value: unknown) => (typeof value === 'string' ? printable(value) : value));
}

/** What to warn of before a token is sent in plain text to another machine; undefined: nothing. */
export function plainTokenWarning(address: string, token: string | undefined): string | undefined {
  const url = URL.parse(/^https?:\/\//.test(address) ? address : `http://${address}`);
  if (!token || url === null || url.protocol === 'https:') return undefined;
  const { hostname } = url;
  const isLocal =
    hostname === 'localhost' ||
    hostname.endsWith('.localhost') ||
    hostname === '[::1]' ||
    /^127\./.test(hostname);
  if (isLocal) return undefined;
  return `the token is sent to ${printable(hostname)} in plain text, where others can read it; use https://`;
}
