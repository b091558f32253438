import { hash } from 'node:crypto';
import { PresenceError } from '../core/errors.ts';
import type { Principal } from '../core/principal.ts';
import type { Log } from '../observe/log.ts';
import { ApiKeys } from './api-keys.ts';
import { type JwtOptions, JwtVerifier } from './jwt.ts';
import { withdrawn } from './open-credentials.ts';
import type { Revocations } from './revocations.ts';

export interface AuthenticatorOptions extends Omit<JwtOptions, 'onKeysChanged'> {
  readonly auth: readonly string[];
  readonly authApiKeysFile: string | undefined;
  /** undefined: no token can be revoked. */
  readonly revocations?: Revocations | undefined;
  readonly log: Log;
}

export const maxTokenBytes = 8192;
/** Tokens remembered as valid, so that a heartbeat costs no signature. */
const maxRemembered = 50_000;

/** From a bearer token to who calls; the same for every transport. */
export class Authenticator {
  readonly toleranceMs: number;
  readonly #jwt: JwtVerifier | undefined;
  readonly #keys: ApiKeys | undefined;
  readonly #revocations: Revocations | undefined;
  /** By SHA-256, so that no token is kept; oldest first. */
  readonly #remembered = new Map<string, Principal>();
  #onChange: () => void = () => {};
  /** Grows when keys change: what was checked by the old ones is not remembered. */
  #generation = 0;

  /** @throws Error when a key file cannot be read or is not valid */
  constructor(options: AuthenticatorOptions) {
    const { auth, authApiKeysFile, revocations, log } = options;
    this.#revocations = revocations;
    revocations?.onChange(() => this.#changed());
    this.toleranceMs = options.authClockToleranceMs;
    const onKeysChanged = () => this.#changed();
    if (auth.includes('jwt')) this.#jwt = new JwtVerifier({ ...options, onKeysChanged });
    if (auth.includes('api-keys')) {
      this.#keys = new ApiKeys({ file: authApiKeysFile as string, log, onKeysChanged });
    }
  }

  start(): void {
    this.#jwt?.start();
    this.#keys?.start();
  }

  stop(): void {
    this.#jwt?.stop();
    this.#keys?.stop();
  }

  /** Who is told that keys changed, so that what is open is checked again; set once. Must not throw. */
  onChange(listener: () => void): void {
    this.#onChange = listener;
  }

  /** What a principal may do now, the same object while nothing changed; null: its credentials were withdrawn. */
  current(principal: Principal): Principal | null {
    const { credential } = principal;
    if (credential.kind === 'api-key') return this.#keys?.current(principal) ?? null;
    return this.#jwt?.hasKey(credential) && !this.#revocations?.has(principal) ? principal : null;
  }

  #changed(): void {
    this.#generation++;
    this.#remembered.clear();
    this.#onChange();
  }

  /**
   * Who a token that was seen before speaks for; undefined: it was not, or not lately.
   *
   * @throws PresenceError UNAUTHORIZED (unauthenticated): it has expired
   */
  recall(token: string): Principal | undefined {
    if (token.length > maxTokenBytes) return undefined;
    return this.#recall(hash('sha256', token, 'base64'));
  }

  /**
   * Who the token speaks for: at once where it was seen before.
   *
   * @throws PresenceError UNAUTHORIZED (unauthenticated)
   */
  authenticate(token: string): Principal | Promise<Principal> {
    if (token.length > maxTokenBytes) {
      throw PresenceError.unauthenticated(`a token has at most ${maxTokenBytes} bytes`);
    }
    const digest = hash('sha256', token, 'base64');
    const known = this.#recall(digest);
    if (known) return known;
    // A JWT has three parts, a key none.
    const isJwt = token.split('.').length === 3;
    if (isJwt && this.#jwt) return this.#verify(this.#jwt, token, digest);
    if (this.#keys) return this.#remember(digest, this.#keys.verify(token));
    throw PresenceError.unauthenticated('the token is not of a kind that this server takes');
  }

  /** @throws PresenceError UNAUTHORIZED (unauthenticated): it has expired */
  checkTime(principal: Principal): Principal {
    if (Date.now() < principal.expiresAtMs + this.toleranceMs) return principal;
    throw expired();
  }

  async #verify(jwt: JwtVerifier, token: string, digest: string): Promise<Principal> {
    const generation = this.#generation;
    const principal = await jwt.verify(token);
    if (!this.current(principal)) throw withdrawn();
    return generation === this.#generation ? this.#remember(digest, principal) : principal;
  }

  #recall(digest: string): Principal | undefined {
    const known = this.#remembered.get(digest);
    if (!known) return undefined;
    // Keys that are too old accept nobody, whether or not the token was seen before.
    if (known.credential.kind === 'jwt' && !this.#jwt?.isUsable) return undefined;
    return this.checkTime(known);
  }

  #remember(digest: string, principal: Principal): Principal {
    if (this.#remembered.size >= maxRemembered) {
      const [oldest] = this.#remembered.keys();
      this.#remembered.delete(oldest as string);
    }
    this.#remembered.set(digest, principal);
    return principal;
  }
}

export function expired(): PresenceError {
  return PresenceError.unauthenticated('the token has expired');
}

/** The token of an `Authorization: Bearer` header (RFC 6750); '': the header is something else. */
export function bearerToken(authorization: string): string {
  return /^Bearer +(\S+) *$/i.exec(authorization)?.[1] ?? '';
}

/** The password of `Authorization: Basic` (RFC 7617), which browsers can send; '': the header is something else. */
export function basicPassword(authorization: string): string {
  const credentials = /^Basic +([A-Za-z0-9+/=]+) *$/i.exec(authorization)?.[1];
  if (credentials === undefined) return '';
  const text = Buffer.from(credentials, 'base64').toString();
  return text.includes(':') ? text.slice(text.indexOf(':') + 1) : '';
}
