export interface HttpJsonOptions {
  /** For the whole exchange. */
  readonly timeoutMs: number;
  readonly maxBytes: number;
  /** Sent as JSON by POST; absent: GET. */
  readonly body?: unknown;
}

export interface HttpJson {
  readonly value: unknown;
  /** Cache-Control: max-age, ms; undefined: the answer does not say. */
  readonly maxAgeMs: number | undefined;
}

/**
 * Asks a service for JSON. A user and password in the URL are sent as Basic credentials. Rejects on anything but a 200 with
 * valid JSON within the bounds; follows no redirect.
 */
export async function askJson(url: string, options: HttpJsonOptions): Promise<HttpJson> {
  const { timeoutMs, maxBytes, body } = options;
  const { target, authorization } = splitCredentials(url);
  const response = await fetch(target, {
    redirect: 'error',
    signal: AbortSignal.timeout(timeoutMs),
    headers: {
      accept: 'application/json',
      ...(authorization !== undefined && { authorization }),
      ...(body !== undefined && { 'content-type': 'application/json' }),
    },
    ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }),
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`it answered ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new Error(`its answer is larger than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return {
    value: JSON.parse(Buffer.concat(chunks).toString()),
    maxAgeMs: maxAgeMs(response.headers.get('cache-control')),
  };
}

/** `fetch` takes no URL with credentials. */
function splitCredentials(url: string): { target: URL; authorization: string | undefined } {
  const target = new URL(url);
  const { username, password } = target;
  if (username === '') return { target, authorization: undefined };
  target.username = '';
  target.password = '';
  const text = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { target, authorization: `Basic ${Buffer.from(text).toString('base64')}` };
}

function maxAgeMs(header: string | null): number | undefined {
  if (header === null) return undefined;
  if (/\bno-(store|cache)\b/.test(header)) return 0;
  const seconds = /\bmax-age=(\d{1,9})\b/.exec(header)?.[1];
  return seconds === undefined ? undefined : Number(seconds) * 1000;
}
