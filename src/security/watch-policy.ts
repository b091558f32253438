import { PresenceError } from '../core/errors.ts';
import { mayOperate, mayWatch, type Principal } from '../core/principal.ts';
import { checkUserIds } from '../core/user-id.ts';
import type { Log } from '../observe/log.ts';
import type { LookupStats } from '../observe/lookup-stats.ts';
import { lookUpByHttp } from './http-lookup.ts';
import { type Judgement, Lookups, lookupPauseMs } from './lookups.ts';

/** Judges users whom somebody else wants to see. */
type JudgeOthers = (principal: Principal, userIds: readonly string[]) => Judgement | Promise<Judgement>;

export interface WatchPolicyOptions {
  readonly watchPolicy: 'claims' | 'http';
  /** Where to ask; with `http`. */
  readonly watchPolicyUrl: string | undefined;
  readonly watchPolicyTimeoutMs: number;
  readonly watchPolicyCacheMs: number;
  readonly watchPolicyStaleMs: number;
  /** Longer lists are refused before anybody is asked. */
  readonly maxBulkUsers: number;
  readonly maxWatchedUsers: number;
  readonly log: Log;
}

const forGood = { freshUntilMs: Number.POSITIVE_INFINITY, staleUntilMs: Number.POSITIVE_INFINITY };

/** Who may see whom. Everybody may see themselves, operators everybody. */
export class WatchPolicy {
  readonly maxBulkUsers: number;
  readonly maxWatchedUsers: number;
  readonly #judgeOthers: JudgeOthers;
  readonly #lookups: Lookups | undefined;

  constructor(options: WatchPolicyOptions) {
    this.maxBulkUsers = options.maxBulkUsers;
    this.maxWatchedUsers = options.maxWatchedUsers;
    if (options.watchPolicy === 'claims') {
      this.#judgeOthers = judgeByClaims;
    } else {
      const lookups = httpLookups(options);
      this.#lookups = lookups;
      this.#judgeOthers = ({ kind, id }, userIds) => lookups.judge(`${kind} ${id}`, userIds);
    }
  }

  /** undefined: nobody has to be asked. */
  stats(): LookupStats | undefined {
    return this.#lookups?.stats();
  }

  /** Which of the users the principal may see. Never rejects. */
  judge(principal: Principal, userIds: readonly string[]): Judgement | Promise<Judgement> {
    if (mayOperate(principal)) return { no: [], unknown: [], ...forGood };
    const others = userIds.filter((userId) => userId !== principal.userId);
    return this.#judgeOthers(principal, others);
  }

  /**
   * Lets a list of users pass as a whole, or not at all.
   *
   * @throws PresenceError INVALID_ARGUMENT: an id, or more than `maxUsers`; UNAUTHORIZED: some of them may not be seen;
   *   REDIS_ERROR: nobody could be asked
   */
  async require(
    principal: Principal,
    userIds: readonly string[],
    field: string,
    maxUsers: number,
  ): Promise<Judgement> {
    checkUserIds(userIds, field, maxUsers);
    const judgement = await this.judge(principal, userIds);
    if (judgement.no.length > 0) throw watchRefused(judgement.no);
    if (judgement.unknown.length > 0) throw policySilent(judgement.unknown);
    return judgement;
  }
}

/** @param userIds at least one */
export function watchRefused(userIds: readonly string[]): PresenceError {
  return new PresenceError('UNAUTHORIZED', `you may not watch user ${userIds[0]}`, { userIds });
}

/** @param userIds at least one */
export function policySilent(userIds: readonly string[]): PresenceError {
  return new PresenceError('REDIS_ERROR', `nobody can say now whether you may watch user ${userIds[0]}`, {
    retryAfterMs: lookupPauseMs,
    userIds,
  });
}

function judgeByClaims(principal: Principal, userIds: readonly string[]): Judgement {
  return { no: userIds.filter((userId) => !mayWatch(principal, userId)), unknown: [], ...forGood };
}

/** Asks an endpoint: `{"viewer":{"kind":"user","id":"ada"},"users":["bob"]}`, answered by `{"allowed":["bob"]}`. */
function httpLookups(options: WatchPolicyOptions): Lookups {
  const url = options.watchPolicyUrl as string;
  return new Lookups({
    name: 'the watch policy',
    ask: (asker, userIds, timeoutMs) => {
      const blank = asker.indexOf(' ');
      const viewer = { kind: asker.slice(0, blank), id: asker.slice(blank + 1) };
      return lookUpByHttp(url, { viewer }, 'allowed', userIds, timeoutMs);
    },
    timeoutMs: options.watchPolicyTimeoutMs,
    cacheMs: options.watchPolicyCacheMs,
    staleMs: options.watchPolicyStaleMs,
    log: options.log,
  });
}
