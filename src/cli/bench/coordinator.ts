import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { monoMs } from './clock.ts';
import type { FromLoadProcess, JobResult, LoadOptions, ScenarioName, ToLoadProcess } from './job.ts';
import type { ObservedProcess } from './observed-process.ts';
import { mergeResults, type RunResult } from './result.ts';

export interface RunOptions {
  readonly scenario: ScenarioName;
  readonly load: LoadOptions;
  readonly processes: number;
  readonly observed: readonly ObservedProcess[];
  /** Awaited before memory is read, at the beginning and at the end; for those who can have garbage collected. */
  readonly settleMemory?: () => Promise<void>;
  /** Starts a load process that speaks the messages of job.ts over IPC. */
  readonly fork: () => ChildProcess;
  readonly onProgress: (line: Progress) => void;
  readonly signal: AbortSignal;
}

export interface Progress {
  /** 0 to 1, while the load has a known length. */
  readonly share: number;
  readonly done: number;
  readonly errors: number;
  readonly note: string;
}

/** Between the last process being ready and the load: time for the message to reach all. */
const startDelayMs = 100;
const stopTimeoutMs = 5000;
/** Scenarios that end by themselves rather than by the clock. */
const untimed: ReadonlySet<ScenarioName> = new Set(['expiry', 'sessions', 'storm']);
const holdsConnections: ReadonlySet<ScenarioName> = new Set(['fanout', 'sessions']);

/** Runs a load in several processes and puts together what they find. @throws Error of the first that fails */
export async function runLoad(options: RunOptions): Promise<RunResult> {
  const { scenario, load, processes, observed } = options;
  await options.settleMemory?.();
  for (const process of observed) process.markIdle();
  const children = Array.from({ length: processes }, () => new LoadProcess(options.fork()));
  const stop = (): void => {
    for (const child of children) child.kill();
  };
  options.signal.addEventListener('abort', stop);
  let startedMs = Number.POSITIVE_INFINITY;
  const lengthMs = load.warmupMs + load.durationMs;
  const timer = setInterval(() => {
    const share = Math.min(1, Math.max(0, (monoMs() - startedMs) / lengthMs));
    options.onProgress({
      share,
      done: children.reduce((sum, child) => sum + child.done, 0),
      errors: children.reduce((sum, child) => sum + child.errors, 0),
      note: children.find((child) => child.note !== '')?.note ?? '',
    });
  }, 200);
  try {
    for (const [process, child] of children.entries()) {
      child.send({ type: 'job', job: { scenario, options: load, process, processes } });
    }
    await Promise.all(children.map((child) => child.ready));
    for (const process of observed) process.markBegin();
    startedMs = monoMs() + startDelayMs;
    for (const child of children) child.send({ type: 'start', startMs: startedMs });
    const results = await Promise.all(children.map((child) => child.result));
    const measuredMs = untimed.has(scenario) ? Number.POSITIVE_INFINITY : load.durationMs;
    const merged = mergeResults(results, measuredMs);
    const connections = holdsConnections.has(scenario) ? load.connections : 0;
    await options.settleMemory?.();
    const facts = observed.flatMap((process) => process.facts(connections));
    return { ...merged, facts: [...merged.facts, ...facts] };
  } finally {
    clearInterval(timer);
    options.signal.removeEventListener('abort', stop);
    await Promise.all(children.map((child) => child.close()));
  }
}

class LoadProcess {
  readonly ready: Promise<void>;
  readonly result: Promise<JobResult>;
  done = 0;
  errors = 0;
  note = '';
  readonly #child: ChildProcess;
  readonly #gone: Promise<void>;

  constructor(child: ChildProcess) {
    this.#child = child;
    const ready = Promise.withResolvers<void>();
    const result = Promise.withResolvers<JobResult>();
    this.ready = ready.promise;
    this.result = result.promise;
    // Whoever waits for one of them hears of it; the other must not count as unhandled.
    this.ready.catch(() => {});
    this.result.catch(() => {});
    const failed = (error: Error): void => {
      ready.reject(error);
      result.reject(error);
    };
    this.#gone = new Promise((resolve) => {
      child.once('exit', (code) => {
        failed(new Error(`a load process ended with ${code ?? 'a signal'}`));
        resolve();
      });
    });
    child.on('message', (message: FromLoadProcess) => {
      if (message.type === 'ready') ready.resolve();
      else if (message.type === 'result') result.resolve(message.result);
      else if (message.type === 'failed') failed(new Error(message.message));
      else ({ done: this.done, errors: this.errors, note: this.note } = message);
    });
  }

  send(message: ToLoadProcess): void {
    if (this.#child.connected) this.#child.send(message);
  }

  kill(): void {
    this.#child.kill();
  }

  /** Lets it close its connections, and ends it. */
  async close(): Promise<void> {
    this.send({ type: 'close' });
    await sleep(50);
    if (this.#child.connected) this.#child.disconnect();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), stopTimeoutMs);
    await this.#gone;
    clearTimeout(timer);
  }
}
