import type { Principal } from '../core/principal.ts';
import { type Log, silentLog } from '../observe/log.ts';
import { networkOf } from './client-address.ts';
import { TokenBuckets } from './token-buckets.ts';

/** Who was refused: a principal, or an address where nobody said who calls. */
export type RefusedCaller = Pick<Principal, 'kind' | 'id'> | { readonly address: string };

/** Lines a second of one caller, with a burst. */
const callerLines = [1, 5] as const;
/** Of all callers together. */
const allLines = [20, 40] as const;
const maxCallers = 10_000;
const maxWhyChars = 300;
/** How long suppressed lines wait for a line that tells of them, ms. */
const summaryMs = 10_000;

/** The log of security refusals: who was refused what, and why. Bounded in lines; without tokens, keys and secrets. */
export class Audit {
  readonly #log: Log;
  readonly #callers = new TokenBuckets(...callerLines, maxCallers);
  readonly #all = new TokenBuckets(...allLines, 1);
  #suppressed = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(log: Log = silentLog) {
    this.#log = log;
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#summarize();
  }

  /**
   * @param operation what the caller wanted to do
   * @param why as the caller is told
   */
  refused(caller: RefusedCaller, operation: string, why: string): void {
    const key = 'address' in caller ? `a ${networkOf(caller.address)}` : `${caller.kind} ${caller.id}`;
    if (this.#callers.take(key, 1) > 0 || this.#all.take('', 1) > 0) {
      this.#suppressed++;
      this.#timer ??= setTimeout(() => this.#summarize(), summaryMs).unref();
      return;
    }
    const who = 'address' in caller ? { address: caller.address } : { caller: caller.kind, id: caller.id };
    const facts = { audit: 'refused', ...who, operation, why: why.slice(0, maxWhyChars) };
    this.#log.info({ ...facts, ...this.#takeSuppressed() }, 'refused');
  }

  #takeSuppressed(): { suppressed?: number } {
    const suppressed = this.#suppressed;
    this.#suppressed = 0;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    return suppressed > 0 ? { suppressed } : {};
  }

  #summarize(): void {
    const told = this.#takeSuppressed();
    if (told.suppressed)
      this.#log.info({ audit: 'suppressed', ...told }, 'refusals that were not logged one by one');
  }
}
