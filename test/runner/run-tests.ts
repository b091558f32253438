/**
 * Runs the test files, each in a process of its own, and fails not only for a test that fails but also for one that is
 * not there: a file must end in order, report as many tests as test/counts.json says, and leave nothing behind.
 *
 * `run-tests.ts [--update] [--time-limit-ms N] [FILE...]`; without files: all. `--update` writes the counts.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, globSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { belongings } from '../support/belongings.ts';
import { Counts } from './counts.ts';
import { patterns, slowFiles } from './files.ts';
import { Tally, type TestEvent } from './tally.ts';

const testLimitMs = 120_000;
/** For what ends by itself when its parent has. */
const endLimitMs = 15_000;
/** Between asking a file at its time limit what it waits for, and its end. */
const answerMs = 5000;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    update: { type: 'boolean', default: false },
    concurrency: { type: 'string', default: '4' },
    'time-limit-ms': { type: 'string', default: '300000' },
  },
});
const isWhole = positionals.length === 0;
const files = (isWhole ? allFiles() : positionals.map((file) => relative('', resolve(file)))).map(String);
const counts = new Counts('test/counts.json');
const tally = new Tally(files);
const runFolder = mkdtempSync(join(tmpdir(), 'pilotlight-run-'));
for (const name of ['files', 'leftovers', 'temporary']) mkdirSync(join(runFolder, name));
const keeper = startKeeper();

const parent = process.ppid;
const limit = setInterval(() => {
  // Nobody waits for the result any more; the keeper ends everything.
  if (process.ppid !== parent) process.exit(1);
  endLateFiles();
}, 1000);
const events = run({
  files: files.map((file) => resolve(file)),
  concurrency: Number(values.concurrency),
  timeout: testLimitMs,
  execArgv: ['--import', new URL('preload.mjs', import.meta.url).href],
  env: { ...process.env, PILOTLIGHT_TEST_RUN: runFolder },
});
await pipeline(Readable.from(withProblems(events)), new spec(), process.stdout, { end: false });
process.exitCode = tally.failed > 0 ? 1 : 0;

/** The longest first, so that none of them is alone at the end. */
function allFiles(): string[] {
  const found = globSync([...patterns], { exclude: (name) => name === 'node_modules' }).sort();
  return [
    ...slowFiles.filter((file) => found.includes(file)),
    ...found.filter((file) => !slowFiles.includes(file)),
  ];
}

/** Ends and removes what is left, also when this process is killed. */
function startKeeper() {
  const program = fileURLToPath(new URL('../support/process-keeper.ts', import.meta.url));
  return spawn(process.execPath, [program, runFolder, runFolder, ''], {
    detached: true,
    stdio: ['pipe', 'ignore', 'inherit'],
    env: {},
  });
}

/** The events as they come; before the closing figures, a failure for each problem of the run as a whole. */
async function* withProblems(source: AsyncIterable<TestEvent>): AsyncGenerator<TestEvent> {
  let isClosing = false;
  for await (const event of source) {
    if (!isClosing && tally.isClosing(event)) {
      isClosing = true;
      for (const problem of await problems()) yield tally.failure(problem);
    }
    yield tally.take(event);
  }
}

async function problems(): Promise<string[]> {
  clearInterval(limit);
  const found = tally.problems();
  if (values.update) counts.update(tally.counts(), isWhole);
  else found.push(...counts.problems(tally.counts(), isWhole));
  for (const endMs = performance.now() + endLimitMs; leftovers().length > 0 && performance.now() < endMs; ) {
    await sleep(100);
  }
  found.push(...leftovers().map(({ pid, command }) => `a process was left behind: ${command} (${pid})`));
  for (const name of readdirSync(join(runFolder, 'leftovers'))) {
    const left = readFileSync(join(runFolder, 'leftovers', name), 'utf8').trim();
    found.push(`a test left processes behind: ${left.replaceAll('\n', ', ')}`);
  }
  keeper.stdin.end();
  await once(keeper, 'exit');
  if (existsSync(runFolder)) found.push(`${runFolder} was left behind`);
  return found;
}

function leftovers() {
  return belongings(runFolder, runFolder).filter(({ pid }) => pid !== keeper.pid);
}

/** A file at its time limit is asked to say what it waits for, and then killed. */
function endLateFiles(): void {
  const limitMs = Number(values['time-limit-ms']);
  for (const pid of readdirSync(join(runFolder, 'files'))) {
    const entry = join(runFolder, 'files', pid);
    const ageMs = ageOf(entry);
    if (ageMs < limitMs || !leftovers().some((it) => it.pid === Number(pid))) continue;
    const isAsked = ageMs < limitMs + answerMs;
    try {
      const file = relative('', readFileSync(entry, 'utf8'));
      process.kill(Number(pid), isAsked ? 'SIGUSR2' : 'SIGKILL');
      if (!isAsked)
        tally.note(`${file} was killed at its time limit of ${limitMs} ms, for it did not answer`);
    } catch (error) {
      // It ended meanwhile.
      if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
}

function ageOf(file: string): number {
  // It ended meanwhile.
  const stats = statSync(file, { throwIfNoEntry: false });
  return stats ? Date.now() - stats.mtimeMs : 0;
}
