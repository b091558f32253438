import { hash, timingSafeEqual } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { PresenceError } from '../core/errors.ts';
import { isScope, type Principal, parseWatchClaim } from '../core/principal.ts';
import type { Log } from '../observe/log.ts';
import { WatchedFiles } from './watched-file.ts';

export interface ApiKeysOptions {
  readonly file: string;
  readonly log: Log;
  readonly onKeysChanged: () => void;
}

interface ApiKey {
  readonly digest: Buffer;
  readonly principal: Principal;
}

const maxKeys = 10_000;

/** Keys of backends, from a file that holds their SHA-256 and is read again when it changes. */
export class ApiKeys {
  readonly #file: WatchedFiles;
  #keys: readonly ApiKey[] = [];
  #byDigest: ReadonlyMap<string, ApiKey> = new Map();

  /** @throws Error when the file cannot be read or is not valid */
  constructor({ file, log, onKeysChanged }: ApiKeysOptions) {
    const load = ([content]: readonly Buffer[]): void => {
      // What did not change stays the same object: open sessions compare it.
      const before = this.#byDigest;
      this.#take(parseApiKeys(String(content)).map((key) => unchanged(before, key) ?? key));
      onKeysChanged();
    };
    this.#file = new WatchedFiles({ paths: [file], load, log });
    this.#take(parseApiKeys(String(this.#file.contents()[0])));
  }

  start(): void {
    this.#file.start();
  }

  stop(): void {
    this.#file.stop();
  }

  /**
   * Compares with every key, in constant time each, whichever is the right one.
   *
   * @throws PresenceError UNAUTHORIZED (unauthenticated)
   */
  verify(token: string): Principal {
    const digest = hash('sha256', token, 'buffer');
    let found: Principal | undefined;
    for (const key of this.#keys) if (timingSafeEqual(key.digest, digest)) found = key.principal;
    if (!found) throw PresenceError.unauthenticated('the key is not known');
    return found;
  }

  /** The principal that a key has now, the same object while nothing changed; null: the key was removed. */
  current({ credential }: Principal): Principal | null {
    return this.#byDigest.get(credential.key)?.principal ?? null;
  }

  #take(keys: readonly ApiKey[]): void {
    this.#keys = keys;
    this.#byDigest = new Map(keys.map((key) => [key.principal.credential.key, key]));
  }
}

function unchanged(before: ReadonlyMap<string, ApiKey>, key: ApiKey): ApiKey | undefined {
  const known = before.get(key.principal.credential.key);
  return isDeepStrictEqual(known, key) ? known : undefined;
}

/** @throws Error saying what is wrong, without a digest in it */
export function parseApiKeys(text: string): ApiKey[] {
  const list: unknown = JSON.parse(text);
  if (!Array.isArray(list) || list.length > maxKeys)
    throw new Error(`must be a list of at most ${maxKeys} keys`);
  const ids = new Set<string>();
  return list.map((entry: unknown, index) => {
    const { id, sha256, scopes, watch = [] } = (entry ?? {}) as Record<string, unknown>;
    if (typeof id !== 'string' || !/^[\w.-]{1,64}$/.test(id) || ids.has(id)) {
      throw new Error(`key ${index}: id must be 1 to 64 of A-Z a-z 0-9 _ . - and occur once`);
    }
    ids.add(id);
    if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/i.test(sha256)) {
      throw new Error(`key ${id}: sha256 must be 64 hexadecimal digits`);
    }
    if (!Array.isArray(scopes) || !scopes.every((it) => typeof it === 'string' && isScope(it))) {
      throw new Error(`key ${id}: scopes must be a list of presence:read, presence:write, presence:admin`);
    }
    const claim = parseWatchClaim(watch);
    if (claim === undefined) {
      throw new Error(`key ${id}: watch must be a list of user ids, or beginnings of them that end with *`);
    }
    return {
      digest: Buffer.from(sha256, 'hex'),
      principal: {
        kind: 'backend',
        id,
        userId: null,
        scopes: new Set(scopes.filter(isScope)),
        watch: claim,
        expiresAtMs: Number.POSITIVE_INFINITY,
        credential: { kind: 'api-key', key: sha256.toLowerCase(), tokenId: null, issuedAtMs: 0 },
      },
    };
  });
}
