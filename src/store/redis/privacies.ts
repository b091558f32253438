import { PresenceError } from '../../core/errors.ts';
import type { UserState } from '../../core/presence.ts';
import { hiddenFromAll, openPrivacy, type Privacy, type PrivacyChange } from '../../core/privacy.ts';
import { changePrivacy, stampToCome } from '../../core/privacy-change.ts';
import type { Keys } from './keys.ts';
import { aroundTime, decodePrivacy, encodePrivacy } from './privacy-text.ts';
import type { RedisEngine } from './redis-engine.ts';
import { type Script, scripts } from './scripts.ts';
import { decodeCustomStatuses, decodeStateOf } from './state-line.ts';
import { sweepIntervalMs } from './sweeper.ts';

export interface PrivaciesOptions {
  readonly engine: RedisEngine;
  readonly keys: Keys;
  readonly partitionOf: (userId: string) => number;
  readonly lastSeenTtlMs: number;
  /** Runs a script over a user's keys, then `moreKeys`; its arguments are those of every change, then `args`. */
  readonly run: <Reply>(
    userId: string,
    script: Script,
    moreKeys: readonly string[],
    args: readonly string[],
  ) => Promise<Reply>;
  readonly ttlMs: number;
  /** The epoch of the data that this node knows; empty: none. */
  readonly epochOf: (partition: number) => string;
}

/** Hides that the cache holds, of all users; each is about 200 bytes. What is in it goes back into a Redis that lost it. */
const maxCachedHides = 100_000;
/** Changes that may come between a reading and the writing that goes by it. */
const maxAttempts = 10;

/** What users hide: read at most once for each version, changed where nothing else changed meanwhile. */
export class Privacies {
  readonly #options: PrivaciesOptions;
  /** Least recently used first. */
  readonly #cache = new Map<string, Privacy>();
  #cachedHides = 0;
  /** Under way, by version and user: however many ask, one answer comes from Redis. */
  readonly #fetching = new Map<string, Promise<Privacy | undefined>>();

  constructor(options: PrivaciesOptions) {
    this.#options = options;
  }

  /** Privacy of exactly this version; undefined: it has changed since. Rejects with REDIS_ERROR. */
  async read(userId: string, version: number): Promise<Privacy | undefined> {
    const cached = this.#cache.get(userId);
    if (cached?.version === version) {
      this.#cache.delete(userId);
      this.#cache.set(userId, cached);
      return cached;
    }
    const key = `${version} ${userId}`;
    let fetching = this.#fetching.get(key);
    if (!fetching) {
      fetching = this.#fetch(userId, version).finally(() => this.#fetching.delete(key));
      this.#fetching.set(key, fetching);
    }
    return fetching;
  }

  async #fetch(userId: string, version: number): Promise<Privacy | undefined> {
    const { engine, keys, partitionOf } = this.#options;
    const stored = await engine.command<string | null>(partitionOf(userId), ['GET', keys.privacy(userId)]);
    if (stored === null) return undefined;
    const privacy = decodePrivacy(stored);
    // Written by a newer server in a way that this one cannot read: the user may hide from anybody.
    if (!privacy) return hiddenFromAll(version);
    this.#keep(userId, privacy);
    return privacy.version === version ? privacy : undefined;
  }

  /** All that is cached; of privacy that was taken back, that it was. */
  known(): Iterable<readonly [userId: string, privacy: Privacy]> {
    return this.#cache;
  }

  /** The engine says that the user has no privacy, or none newer than of this version. */
  absent(userId: string, version: number): void {
    const cached = this.#cache.get(userId);
    if (cached && cached.version <= version) this.forget(userId);
  }

  forget(userId: string): void {
    this.#cachedHides -= sizeOf(this.#cache.get(userId));
    this.#cache.delete(userId);
  }

  /** Answers the user's state after it, with privacy. Rejects with INVALID_ARGUMENT, REDIS_ERROR. */
  async change(userId: string, change: PrivacyChange): Promise<UserState> {
    const { ttlMs, lastSeenTtlMs, keys, run, partitionOf, epochOf } = this.#options;
    const partition = partitionOf(userId);
    const privacyKeys = [keys.privacy(userId)];
    const ttl = String(ttlMs);
    const lateMs = Math.floor(Math.random() * sweepIntervalMs);
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      const [line, known, stored, customs, now] = await run<[string | null, string, string, string, string]>(
        userId,
        scripts.privacyRead,
        privacyKeys,
        [ttl],
      );
      const state = decodeStateOf(userId, line);
      const before = stored === '' ? null : decodePrivacy(stored);
      if (before === undefined) {
        throw new PresenceError('REDIS_ERROR', 'a newer server wrote the privacy: this one cannot change it');
      }
      const truth = {
        state: before ? { ...state, privacy: before } : state,
        customStatuses: decodeCustomStatuses(customs),
      };
      const outcome = changePrivacy(truth, change, Number(now), stampToCome, lateMs);
      const isGone = stored === '' && known !== '';
      if (!outcome && !isGone) return truth.state;
      const { privacy, renews, validUntilMs } = outcome ?? nothing;
      const pieces = privacy ? aroundTime(encodePrivacy(privacy)) : [''];
      const writeKeys = [...privacyKeys, keys.sweeper(partition)];
      const reply = await run<[string, string] | null>(userId, scripts.privacyWrite, writeKeys, [
        ttl,
        String(lastSeenTtlMs),
        String(state.version),
        known,
        renews ? '1' : '0',
        hidesOf(privacy) > hidesOf(truth.state.privacy) ? '1' : '0',
        epochOf(partition),
        Number.isFinite(validUntilMs) ? String(validUntilMs) : '',
        ...pieces,
      ]);
      if (reply === null) continue;
      const [version, time] = reply;
      const written = privacy
        ? (decodePrivacy(`${version}\n${pieces.join(time)}`) as Privacy)
        : { ...openPrivacy, version: Number(version) };
      this.#keep(userId, written);
      return privacy ? { ...state, privacy: written } : state;
    }
    throw new PresenceError('REDIS_ERROR', 'the user changes too often to change privacy');
  }

  #keep(userId: string, privacy: Privacy): void {
    this.#cachedHides += sizeOf(privacy) - sizeOf(this.#cache.get(userId));
    this.#cache.delete(userId);
    this.#cache.set(userId, privacy);
    for (const [oldest, { blocked }] of this.#cache) {
      if (this.#cachedHides <= maxCachedHides) return;
      this.#cache.delete(oldest);
      this.#cachedHides -= 1 + blocked.size;
    }
  }
}

const nothing = { privacy: null, renews: false, validUntilMs: Number.POSITIVE_INFINITY };

/** How much is hidden; more of it needs memory. */
function hidesOf(privacy: Privacy | null | undefined): number {
  if (!privacy) return 0;
  return 1 + privacy.blocked.size + (privacy.invisible ? 1 : 0);
}

function sizeOf(privacy: Privacy | undefined): number {
  return privacy ? 1 + privacy.blocked.size : 0;
}
