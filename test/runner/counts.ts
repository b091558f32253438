import { existsSync, readFileSync, writeFileSync } from 'node:fs';

const mend = 'if that is meant, run: npm run test:counts --';

/** How many tests each file has: a test that is lost changes a number that somebody wrote. */
export class Counts {
  readonly #file: string;
  readonly #expected: Readonly<Record<string, number>>;

  constructor(file: string) {
    this.#file = file;
    this.#expected = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
  }

  /** @param isWhole whether all files were run */
  problems(actual: ReadonlyMap<string, number>, isWhole: boolean): string[] {
    const found: string[] = [];
    for (const [file, count] of actual) {
      const expected = this.#expected[file];
      if (expected === count) continue;
      found.push(`${file} ran ${count} tests, ${this.#file} says ${expected ?? 'nothing'}; ${mend} ${file}`);
    }
    const gone = isWhole ? Object.keys(this.#expected).filter((file) => !actual.has(file)) : [];
    return [...found, ...gone.map((file) => `${file} of ${this.#file} did not run; ${mend}`)];
  }

  update(actual: ReadonlyMap<string, number>, isWhole: boolean): void {
    const merged = { ...(isWhole ? {} : this.#expected), ...Object.fromEntries(actual) };
    const sorted = Object.fromEntries(Object.entries(merged).sort(([a], [b]) => (a < b ? -1 : 1)));
    writeFileSync(this.#file, `${JSON.stringify(sorted, null, 2)}\n`);
  }
}
