import { readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryFolder } from './child-process.ts';

/** The wall clock of other processes, which steps when the test says so (libfaketime); their monotonic clock is real. */
export class FakeTime {
  readonly #folder = temporaryFolder('faketime');
  readonly #file = join(this.#folder, 'offset');

  constructor() {
    this.set(0);
  }

  /** Environment of a process that lives by this clock. */
  get environment(): Readonly<Record<string, string>> {
    return {
      // Redis' own allocator asks for the time before libfaketime can answer: it gets the allocator of libc.
      LD_PRELOAD: `${libraryFile()} libc.so.6`,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    };
  }

  /** Steps the clock to that many ms before or after the real time. */
  set(offsetMs: number): void {
    const next = `${this.#file}.next`;
    writeFileSync(next, `${offsetMs < 0 ? '-' : '+'}${Math.abs(offsetMs) / 1000}\n`);
    renameSync(next, this.#file);
  }

  stop(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function libraryFile(): string {
  const libraries = '/usr/lib';
  for (const platform of readdirSync(libraries)) {
    const folder = join(libraries, platform, 'faketime');
    try {
      if (readdirSync(folder).includes('libfaketime.so.1')) return join(folder, 'libfaketime.so.1');
    } catch {
      // Not there.
    }
  }
  throw new Error('libfaketime is missing; install the Debian package faketime');
}
