import { PresenceError } from '../core/errors.ts';
import type { Log } from '../observe/log.ts';
import type { LookupStats } from '../observe/lookup-stats.ts';
import type { UserDirectory } from '../presence/presence-api.ts';
import { lookUpByHttp } from './http-lookup.ts';
import { type Judgement, type LookupReply, Lookups, lookupPauseMs } from './lookups.ts';

export interface CachedDirectoryOptions {
  /** Asks which of these users there are. Rejects when that cannot be known. */
  readonly ask: (userIds: readonly string[], timeoutMs: number) => Promise<LookupReply>;
  readonly userDirectoryTimeoutMs: number;
  readonly userDirectoryCacheMs: number;
  readonly userDirectoryStaleMs: number;
  readonly log: Log;
}

/** Who has just signed up is found after this at the latest, ms. */
const maxAbsenceMs = 5000;

/** The application's list of users, as far as it was asked about them. */
export class CachedDirectory implements UserDirectory {
  readonly #lookups: Lookups;

  constructor(options: CachedDirectoryOptions) {
    this.#lookups = new Lookups({
      name: 'the user directory',
      ask: (_asker, userIds, timeoutMs) => options.ask(userIds, timeoutMs),
      timeoutMs: options.userDirectoryTimeoutMs,
      cacheMs: options.userDirectoryCacheMs,
      staleMs: options.userDirectoryStaleMs,
      maxNoMs: maxAbsenceMs,
      log: options.log,
    });
  }

  stats(): LookupStats {
    return this.#lookups.stats();
  }

  require(userIds: readonly string[], payer: string): void | Promise<void> {
    const judgement = this.#lookups.judge('', userIds, payer);
    return judgement instanceof Promise ? judgement.then(requireAll) : requireAll(judgement);
  }

  known(userIds: readonly string[], payer: string): readonly string[] | Promise<readonly string[]> {
    const judgement = this.#lookups.judge('', userIds, payer);
    return judgement instanceof Promise
      ? judgement.then((it) => withoutNo(userIds, it))
      : withoutNo(userIds, judgement);
  }
}

/** Asks an endpoint: `{"users":["ada","bob"]}`, answered by `{"known":["ada"]}`. */
export function httpDirectory(url: string): CachedDirectoryOptions['ask'] {
  return (userIds, timeoutMs) => lookUpByHttp(url, {}, 'known', userIds, timeoutMs);
}

function requireAll({ no, unknown }: Judgement): void {
  if (no.length > 0) throw PresenceError.userNotFound(no);
  if (unknown.length > 0) throw unavailable();
}

function withoutNo(userIds: readonly string[], { no, unknown }: Judgement): readonly string[] {
  if (unknown.length > 0) throw unavailable();
  if (no.length === 0) return userIds;
  const absent = new Set(no);
  return userIds.filter((userId) => !absent.has(userId));
}

function unavailable(): PresenceError {
  return new PresenceError('REDIS_ERROR', 'the user directory does not answer', {
    retryAfterMs: lookupPauseMs,
  });
}
