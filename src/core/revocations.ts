import { PresenceError } from './errors.ts';
import type { Principal } from './principal.ts';

/** Refuses tokens before they expire: one token, or all of a user that were issued until then. */
export interface Revocation {
  readonly kind: 'user' | 'token';
  /** A user id, or the `jti` of a token. */
  readonly id: string;
  /** Of a user: tokens issued until then are refused, Unix ms. Of a token: when it was revoked. */
  readonly revokedAtMs: number;
  /** When the revocation is forgotten, Unix ms: by then, what it refuses has expired. */
  readonly expiresAtMs: number;
}

/** Where revocations are kept for all nodes. Rejects with PresenceError REDIS_ERROR when the engine does not answer. */
export interface RevocationStore {
  /**
   * Adds revocations, and answers all that are kept unless they are those of `knownRevision`. Of two of one user or token,
   * the later times count.
   *
   * @throws PresenceError RATE_LIMITED: maxRevocations are kept already
   */
  exchange(added: readonly Revocation[], knownRevision: string): Promise<RevocationAnswer>;
}

export interface RevocationAnswer {
  /** Another one means other revocations; '' = none was ever kept, or they were lost. */
  readonly revision: string;
  /** undefined: as the caller knows them. */
  readonly revocations: readonly Revocation[] | undefined;
}

/** What to refuse; exactly one of the two ids is not empty. */
export interface RevocationRequest {
  /** All tokens of this user that were issued until now. */
  readonly userId: string;
  /** The token with this `jti`. */
  readonly tokenId: string;
  /** How long to refuse them, ms; 0 = one day. At most 30 days. */
  readonly keepForMs: number;
}

export const maxRevocations = 10_000;

export function revocationKey({ kind, id }: Pick<Revocation, 'kind' | 'id'>): string {
  return `${kind}:${id}`;
}

/** Of two revocations of the same: what either refuses is refused. */
export function mergeRevocations(a: Revocation | undefined, b: Revocation): Revocation {
  if (!a) return b;
  return {
    ...b,
    revokedAtMs: Math.max(a.revokedAtMs, b.revokedAtMs),
    expiresAtMs: Math.max(a.expiresAtMs, b.expiresAtMs),
  };
}

export function tooManyRevocations(): PresenceError {
  return new PresenceError('RATE_LIMITED', `${maxRevocations} revocations are kept; wait until some expire`, {
    retryAfterMs: 60_000,
  });
}

/**
 * Whether a principal's token is refused. A token that does not say when it was issued counts as issued before. `iat` has
 * whole seconds, so a token issued in the second of the revocation is refused too.
 */
export function isRevoked(
  revocations: ReadonlyMap<string, Revocation>,
  { kind, id, credential }: Principal,
  nowMs: number,
): boolean {
  if (revocations.size === 0 || credential.kind !== 'jwt') return false;
  const byUser = kind === 'user' ? revocations.get(revocationKey({ kind: 'user', id })) : undefined;
  if (byUser && nowMs < byUser.expiresAtMs && credential.issuedAtMs <= byUser.revokedAtMs) return true;
  const { tokenId } = credential;
  const byToken =
    tokenId === null ? undefined : revocations.get(revocationKey({ kind: 'token', id: tokenId }));
  return byToken !== undefined && nowMs < byToken.expiresAtMs;
}
