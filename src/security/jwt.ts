import { createPublicKey, hash, type KeyObject } from 'node:crypto';
import { type JWTVerifyGetKey, type JWTVerifyOptions, jwtVerify } from 'jose';
import { PresenceError } from '../core/errors.ts';
import { type Credential, isScope, type Principal, parseWatchClaim, watchNobody } from '../core/principal.ts';
import { checkUserId } from '../core/user-id.ts';
import type { Log } from '../observe/log.ts';
import { JwksKeys } from './jwks.ts';
import { WatchedFiles } from './watched-file.ts';

export interface JwtOptions {
  readonly authJwtSecret: string | undefined;
  readonly authJwtPublicKey: string | undefined;
  readonly authJwksUrl: string | undefined;
  readonly authJwtAlg: string | undefined;
  readonly authJwtIssuer: string | undefined;
  readonly authJwtAudience: string | undefined;
  readonly authClockToleranceMs: number;
  readonly authJwksCacheMs: number;
  readonly authJwksStaleMs: number;
  readonly authJwksTimeoutMs: number;
  readonly log: Log;
  /** Tokens that were accepted must be looked at anew: the keys are others. */
  readonly onKeysChanged: () => void;
}

/** Checks JWTs (RFC 7519) against one algorithm and one source of keys. */
export class JwtVerifier {
  readonly #getKey: JWTVerifyGetKey;
  readonly #rules: JWTVerifyOptions;
  readonly #file: WatchedFiles | undefined;
  readonly #jwks: JwksKeys | undefined;
  #key: KeyObject | undefined;
  /** Of the key in a file, or of the secret, which never changes. */
  #ownKeyName = 'secret';

  /** @throws Error when the key file cannot be read, or holds no public key */
  constructor(options: JwtOptions) {
    const { authJwtSecret, authJwtPublicKey, authJwksUrl, authJwtIssuer, authJwtAudience } = options;
    const alg = options.authJwtAlg ?? (authJwtSecret === undefined ? 'RS256' : 'HS256');
    this.#rules = {
      algorithms: [alg],
      clockTolerance: options.authClockToleranceMs / 1000,
      requiredClaims: ['exp'],
      ...(authJwtIssuer !== undefined && { issuer: authJwtIssuer }),
      ...(authJwtAudience !== undefined && { audience: authJwtAudience }),
    };
    if (authJwtSecret !== undefined) {
      const secret = new TextEncoder().encode(authJwtSecret);
      this.#getKey = async () => secret;
    } else if (authJwtPublicKey !== undefined) {
      const load = ([pem]: readonly Buffer[]): void => {
        this.#take(createPublicKey(pem as Buffer));
        options.onKeysChanged();
      };
      this.#file = new WatchedFiles({ paths: [authJwtPublicKey], load, log: options.log });
      this.#take(createPublicKey(this.#file.contents()[0] as Buffer));
      this.#getKey = async () => this.#key as KeyObject;
    } else {
      this.#jwks = new JwksKeys({
        url: authJwksUrl as string,
        cacheMs: options.authJwksCacheMs,
        staleMs: options.authJwksStaleMs,
        timeoutMs: options.authJwksTimeoutMs,
        log: options.log,
        onChange: options.onKeysChanged,
      });
      this.#getKey = this.#jwks.get;
    }
  }

  start(): void {
    this.#file?.start();
    this.#jwks?.start();
  }

  stop(): void {
    this.#file?.stop();
    this.#jwks?.stop();
  }

  /** Whether keys are at hand by which a token that was accepted before may still count. */
  get isUsable(): boolean {
    return this.#jwks?.isUsable ?? true;
  }

  /** Whether the key that accepted a token is still one of ours. */
  hasKey({ key }: Credential): boolean {
    return this.#jwks ? this.#jwks.has(key) : key === this.#ownKeyName;
  }

  #take(key: KeyObject): void {
    this.#key = key;
    this.#ownKeyName = hash('sha256', key.export({ type: 'spki', format: 'der' }));
  }

  /** @throws PresenceError UNAUTHORIZED (unauthenticated) */
  async verify(token: string): Promise<Principal> {
    try {
      const { payload, protectedHeader, key } = await jwtVerify(token, this.#getKey, this.#rules);
      const name = this.#jwks
        ? await this.#jwks.nameOf(protectedHeader.kid, key as CryptoKey)
        : this.#ownKeyName;
      return principalOf(payload, name);
    } catch (error) {
      // Why is for the log: a caller is told no more than a forger may know.
      throw PresenceError.unauthenticated('the token is not valid, or not valid now', { cause: error });
    }
  }
}

/** `sub` is the user; `scope` (RFC 8693) may name scopes, with which a token without `sub` speaks for a backend. */
function principalOf(claims: Readonly<Record<string, unknown>>, key: string): Principal {
  // A claim of the wrong type is no claim that is missing: whoever issued the token meant something else by it.
  for (const name of ['sub', 'scope', 'client_id', 'jti', 'iss'] as const) {
    if (claims[name] !== undefined && typeof claims[name] !== 'string') throw new Error(`${name} is no text`);
  }
  for (const name of ['exp', 'iat', 'nbf'] as const) {
    if (claims[name] !== undefined && !Number.isFinite(claims[name])) throw new Error(`${name} is no number`);
  }
  const scopes = new Set(((claims.scope as string | undefined) ?? '').split(' ').filter(isScope));
  const expiresAtMs = (claims.exp as number) * 1000;
  const credential: Credential = {
    kind: 'jwt',
    key,
    tokenId: typeof claims.jti === 'string' ? claims.jti : null,
    issuedAtMs: typeof claims.iat === 'number' ? claims.iat * 1000 : 0,
  };
  const watch = parseWatchClaim(claims.watch) ?? watchNobody;
  if (typeof claims.sub === 'string') {
    checkUserId(claims.sub, 'sub');
    return { kind: 'user', id: claims.sub, userId: claims.sub, scopes, watch, expiresAtMs, credential };
  }
  if (scopes.size === 0) throw new Error('the token names neither a user nor a scope');
  const id = typeof claims.client_id === 'string' ? claims.client_id : 'backend';
  return { kind: 'backend', id, userId: null, scopes, watch, expiresAtMs, credential };
}
