import { relative } from 'node:path';

/** Of an event of the test runner, what is looked at here. */
export interface TestEvent {
  readonly type: string;
  readonly data: {
    readonly name?: string;
    readonly nesting?: number;
    readonly message?: string;
    /** The test file whose process told it; undefined: the runner itself. */
    readonly entryFile?: string;
    readonly skip?: string | boolean;
    readonly details?: { readonly type?: string };
    readonly counts?: { readonly tests: number };
  };
}

/** What the files reported, and what of it does not add up. */
export class Tally {
  failed = 0;
  readonly #reported: Map<string, number>;
  /** The tests that a file counted itself when it ended in order. */
  readonly #ended = new Map<string, number>();
  readonly #problems: string[] = [];
  /** Failures that were added here, not by the runner. */
  #added = 0;

  constructor(files: readonly string[]) {
    this.#reported = new Map(files.map((file) => [file, 0]));
  }

  /** Adds a problem of the run. */
  note(problem: string): void {
    this.#problems.push(problem);
  }

  /** Answers the event as it is to be shown: the closing figures count the failures that were added. */
  take(event: TestEvent): TestEvent {
    const { type, data } = event;
    if (type === 'test:fail') this.failed++;
    if (data.entryFile === undefined) return this.#closing(event);
    const file = relative('', data.entryFile);
    if (type === 'test:summary') this.#ended.set(file, data.counts?.tests ?? 0);
    if (type !== 'test:pass' && type !== 'test:fail') return event;
    if (data.details?.type !== 'suite') this.#reported.set(file, (this.#reported.get(file) ?? 0) + 1);
    else if (data.skip !== undefined)
      this.note(`${file} skips the suite ${data.name}; skip each of its tests`);
    return event;
  }

  /** Whether it is the first of the closing figures. */
  isClosing({ type, data }: TestEvent): boolean {
    return (
      type === 'test:diagnostic' && data.entryFile === undefined && /^tests \d+$/.test(data.message ?? '')
    );
  }

  counts(): ReadonlyMap<string, number> {
    return this.#reported;
  }

  problems(): string[] {
    const found = [...this.#problems];
    for (const [file, reported] of this.#reported) {
      const counted = this.#ended.get(file);
      if (counted === undefined) found.push(`${file} ended before its tests did`);
      else if (counted !== reported) found.push(`${file} ran ${counted} tests and reported ${reported}`);
    }
    return found;
  }

  failure(message: string): TestEvent {
    this.#added++;
    this.failed++;
    // The message says all: a stack would lead to this line.
    const error = Object.assign(new Error(message), { stack: message });
    const data = { name: message, nesting: 0, testNumber: 0, details: { duration_ms: 0, error } };
    return { type: 'test:fail', data: data as TestEvent['data'] };
  }

  #closing(event: TestEvent): TestEvent {
    const [, name, count] = /^(tests|fail) (\d+)$/.exec(event.data.message ?? '') ?? [];
    if (event.type !== 'test:diagnostic' || name === undefined) return event;
    return { ...event, data: { ...event.data, message: `${name} ${Number(count) + this.#added}` } };
  }
}
