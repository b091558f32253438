import { setTimeout as sleep } from 'node:timers/promises';
import { monoMs } from './clock.ts';
import { type CallSink, H2Connection } from './h2-connection.ts';
import { type Job, type LoadOptions, shareOf } from './job.ts';
import { paths, setRequest, userOnline } from './messages.ts';
import { Pacer } from './pacer.ts';
import type { Recorder, Series } from './recorder.ts';
import { headOf, type LoadSession, openSession, type SessionOptions, targetOf } from './session.ts';

/** How long calls under way at the end of the load may take to be answered. */
const drainMs = 5000;
/** Calls in flight while users are lit before the load. */
const prepareInFlight = 256;

/** One load process' part of a run. */
export interface Scenario {
  /** Everything that must be there before the load begins. */
  prepare(): Promise<void>;
  /** The load, its end awaited. `startMs` is a reading of `monoMs`. */
  run(startMs: number): Promise<void>;
  /** Closes what is open. */
  close(): void;
}

/** What scenarios are made of: this process' users and connections, and ways to call. */
export class LoadContext {
  readonly job: Job;
  readonly load: LoadOptions;
  readonly recorder: Recorder;
  readonly pacer = new Pacer();
  /** Numbers of this process' users: from, to. */
  readonly firstUser: number;
  readonly endUser: number;
  /** A word for the progress line. */
  note = '';
  readonly #connections: H2Connection[] = [];
  #nextConnection = 0;
  #inFlight = 0;

  constructor(job: Job, recorder: Recorder) {
    this.job = job;
    this.load = job.options;
    this.recorder = recorder;
    [this.firstUser, this.endUser] = shareOf(job.options.users, job);
  }

  get userCount(): number {
    return this.endUser - this.firstUser;
  }

  /** This process' share of the rate, per second. */
  get rate(): number {
    return this.load.rate / this.job.processes;
  }

  userId(number: number): string {
    return `${this.load.prefix}-${number}`;
  }

  /** Sets the recorder's window: warm-up, then the measured time. */
  measure(startMs: number): { fromMs: number; toMs: number } {
    const fromMs = startMs + this.load.warmupMs;
    const toMs = fromMs + this.load.durationMs;
    this.recorder.setWindow(fromMs, toMs);
    return { fromMs, toMs };
  }

  /** Opens this process' share of the connections for unary calls, at least one. */
  async openConnections(count = this.load.connections): Promise<void> {
    const [from, to] = shareOf(count, this.job);
    for (let index = from; index < Math.max(to, from + 1); index++) {
      const connection = new H2Connection(targetOf(this.load, index));
      await connection.opened;
      this.#connections.push(connection);
    }
  }

  /** A unary call on the next connection in turn; `series` is told how it went. */
  call(path: string, message: Buffer, intendedMs: number, series: Series, done?: () => void): void {
    this.callThen(path, message, (ok) => {
      if (ok) series.ok(intendedMs, monoMs());
      else series.failed(intendedMs);
      done?.();
    });
  }

  callThen(path: string, message: Buffer, done: (ok: boolean) => void): void {
    this.#inFlight++;
    const connection = this.#connections[this.#nextConnection] as H2Connection;
    this.#nextConnection = (this.#nextConnection + 1) % this.#connections.length;
    connection.call(
      headOf(this.load, path),
      message,
      new UnarySink((ok) => {
        this.#inFlight--;
        done(ok);
      }),
    );
  }

  /** Calls for each number of a range, a few hundred at once. @throws Error when more than one in a hundred fails */
  async forEach(
    from: number,
    to: number,
    request: (number: number) => [path: string, Buffer],
  ): Promise<void> {
    let next = from;
    let failed = 0;
    const worker = async (): Promise<void> => {
      while (next < to) {
        const [path, message] = request(next++);
        const ok = await new Promise<boolean>((resolve) => this.callThen(path, message, resolve));
        if (!ok && ++failed > (to - from) / 100) throw new Error(`calls of ${path} fail`);
        this.note = `preparing ${next - from} of ${to - from}`;
      }
    };
    await Promise.all(Array.from({ length: Math.min(prepareInFlight, to - from) }, worker));
    this.note = '';
  }

  lightUsers(): Promise<void> {
    return this.forEach(this.firstUser, this.endUser, (user) => [
      paths.set,
      setRequest(this.userId(user), userOnline),
    ]);
  }

  /**
   * Begins calls from `startMs` on, at the rate, or so that `concurrency` are in flight; ends when the measured time is
   * over and the calls are answered, or given up.
   */
  async drive(startMs: number, begin: (intendedMs: number, done: () => void) => void): Promise<void> {
    const { toMs } = this.measure(startMs);
    if (this.load.rate > 0) {
      await this.pacer.run(this.rate, startMs, toMs, (intendedMs) => begin(intendedMs, () => {}));
    } else {
      const again = (): void => {
        const nowMs = monoMs();
        // A call that fails at once must not end in a loop within itself.
        if (nowMs < toMs) begin(nowMs, () => setImmediate(again));
      };
      const [from, to] = shareOf(this.load.concurrency, this.job);
      for (let slot = from; slot < Math.max(to, from + 1); slot++) again();
      await sleep(Math.max(0, toMs - monoMs()));
    }
    await this.drained();
  }

  /** Waits until all calls are answered, within bounds. */
  async drained(): Promise<void> {
    const endMs = monoMs() + drainMs;
    while (this.#inFlight > 0 && monoMs() < endMs) await sleep(5);
    if (this.#inFlight > 0) this.recorder.fact('unanswered', this.#inFlight, 'calls');
  }

  openSession(options: Omit<SessionOptions, 'load'>): Promise<LoadSession> {
    return openSession({ ...options, load: this.load });
  }

  close(): void {
    this.pacer.stop();
    for (const connection of this.#connections) connection.destroy();
  }
}

class UnarySink implements CallSink {
  readonly #done: (ok: boolean) => void;
  #hasMessage = false;

  constructor(done: (ok: boolean) => void) {
    this.#done = done;
  }

  onMessage(): void {
    this.#hasMessage = true;
  }

  onEnd(): void {
    this.#done(this.#hasMessage);
  }
}
