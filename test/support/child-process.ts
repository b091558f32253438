/**
 * Processes and folders of a test, which end with the test's process whatever ends it: a keeper, a small process of its
 * own, kills and removes them when the pipe to it breaks. Tests start every process and make every folder by this module.
 */
import {
  type ChildProcess,
  type ChildProcessWithoutNullStreams,
  type ForkOptions,
  fork,
  type SpawnOptions,
  spawn,
} from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';

const keeperFile = fileURLToPath(new URL('process-keeper.ts', import.meta.url));

/** Where the test run keeps its files; undefined: this test file was started by hand. */
const runFolder = process.env.PILOTLIGHT_TEST_RUN;

let keeper: Writable | undefined;
let folder: string | undefined;

/**
 * Starts a program as a process group of its own. It does not outlive this process.
 *
 * @param options as of `spawn`; standard streams are pipes by default
 */
export function startProcess(
  file: string,
  args?: readonly string[],
  options?: SpawnOptions & { stdio?: undefined },
): ChildProcessWithoutNullStreams;
export function startProcess(file: string, args: readonly string[], options: SpawnOptions): ChildProcess;
export function startProcess(
  file: string,
  args: readonly string[] = [],
  options: SpawnOptions = {},
): ChildProcess {
  keepProcesses();
  return kept(spawn(file, args, { ...options, detached: true }));
}

/** Starts a module of this project on this Node, with a channel for messages. It does not outlive this process. */
export function forkProcess(
  module: string | URL,
  args: readonly string[] = [],
  options: ForkOptions = {},
): ChildProcess {
  keepProcesses();
  return kept(fork(module, args, { ...options, detached: true }));
}

/** Sends a signal to a process and waits until it has ended. SIGKILL reaches its whole group. */
export async function endProcess(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
  if (child.pid === undefined) return;
  const hasEnded = child.exitCode !== null || child.signalCode !== null;
  const ended = hasEnded ? undefined : once(child, 'exit');
  if (signal === 'SIGKILL') killGroup(child.pid);
  else child.kill(signal);
  await ended;
}

export interface Run {
  /** null: it was killed, as after the time limit. */
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface RunOptions extends SpawnOptions {
  readonly stdio?: undefined;
  readonly input?: string;
  /** How its output is read; default utf8. */
  readonly encoding?: BufferEncoding;
  /** It is killed after that; default a minute. */
  readonly timeoutMs?: number;
}

/** Runs a program to its end. Fails if it is not installed, not if it ends badly. */
export async function runProcess(
  file: string,
  args: readonly string[],
  { input = '', encoding = 'utf8', timeoutMs = 60_000, ...options }: RunOptions = {},
): Promise<Run> {
  const child = startProcess(file, args, options);
  const text = { out: '', err: '' };
  for (const [name, stream] of [
    ['out', child.stdout],
    ['err', child.stderr],
  ] as const) {
    stream.setEncoding(encoding).on('data', (chunk: string) => {
      text[name] += chunk;
    });
  }
  // It may end without reading what it is given.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const timer = setTimeout(() => void endProcess(child), timeoutMs);
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, ...text };
  } finally {
    clearTimeout(timer);
  }
}

/** A new empty folder. Remove it when the test is done; if the process is killed before, the keeper does. */
export function temporaryFolder(name = 'folder'): string {
  keepProcesses();
  return mkdtempSync(join(folder as string, `${name}-`));
}

/**
 * Has everything ended that this process starts from now on, by this module or otherwise: programs that a library starts
 * are known by the environment. Idempotent.
 */
export function keepProcesses(): void {
  if (keeper) return;
  if (!isMainThread)
    throw new Error('a worker thread must not start processes: its keeper would not outlive it');
  const own = mkdtempSync(join(runFolder ?? tmpdir(), 'pilotlight-test-'));
  folder = own;
  process.once('exit', () => failOnLeftovers(own));
  const owner = `pilotlight-owner-${process.pid}-${Date.now().toString(36)}`;
  process.env.PILOTLIGHT_TEST_OWNER = owner;
  const reports = runFolder === undefined ? '' : join(runFolder, 'leftovers');
  if (reports !== '') mkdirSync(reports, { recursive: true });
  const child = spawn(process.execPath, [keeperFile, owner, own, reports], {
    // A terminal's Ctrl+C goes to a group: the keeper is in its own.
    detached: true,
    stdio: ['pipe', 'ignore', 'inherit'],
    env: {},
  });
  child.unref();
  const input = child.stdin as Writable & { unref(): void };
  input.unref();
  // Without its keeper a test still runs; what it leaves is found at the end of the run.
  input.on('error', () => {});
  keeper = input;
}

function kept<Child extends ChildProcess>(child: Child): Child {
  const { pid } = child;
  // A program that is not there has no process.
  if (pid === undefined) return child;
  keeper?.write(`started ${pid}\n`);
  child.once('exit', () => {
    // What it started ends with it.
    killGroup(pid);
    keeper?.write(`ended ${pid}\n`);
  });
  return child;
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nobody is left in it.
  }
}

/** Only a test that ends in order is asked to clean up: after a failure its hooks may not have run. */
function failOnLeftovers(own: string): void {
  const left = readdirSync(own);
  if (left.length === 0 || process.exitCode) return;
  process.stderr.write(`left in ${own}: ${left.join(', ')}\n`);
  process.exitCode = 1;
}
