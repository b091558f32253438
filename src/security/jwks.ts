import { createLocalJWKSet, errors, type JWTVerifyGetKey } from 'jose';
import type { Log } from '../observe/log.ts';
import { askJson } from './http-json.ts';

export interface JwksOptions {
  readonly url: string;
  /** How long keys are used before they are fetched again. */
  readonly cacheMs: number;
  /** How long after that they are used while the issuer is away. */
  readonly staleMs: number;
  readonly timeoutMs: number;
  /** Least time between two fetches, whatever tokens ask for; default 10,000. */
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

  constructor(options: JwksOptions) {
    this.#options = options;
    this.#cooldownMs = options.cooldownMs ?? defaultCooldownMs;
  }

  /** The key that a token names. Rejects when there is none, or none can be had. */
  readonly get: JWTVerifyGetKey = async (header, token) => {
    const { cacheMs, staleMs } = this.#options;
    const ageMs = performance.now() - this.#fetchedMs;
    if (ageMs > cacheMs + staleMs) {
      this.#keys = undefined;
      await this.#refresh();
    } else if (ageMs > cacheMs) {
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
      const keys = createLocalJWKSet(value as Parameters<typeof createLocalJWKSet>[0]);
      this.#fetchedMs = performance.now();
      this.#keys = keys;
      if (text === this.#text) return;
      this.#text = text;
      onChange();
    } catch (error) {
      log.warn({ err: error }, 'the keys of the issuer cannot be fetched now');
    }
  }
}
