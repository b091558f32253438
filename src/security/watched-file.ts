import { readFileSync, statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import type { Log } from '../observe/log.ts';

export interface WatchedFilesOptions {
  readonly paths: readonly string[];
  /** Takes the contents, in the order of `paths`. Throws on what it cannot use: what was before stays then. */
  readonly load: (contents: readonly Buffer[]) => void | Promise<void>;
  readonly log: Log;
  /** How often to look, ms; default 1,000. */
  readonly intervalMs?: number;
}

/**
 * Files that are read again when they change. They are looked at once a second, which also sees what is mounted anew
 * (Kubernetes swaps a link). A change that cannot be used is logged, and what was before stays in force.
 */
export class WatchedFiles {
  readonly #options: WatchedFilesOptions;
  #seen: string;
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;

  /** @throws Error when a file cannot be read; the caller loads `contents` */
  constructor(options: WatchedFilesOptions) {
    this.#options = options;
    this.#seen = options.paths.map((path) => mark(statSync(path))).join();
  }

  /** What is in the files now. */
  contents(): Buffer[] {
    return this.#options.paths.map((path) => readFileSync(path));
  }

  start(): void {
    this.#timer = setInterval(() => void this.#look(), this.#options.intervalMs ?? 1000);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    const { paths, load, log } = this.#options;
    try {
      const seen = (await Promise.all(paths.map(async (path) => mark(await stat(path))))).join();
      if (seen === this.#seen) return;
      this.#seen = seen;
      await load(await Promise.all(paths.map((path) => readFile(path))));
      log.info({ paths }, 'read again after a change');
    } catch (error) {
      log.error({ err: error, paths }, 'a changed file cannot be used; what was read before stays in force');
    } finally {
      this.#isLooking = false;
    }
  }
}

function mark({ mtimeMs, size, ino }: { mtimeMs: number; size: number; ino: number }): string {
  return `${mtimeMs}:${size}:${ino}`;
}
