import type { UserState } from '../../core/presence.ts';
import type { Face, Hide, Privacy } from '../../core/privacy.ts';
import type { Keys } from './keys.ts';
import { pieces } from './pieces.ts';
import { encodePrivacy } from './privacy-text.ts';
import type { RedisEngine } from './redis-engine.ts';
import { scripts } from './scripts.ts';

export interface RestorerOptions {
  readonly engine: RedisEngine;
  readonly keys: Keys;
  readonly partitionOf: (userId: string) => number;
  readonly ttlMs: number;
  readonly lastSeenTtlMs: number;
  /** The epoch of the data that this node knows; empty: none. */
  readonly epochOf: (partition: number) => string;
  /** Privacy that this node has read or written, by user. */
  readonly privacies: () => Iterable<readonly [userId: string, privacy: Privacy]>;
  /** Present states of watched users. */
  readonly watched: (partition: number) => Iterable<UserState>;
}

/** When a user last came online or signed out. */
interface LastWord {
  readonly atMs: number;
  readonly isSignOut: boolean;
}

interface Known {
  privacy: Privacy | undefined;
  lastWord: LastWord | undefined;
}

/** Most users whose last word is kept; the oldest go first. */
const maxLastWords = 100_000;
/** Users written back by one script call, about 20 us of Redis each. */
const batchUsers = 100;

/**
 * What this node knows of users' privacy and sign-outs, for a Redis that lost it. Privacy is what was read and written here;
 * sign-outs are those made here within the last two TTLs, those of users with a connection here, and those of watched users.
 */
export class Restorer {
  readonly #options: RestorerOptions;
  /** Longest not noted first. */
  readonly #lastWords = new Map<string, LastWord & { readonly notedMs: number }>();

  constructor(options: RestorerOptions) {
    this.#options = options;
  }

  /** A user came online, or signed out, by a caller of this node, or is known by a connection here to have done so. */
  note(userId: string, atMs: number, isSignOut: boolean): void {
    const notedMs = performance.now();
    const before = this.#lastWords.get(userId);
    this.#lastWords.delete(userId);
    if (before && before.atMs > atMs) this.#lastWords.set(userId, { ...before, notedMs });
    else this.#lastWords.set(userId, { atMs, isSignOut, notedMs });
    for (const [oldest, word] of this.#lastWords) {
      if (this.#lastWords.size <= maxLastWords && notedMs - word.notedMs <= 2 * this.#options.ttlMs) return;
      this.#lastWords.delete(oldest);
    }
  }

  forget(userId: string): void {
    this.#lastWords.delete(userId);
  }

  /** Writes back what Redis knows less of. Rejects with REDIS_ERROR; doing it again is harmless. */
  async restore(partitions: readonly number[]): Promise<void> {
    const known = this.#known(new Set(partitions));
    await Promise.all([...known].map(([partition, users]) => this.#restore(partition, [...users])));
  }

  #known(partitions: ReadonlySet<number>): Map<number, Map<string, Known>> {
    const { partitionOf, privacies, watched } = this.#options;
    const known = new Map<number, Map<string, Known>>();
    const of = (userId: string): Known | undefined => {
      const partition = partitionOf(userId);
      if (!partitions.has(partition)) return undefined;
      const users = known.get(partition) ?? new Map<string, Known>();
      const user = users.get(userId) ?? { privacy: undefined, lastWord: undefined };
      known.set(partition, users.set(userId, user));
      return user;
    };
    for (const [userId, privacy] of privacies()) learn(of(userId), privacy, undefined);
    for (const [userId, word] of this.#lastWords) learn(of(userId), undefined, word);
    for (const partition of partitions) {
      for (const state of watched(partition)) {
        const word = this.#signOutOf(state);
        if (word || state.privacy) learn(of(state.userId), state.privacy, word);
      }
    }
    return known;
  }

  /** Older ones matter only to who has a connection, and its node knows. */
  #signOutOf({ status, cause, sinceMs, changedAtMs }: UserState): LastWord | undefined {
    const isSignOut = status === 'OFFLINE' && cause === 'SET' && sinceMs === changedAtMs;
    const isRecent = sinceMs > Date.now() - 2 * this.#options.ttlMs;
    return isSignOut && isRecent ? { atMs: sinceMs, isSignOut } : undefined;
  }

  async #restore(partition: number, users: readonly (readonly [string, Known])[]): Promise<void> {
    const { engine, keys, lastSeenTtlMs, epochOf } = this.#options;
    for (const batch of pieces(users, batchUsers)) {
      await engine.run(
        partition,
        scripts.restore,
        [
          keys.log(partition),
          keys.seq(partition),
          keys.sweeper(partition),
          ...batch.flatMap(([userId]) => [keys.meta(userId), keys.privacy(userId)]),
        ],
        [
          keys.channel(partition),
          String(lastSeenTtlMs),
          epochOf(partition),
          ...batch.flatMap(([userId, { privacy, lastWord }]) => [
            userId,
            privacy ? String(privacy.version) : '',
            privacy ? textOf(privacy) : '',
            privacy ? textOf(anew(privacy)) : '',
            lastWord ? String(lastWord.atMs) : '',
            lastWord?.isSignOut ? '1' : '0',
          ]),
        ],
      );
    }
  }
}

function learn(known: Known | undefined, privacy: Privacy | undefined, word: LastWord | undefined): void {
  if (!known) return;
  if (privacy && privacy.version > (known.privacy?.version ?? 0)) known.privacy = privacy;
  // Of what happened in one millisecond a sign-out counts as the later.
  const before = known.lastWord?.atMs ?? 0;
  if (word && (word.atMs > before || (word.atMs === before && word.isSignOut))) known.lastWord = word;
}

/** Empty: nothing is hidden any more. */
function textOf(privacy: Privacy): string {
  const { invisible, blocked, lastSeen, lastSeenVersion } = privacy;
  const isOpen = !invisible && blocked.size === 0 && lastSeen === 'everyone' && lastSeenVersion === 0;
  return isOpen ? '' : encodePrivacy(privacy);
}

/**
 * Privacy where all data went. Every other OFFLINE user is then one never heard of: who is hidden, or was, must not be the
 * only one who was seen before.
 */
function anew(privacy: Privacy): Privacy {
  const times = { sinceMs: 0, changedAtMs: 0, lastSeenMs: 0, version: 0 };
  const face: Face = { cause: null, ...times, customStatuses: [], lateMs: 0 };
  const forget = (hide: Hide): Hide | null => {
    if (!hide.lifted) return { face, lifted: null };
    // Users who were ONLINE are kept so by those who watch them, for one TTL.
    return hide.lifted.status === 'ONLINE' ? hide : null;
  };
  const blocked = new Map<string, Hide>();
  for (const [userId, hide] of privacy.blocked) {
    const kept = forget(hide);
    if (kept) blocked.set(userId, kept);
  }
  return { ...privacy, invisible: privacy.invisible && forget(privacy.invisible), blocked };
}
