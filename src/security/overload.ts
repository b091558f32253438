/** Runs once at the end of this turn of the event loop, when all that had come was read. */
export type AtEndOfTurn = (work: () => void) => void;

/**
 * Turns must be too long for so long before anybody is refused: a pause for garbage is no overload. So must the calls of one
 * turn: a load that comes at once would else be taken whole, ten thousand calls and more, and be served for seconds.
 */
const patienceMs = 200;
/** While there is no overload, the clock is asked once in so many calls of a turn. */
const callsPerLook = 32;
/** What comes between two calls for longer than that, garbage or a fan-out, is not theirs. */
const longestLookMs = 50;
/** Under overload a turn is to take this part of the longest: who is served waits for two or three of them. */
const aimedShare = 0.125;
/** The time for calls shrinks at once, as far as a turn was too long but not below this part, and doubles in so many ms. */
const lowestFactor = 0.2;
const doublingMs = 500;
const minBudgetMs = 0.5;
/** Of the time for calls, the part in which newcomers are let in. */
const newcomersShare = 0.5;

/**
 * Notices that more comes than the process can do. What came while a turn of the event loop ran waits for the next one, so
 * that under too much load turns grow, and everybody waits. When they do, each turn takes calls for a while only, and whoever
 * comes later in it is to be refused: that costs little. That while follows the length of the turns, which so stay short for
 * those who are served. However busy the process is with other things, every turn has its time for calls.
 */
export class Overload {
  readonly #maxTurnMs: number;
  readonly #nowMs: () => number;
  readonly #atEndOfTurn: AtEndOfTurn;
  readonly #endTurn = () => this.#end();
  #isTurnOpen = false;
  #turnBeganMs = 0;
  #callsOfTurn = 0;
  /** What the calls of this turn took, as far as the looks at the clock tell. */
  #callsMs = 0;
  #lookedMs = 0;
  /** When the first call of this turn came; undefined: none has. */
  #callsBeganMs: number | undefined;
  /** That part of the time for calls is over in this turn, and the clock is not asked about it again. */
  #spentShare = 0;
  /** Since when every turn was too long; undefined: the last was not. */
  #longSinceMs: number | undefined;
  /** Under overload: how long a turn takes calls; undefined: there is none. */
  #budgetMs: number | undefined;
  #adaptedMs = 0;

  /**
   * @param maxTurnMs longest turn that is no sign of overload; 0: nothing is
   * @param nowMs monotonic
   */
  constructor(
    maxTurnMs: number,
    nowMs: () => number = () => performance.now(),
    atEndOfTurn: AtEndOfTurn = setImmediate,
  ) {
    this.#maxTurnMs = maxTurnMs;
    this.#nowMs = nowMs;
    this.#atEndOfTurn = atEndOfTurn;
  }

  /** Whether a call that came now can be served. */
  get hasRoom(): boolean {
    return this.#hasTimeLeft(1);
  }

  /** Whether somebody can be let in who will stay. */
  get hasRoomForNewcomer(): boolean {
    return this.#hasTimeLeft(newcomersShare);
  }

  #hasTimeLeft(share: number): boolean {
    if (this.#maxTurnMs === 0) return true;
    if (!this.#isTurnOpen) this.#begin(this.#nowMs());
    if (this.#budgetMs === undefined) return this.#isCalm();
    if (share <= this.#spentShare) return false;
    const nowMs = this.#nowMs();
    this.#callsBeganMs ??= nowMs;
    if (nowMs - this.#callsBeganMs <= this.#budgetMs * share) return true;
    this.#spentShare = share;
    return false;
  }

  /** false: this call is the first of an overload. */
  #isCalm(): boolean {
    if (this.#callsOfTurn++ % callsPerLook !== 0) return true;
    const nowMs = this.#nowMs();
    if (this.#callsOfTurn === 1) this.#callsMs = 0;
    else this.#callsMs += Math.min(nowMs - this.#lookedMs, longestLookMs);
    this.#lookedMs = nowMs;
    if (this.#callsMs < Math.max(patienceMs, this.#maxTurnMs)) return true;
    this.#shed(nowMs);
    this.#spentShare = 1;
    return false;
  }

  #shed(nowMs: number): void {
    this.#budgetMs = this.#maxTurnMs * aimedShare;
    this.#adaptedMs = nowMs;
  }

  #begin(nowMs: number): void {
    this.#isTurnOpen = true;
    this.#callsOfTurn = 0;
    this.#turnBeganMs = nowMs;
    this.#callsBeganMs = undefined;
    this.#spentShare = 0;
    this.#atEndOfTurn(this.#endTurn);
  }

  #end(): void {
    const nowMs = this.#nowMs();
    this.#isTurnOpen = false;
    const isLong =
      this.#budgetMs === undefined ? this.#endNormally(nowMs) : this.#adapt(nowMs, this.#budgetMs);
    // After a long turn the next one begins here, with whatever it does before a call comes.
    if (isLong) this.#begin(nowMs);
  }

  #endNormally(nowMs: number): boolean {
    const isLong = nowMs - this.#turnBeganMs > this.#maxTurnMs;
    if (!isLong) this.#longSinceMs = undefined;
    // From its end: one turn, however long, is no load that lasts.
    else this.#longSinceMs ??= nowMs;
    if (this.#longSinceMs !== undefined && nowMs - this.#longSinceMs >= patienceMs) this.#shed(nowMs);
    return isLong;
  }

  #adapt(nowMs: number, budgetMs: number): boolean {
    const tookMs = nowMs - this.#turnBeganMs;
    const aimedMs = this.#maxTurnMs * aimedShare;
    const isLong = tookMs > aimedMs;
    const factor = isLong
      ? Math.max(lowestFactor, aimedMs / tookMs)
      : 2 ** ((nowMs - this.#adaptedMs) / doublingMs);
    this.#adaptedMs = nowMs;
    this.#budgetMs = Math.max(minBudgetMs, budgetMs * factor);
    if (this.#budgetMs > this.#maxTurnMs) {
      this.#budgetMs = undefined;
      this.#longSinceMs = undefined;
    }
    return isLong;
  }
}
