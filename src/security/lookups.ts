import type { Log } from '../observe/log.ts';
import type { LookupStats } from '../observe/lookup-stats.ts';

/** Those of the users asked about who have a yes. */
export interface LookupReply {
  readonly yes: ReadonlySet<string>;
  /** How long the answer may be used, ms; undefined: it does not say. */
  readonly maxAgeMs: number | undefined;
}

export interface LookupsOptions {
  /** Who is asked, for the log: `the user directory`. */
  readonly name: string;
  /** Asks about 1 to 500 users on behalf of `asker`. Rejects when no answer can be had. */
  readonly ask: (asker: string, userIds: readonly string[], timeoutMs: number) => Promise<LookupReply>;
  /** For a question and its wait for a turn together. */
  readonly timeoutMs: number;
  /** How long an answer is used that does not say so itself. */
  readonly cacheMs: number;
  /** How long after that a yes is used while nobody answers. */
  readonly staleMs: number;
  /** A no is used no longer than this; default: as long as a yes. */
  readonly maxNoMs?: number;
  /**
   * Users who may wait for their turn, in all and of one payer (one list more than either is taken), and answers that are
   * remembered; default 100,000 and 10,000 waiting, 200,000 times yes, 50,000 times no.
   */
  readonly bounds?: {
    readonly waiting: number;
    readonly waitingOfOne: number;
    readonly yes: number;
    readonly no: number;
  };
  readonly log: Log;
}

/** What is known of a list of users. Times are readings of performance.now(). */
export interface Judgement {
  readonly no: readonly string[];
  /** Nobody answered, and nothing that was heard before can be used any more. */
  readonly unknown: readonly string[];
  /** When the first yes needs to be asked for again. */
  readonly freshUntilMs: number;
  /** Until when every yes may be believed while nobody answers. */
  readonly staleUntilMs: number;
}

interface Answer {
  readonly verdict: 'yes' | 'no' | 'unknown';
  readonly freshUntilMs: number;
  readonly staleUntilMs: number;
}

interface Question {
  readonly key: string;
  readonly userId: string;
  readonly deadlineMs: number;
  readonly promise: Promise<Answer>;
  readonly resolve: (answer: Answer) => void;
}

const maxBatchUsers = 500;
const maxAsksAtOnce = 32;
/** However much one payer asks, the others find the endpoint free. */
const maxAsksOfOne = 8;
const defaultBounds = { waiting: 100_000, waitingOfOne: 10_000, yes: 200_000, no: 50_000 };
/** What callers ask in this time goes out together. */
const windowMs = 2;
/** After a failure: how long what was heard before serves without a new question. */
export const lookupPauseMs = 1000;
const maxAgeBoundMs = 24 * 60 * 60 * 1000;
const nobodySaid: Answer = { verdict: 'unknown', freshUntilMs: 0, staleUntilMs: 0 };

/** What one payer waits for. */
interface Queue {
  readonly payer: string;
  readonly asker: string;
  /** Waiting, by key, oldest first. */
  readonly waiting: Map<string, Question>;
  asksNow: number;
  isInRound: boolean;
}

/**
 * Yes-or-no questions about users, which an endpoint answers. Answers are remembered. Questions of a few milliseconds go out
 * together. Payers take turns, a batch each, and all waits are bounded, in time and in number, so that nobody's questions
 * hold up another's.
 */
export class Lookups {
  readonly #options: LookupsOptions;
  readonly #bounds: Required<LookupsOptions>['bounds'];
  /** Oldest first. Apart from each other, so that whoever makes up ids drives out no yes. */
  readonly #yes = new Map<string, Answer>();
  readonly #no = new Map<string, Answer>();
  /** Asked now, by key. */
  readonly #asked = new Map<string, Question>();
  /** By payer. */
  readonly #queues = new Map<string, Queue>();
  /** Whose turn it is, the next one last; then those who come after them, the next one first. */
  #round: Queue[] = [];
  #nextRound: Queue[] = [];
  #waitingUsers = 0;
  #asksNow = 0;
  #window: NodeJS.Timeout | undefined;
  #pausedUntilMs = 0;
  #isFailing = false;
  readonly #counts = { cached: 0, asked: 0, stale: 0, unknown: 0 };
  readonly #asks = { ok: 0, failed: 0 };

  constructor(options: LookupsOptions) {
    this.#options = options;
    this.#bounds = options.bounds ?? defaultBounds;
  }

  stats(): LookupStats {
    return { answers: this.#counts, asks: this.#asks, remembered: this.#yes.size + this.#no.size };
  }

  /**
   * What is known of users, at once where nothing has to be asked. Never rejects.
   *
   * @param asker on whose behalf; answers to one are not used for another
   * @param payer who waits when too much is asked; default: the asker
   */
  judge(asker: string, userIds: readonly string[], payer: string = asker): Judgement | Promise<Judgement> {
    const nowMs = performance.now();
    const isFull =
      this.#waitingUsers >= this.#bounds.waiting ||
      (this.#queues.get(payer)?.waiting.size ?? 0) >= this.#bounds.waitingOfOne;
    let isAsked = false;
    const answers = userIds.map((userId): Answer | Promise<Answer> => {
      // No user id has control characters.
      const key = `${asker}\n${userId}`;
      const known = this.#recall(key, nowMs) ?? (isFull ? this.#fallBack(key) : undefined);
      if (known) return known;
      isAsked = true;
      return (this.#asked.get(key) ?? this.#enqueue(payer, asker, key, userId, nowMs)).promise;
    });
    return isAsked
      ? Promise.all(answers).then((all) => summary(userIds, all))
      : summary(userIds, answers as readonly Answer[]);
  }

  #recall(key: string, nowMs: number): Answer | undefined {
    const known = this.#yes.get(key) ?? this.#no.get(key);
    if (!known) return undefined;
    if (nowMs < known.freshUntilMs) {
      this.#counts.cached++;
      return known;
    }
    return nowMs < this.#pausedUntilMs && nowMs < known.staleUntilMs ? this.#fallBack(key) : undefined;
  }

  /** The last yes, while it may be believed: an old no could be about somebody who is new. */
  #fallBack(key: string): Answer {
    const known = this.#yes.get(key);
    if (known && performance.now() < known.staleUntilMs) {
      this.#counts.stale++;
      return known;
    }
    this.#counts.unknown++;
    return nobodySaid;
  }

  #enqueue(payer: string, asker: string, key: string, userId: string, nowMs: number): Question {
    let queue = this.#queues.get(payer);
    if (!queue) {
      queue = { payer, asker, waiting: new Map(), asksNow: 0, isInRound: false };
      this.#queues.set(payer, queue);
    }
    // Not one that another payer waits for: its turn may be far away.
    const same = queue.waiting.get(key);
    if (same) return same;
    const { promise, resolve } = Promise.withResolvers<Answer>();
    const question: Question = { key, userId, deadlineMs: nowMs + this.#options.timeoutMs, promise, resolve };
    queue.waiting.set(key, question);
    this.#wantsTurn(queue);
    this.#waitingUsers++;
    this.#window ??= setTimeout(() => {
      this.#window = undefined;
      this.#askNext();
    }, windowMs);
    return question;
  }

  /** A batch of each payer in turn, while there is room. */
  #askNext(): void {
    while (this.#asksNow < maxAsksAtOnce) {
      if (this.#round.length === 0) {
        this.#round = this.#nextRound.reverse();
        this.#nextRound = [];
      }
      const queue = this.#round.pop();
      if (!queue) return;
      queue.isInRound = false;
      const batch = this.#takeBatch(queue);
      if (batch.length > 0) {
        // Not from within: where many payers' time is over, each would be a call deeper than the one before.
        void this.#ask(queue, batch).then(() => {
          this.#wantsTurn(queue);
          this.#askNext();
        });
      }
      this.#wantsTurn(queue);
    }
  }

  #wantsTurn(queue: Queue): void {
    const { payer, waiting, asksNow, isInRound } = queue;
    if (waiting.size === 0 && asksNow === 0) this.#queues.delete(payer);
    if (waiting.size === 0 || asksNow >= maxAsksOfOne || isInRound) return;
    queue.isInRound = true;
    this.#nextRound.push(queue);
  }

  /** What was answered meanwhile, for another payer, is not asked again. */
  #takeBatch({ waiting }: Queue): Question[] {
    const batch: Question[] = [];
    const nowMs = performance.now();
    for (const [key, question] of waiting) {
      if (batch.length === maxBatchUsers) break;
      waiting.delete(key);
      this.#waitingUsers--;
      const known = this.#recall(key, nowMs);
      const asked = this.#asked.get(key);
      if (known) question.resolve(known);
      else if (asked) void asked.promise.then(question.resolve);
      else {
        this.#asked.set(key, question);
        batch.push(question);
      }
    }
    return batch;
  }

  /** Never rejects: every waiting caller gets the best answer there is. */
  async #ask(queue: Queue, batch: readonly Question[]): Promise<void> {
    this.#asksNow++;
    queue.asksNow++;
    try {
      const [{ deadlineMs }] = batch as readonly [Question];
      const timeoutMs = Math.ceil(deadlineMs - performance.now());
      if (timeoutMs <= 0) throw new Error('more was asked than is answered in time');
      const userIds = batch.map(({ userId }) => userId);
      const { yes, maxAgeMs } = await this.#options.ask(queue.asker, userIds, timeoutMs);
      this.#succeeded();
      for (const question of batch) {
        this.#counts.asked++;
        this.#settle(question, this.#remember(question.key, yes.has(question.userId), maxAgeMs));
      }
    } catch (error) {
      this.#failed(error);
      for (const question of batch) this.#settle(question, this.#fallBack(question.key));
    }
    queue.asksNow--;
    this.#asksNow--;
  }

  #settle(question: Question, answer: Answer): void {
    this.#asked.delete(question.key);
    question.resolve(answer);
  }

  #remember(key: string, isYes: boolean, maxAgeMs: number | undefined): Answer {
    const { cacheMs, staleMs, maxNoMs = maxAgeBoundMs } = this.#options;
    const ageMs = Math.min(maxAgeMs ?? cacheMs, isYes ? maxAgeBoundMs : maxNoMs);
    const freshUntilMs = performance.now() + ageMs;
    const isKept = ageMs > 0;
    const staleUntilMs = isYes && isKept ? freshUntilMs + staleMs : freshUntilMs;
    const answer: Answer = { verdict: isYes ? 'yes' : 'no', freshUntilMs, staleUntilMs };
    this.#yes.delete(key);
    this.#no.delete(key);
    const answers = isYes ? this.#yes : this.#no;
    if (isKept) answers.set(key, answer);
    if (answers.size > (isYes ? this.#bounds.yes : this.#bounds.no)) {
      const [oldest] = answers.keys();
      answers.delete(oldest as string);
    }
    return answer;
  }

  #succeeded(): void {
    this.#asks.ok++;
    // Where some questions fail and others do not, one line a pause is enough.
    if (!this.#isFailing || performance.now() < this.#pausedUntilMs) return;
    this.#isFailing = false;
    this.#options.log.info(`${this.#options.name} answers again`);
  }

  #failed(error: unknown): void {
    this.#asks.failed++;
    this.#pausedUntilMs = performance.now() + lookupPauseMs;
    if (this.#isFailing) return;
    this.#isFailing = true;
    this.#options.log.warn(
      { err: error },
      `${this.#options.name} does not answer: what it said before serves for a while, all else is refused`,
    );
  }
}

function summary(userIds: readonly string[], answers: readonly Answer[]): Judgement {
  const no: string[] = [];
  const unknown: string[] = [];
  let freshUntilMs = Number.POSITIVE_INFINITY;
  let staleUntilMs = Number.POSITIVE_INFINITY;
  for (const [index, userId] of userIds.entries()) {
    const answer = answers[index] as Answer;
    if (answer.verdict === 'no') no.push(userId);
    else if (answer.verdict === 'unknown') unknown.push(userId);
    else {
      freshUntilMs = Math.min(freshUntilMs, answer.freshUntilMs);
      staleUntilMs = Math.min(staleUntilMs, answer.staleUntilMs);
    }
  }
  return { no, unknown, freshUntilMs, staleUntilMs };
}
