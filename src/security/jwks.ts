import {
  calculateJwkThumbprint,
  createLocalJWKSet,
  errors,
  exportJWK,
  type JSONWebKeySet,
  type JWTVerifyGetKey,
} from 'jose';
import type { Log } from '../observe/log.ts';
import { askJson } from './http-json.ts';

export interface JwksOptions {
  readonly url: string;
  /** How long keys are used before they are fetched again. */
  readonly cacheMs: number;
  /** How long after that they are used while the issuer is away. */
  readonly staleMs: number;
  readonly timeoutMs: number;
  /** Least time between two fetches, whatever tokens ask for; default 10,000, or `cacheMs` where that is less. */
  readonly cooldownMs?: number;
  readonly log: Log;
  /** The keys are others now: what was accepted by the old ones is to be looked at anew. */
  readonly onChange: () => void;
}

const defaultCooldownMs = 10_000;
const maxBytes = 1024 * 1024;

/**
 * The issuer's keys: cached, fetched again by age and for a key id that is not known, served stale while the issuer does
 * not answer. However many tokens with made-up key ids arrive, the issuer is asked once per cooldown.
 */
export class JwksKeys {
  readonly #options: JwksOptions;
  readonly #cooldownMs: number;
  #keys: JWTVerifyGetKey | undefined;
  #text = '';
  #fetchedMs = Number.NEGATIVE_INFINITY;
  #triedMs = Number.NEGATIVE_INFINITY;
  #fetching: Promise<void> | undefined;
  /** Of all keys: key id and thumbprint, and the thumbprint alone for tokens that name no key. */
  #names: ReadonlySet<string> = new Set();
  /** Key objects are the same from one token to the next; by the key id that the token gives. */
  readonly #nameOf = new WeakMap<CryptoKey, Map<string | undefined, string>>();
  #isFailing = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: JwksOptions) {
    this.#options = options;
    this.#cooldownMs = options.cooldownMs ?? Math.min(defaultCooldownMs, options.cacheMs);
  }

  /** Fetches the keys now, and again by age, whether tokens ask for them or not: a withdrawn key is noticed in time. */
  start(): void {
    const look = () => {
      if (performance.now() - this.#fetchedMs > this.#options.cacheMs) void this.#refresh();
    };
    look();
    this.#timer = setInterval(look, Math.min(this.#options.cacheMs, this.#cooldownMs)).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Whether keys are at hand that are not older than they may be. */
  get isUsable(): boolean {
    const { cacheMs, staleMs } = this.#options;
    return performance.now() - this.#fetchedMs <= cacheMs + staleMs;
  }

  /** Identifies a key that `get` answered, for `has`. */
  async nameOf(keyId: string | undefined, key: CryptoKey): Promise<string> {
    const known = this.#nameOf.get(key)?.get(keyId);
    if (known !== undefined) return known;
    const name = keyName(keyId, await calculateJwkThumbprint(await exportJWK(key)));
    const names = this.#nameOf.get(key) ?? new Map<string | undefined, string>();
    this.#nameOf.set(key, names.set(keyId, name));
    return name;
  }

  /** Whether the issuer still has the key of this name. */
  has(name: string): boolean {
    return this.#names.has(name);
  }

  /** The key that a token names. Rejects when there is none, or none can be had. */
  readonly get: JWTVerifyGetKey = async (header, token) => {
    if (!this.isUsable) {
      this.#keys = undefined;
      await this.#refresh();
    } else if (performance.now() - this.#fetchedMs > this.#options.cacheMs) {
      void this.#refresh();
    }
    if (!this.#keys) throw new Error('the keys of the issuer cannot be had');
    try {
      return await this.#keys(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      await this.#refresh();
      return await this.#keys(header, token);
    }
  };

  /** Never rejects: what was there before stays. */
  #refresh(): Promise<void> {
    if (this.#fetching) return this.#fetching;
    if (performance.now() - this.#triedMs < this.#cooldownMs) return Promise.resolve();
    this.#triedMs = performance.now();
    this.#fetching = this.#fetch().finally(() => {
      this.#fetching = undefined;
    });
    return this.#fetching;
  }

  async #fetch(): Promise<void> {
    const { url, timeoutMs, log, onChange } = this.#options;
    try {
      const { value } = await askJson(url, { timeoutMs, maxBytes });
      const text = JSON.stringify(value);
      // Throws on what is no key set.
      const keys = createLocalJWKSet(value as JSONWebKeySet);
      const names = text === this.#text ? this.#names : await keyNames(value as JSONWebKeySet);
      this.#fetchedMs = performance.now();
      this.#keys = keys;
      this.#names = names;
      if (this.#isFailing) log.info({ url: hostOf(url) }, 'fetched the keys of the token issuer again');
      this.#isFailing = false;
      if (text === this.#text) return;
      this.#text = text;
      onChange();
    } catch (error) {
      const level = this.#isFailing ? 'debug' : 'warn';
      this.#isFailing = true;
      log[level]({ err: error, url: hostOf(url) }, 'cannot fetch the keys of the token issuer; retrying');
    }
  }
}

/** Identifies a key of an issuer: the id that tokens name it by, if any, and its RFC 7638 thumbprint. */
function keyName(keyId: string | undefined, thumbprint: string): string {
  return `${keyId ?? ''} ${thumbprint}`;
}

/** A key that cannot be used has no name: no token was accepted by it. */
async function keyNames({ keys }: JSONWebKeySet): Promise<ReadonlySet<string>> {
  const names = new Set<string>();
  for (const jwk of keys) {
    const thumbprint = await calculateJwkThumbprint(jwk).catch(() => undefined);
    if (thumbprint === undefined) continue;
    names.add(keyName(undefined, thumbprint));
    names.add(keyName(jwk.kid, thumbprint));
  }
  return names;
}

/** A URL may hold a password. */
function hostOf(url: string): string {
  return new URL(url).host;
}
