import { insider, stranger, type Viewer } from './sight.ts';

/** What a backend may do; a token of a user can carry them too. */
export const scopes = ['presence:read', 'presence:write', 'presence:admin'] as const;
export type Scope = (typeof scopes)[number];

/** Users by their ids, and groups of users by how their ids begin. */
export interface WatchClaim {
  readonly ids: ReadonlySet<string>;
  readonly beginnings: readonly string[];
}

/** Who calls, as far as valid credentials say so. */
export interface Principal {
  /** A user speaks for themselves; a backend for whomever its scopes allow. */
  readonly kind: 'user' | 'backend';
  /** Tells principals apart: the user's id, or the name of the backend's key. */
  readonly id: string;
  /** null: a backend. */
  readonly userId: string | null;
  readonly scopes: ReadonlySet<Scope>;
  /** Whom the credentials let watch, where WATCH_POLICY=claims. */
  readonly watch: WatchClaim;
  /** When the credentials expire, Unix ms; Infinity: never. */
  readonly expiresAtMs: number;
  readonly credential: Credential;
}

/** What proved who calls, so that it can be withdrawn while a session is open. */
export interface Credential {
  readonly kind: 'jwt' | 'api-key';
  /** Identifies the key: the SHA-256 of an API key, the id and thumbprint of a key that signs tokens. */
  readonly key: string;
  /** `jti` of a token; null: it has none. */
  readonly tokenId: string | null;
  /** `iat` of a token, Unix ms; 0: it has none. */
  readonly issuedAtMs: number;
}

/** Whether the principal may set, heartbeat and connect this user. */
export function mayUpdate(principal: Principal, userId: string): boolean {
  return principal.userId === userId || has(principal, 'presence:write');
}

/** Whether the principal may ask for and watch users at all. */
export function mayRead(principal: Principal): boolean {
  return principal.userId !== null || has(principal, 'presence:read');
}

/** Whether the principal's credentials name the user among those whom it may watch. */
export function mayWatch({ watch }: Principal, userId: string): boolean {
  return watch.ids.has(userId) || watch.beginnings.some((beginning) => userId.startsWith(beginning));
}

/**
 * Reads a list such as `["bob", "team-7:*"]`; undefined: it is none. An entry that ends with `*` is a beginning, and one that
 * ends with `\*` the id that ends with `*`: so `a\*` names the user `a*` alone. Anywhere else `*` and `\` are themselves.
 */
export function parseWatchClaim(value: unknown): WatchClaim | undefined {
  if (!Array.isArray(value) || !value.every((entry) => typeof entry === 'string')) return undefined;
  const isGroup = (entry: string) => entry.endsWith('*') && !entry.endsWith('\\*');
  const idOf = (entry: string) => (entry.endsWith('\\*') ? `${entry.slice(0, -2)}*` : entry);
  return {
    ids: new Set(value.filter((entry) => !isGroup(entry)).map(idOf)),
    beginnings: value.filter(isGroup).map((entry) => entry.slice(0, -1)),
  };
}

export const watchNobody: WatchClaim = { ids: new Set(), beginnings: [] };

/** Whether the principal may see a user's connections, which name devices. */
export function mayReadConnections(principal: Principal, userId: string): boolean {
  return principal.userId === userId || has(principal, 'presence:read');
}

/** Whether the principal may see metrics, dashboard and reflection. */
export function mayOperate(principal: Principal): boolean {
  return has(principal, 'presence:admin');
}

/** For whom the principal looks users up: a user for themselves, a backend for nobody, one that may see all for that. */
export function viewerOf(principal: Principal): Viewer {
  if (principal.userId !== null) return { userId: principal.userId, seesAll: false };
  return mayOperate(principal) ? insider : stranger;
}

/** presence:admin includes the others. */
function has({ scopes: given }: Principal, scope: Scope): boolean {
  return given.has(scope) || given.has('presence:admin');
}

export function isScope(text: string): text is Scope {
  return (scopes as readonly string[]).includes(text);
}
