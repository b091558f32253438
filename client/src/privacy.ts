import { PresenceError, type PresenceErrorCode } from './errors.ts';

/** Who may know when the OFFLINE user was last seen. `RECIPROCAL`: users who are not `NOBODY` themselves. */
export type LastSeenVisibility = 'EVERYONE' | 'NOBODY' | 'RECIPROCAL';

/** What a user hides, and from whom. */
export interface Privacy {
  /** Whether the user is hidden from everybody else. */
  readonly invisible: boolean;
  readonly lastSeen: LastSeenVisibility;
  /** From whom else the user is hidden. */
  readonly blockedUserIds: readonly string[];
}

/** What is left out stays as it is. */
export interface PrivacyChange {
  readonly invisible?: boolean;
  readonly lastSeen?: LastSeenVisibility;
  readonly addBlocked?: readonly string[];
  readonly removeBlocked?: readonly string[];
}

export interface PrivacyCall {
  /** Of the server, as the client has it. */
  readonly url: string | URL | undefined;
  readonly userId: string;
  /** Empty: none. */
  readonly token: string;
  readonly timeoutMs: number;
}

const prefix = 'LAST_SEEN_VISIBILITY_';

/** Changes a user's privacy, or, without `change`, asks for it. Sessions do not carry it: it goes over HTTP. */
export async function callPrivacy(call: PrivacyCall, change?: PrivacyChange): Promise<Privacy> {
  const { userId, token, timeoutMs } = call;
  if (call.url === undefined || userId === '') {
    throw new PresenceError('INVALID_ARGUMENT', 'url and userId must be given', false);
  }
  const headers: Record<string, string> = token === '' ? {} : { authorization: `Bearer ${token}` };
  const request: RequestInit = { headers, signal: AbortSignal.timeout(timeoutMs) };
  if (change) {
    const { lastSeen, ...others } = change;
    request.method = 'PUT';
    request.body = JSON.stringify({ ...others, ...(lastSeen && { lastSeen: prefix + lastSeen }) });
    headers['content-type'] = 'application/json';
  }
  try {
    const response = await fetch(addressOf(call.url, userId), request);
    return privacyIn(response.status, (await response.json()) as Answer);
  } catch (error) {
    if (error instanceof PresenceError) throw error;
    const isLate = error instanceof DOMException && error.name === 'TimeoutError';
    throw isLate
      ? new PresenceError('TIMEOUT', 'no answer came in time', true)
      : new PresenceError('DISCONNECTED', `the server was not reached: ${String(error)}`, true);
  }
}

interface Answer {
  readonly privacy?: {
    readonly invisible: boolean;
    readonly lastSeen: string;
    readonly blockedUserIds: string[];
  };
  readonly error?: { readonly code: PresenceErrorCode; readonly message: string };
}

function privacyIn(status: number, { privacy, error }: Answer): Privacy {
  if (error) throw new PresenceError(error.code, error.message, status === 429 || status === 503);
  if (!privacy) throw new TypeError(`an answer of status ${status} without privacy`);
  const { invisible, lastSeen, blockedUserIds } = privacy;
  return { invisible, lastSeen: lastSeen.slice(prefix.length) as LastSeenVisibility, blockedUserIds };
}

/** Beside where sessions are, whatever proxies put before it. */
function addressOf(url: string | URL, userId: string): URL {
  const address = new URL(url);
  address.protocol = address.protocol.replace(/^ws/, 'http');
  const base = address.pathname.replace(/\/(v1\/connect)?$/, '');
  address.pathname = `${base}/v1/users/${encodeURIComponent(userId)}/privacy`;
  return address;
}
