import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { endProcess, forkProcess } from '../../../test/support/child-process.ts';
import type { GrpcServer } from '../../src/index.ts';
import { type ConnectOptions, deadline, RawClient } from './raw-client.ts';
import type { ServerOptions } from './test-server.ts';

/** What the server process tells about itself. */
export interface Look {
  readonly stats: ReturnType<GrpcServer['stats']>;
  /** JavaScript heap and external memory after a garbage collection. */
  readonly usedBytes: number;
  readonly rssBytes: number;
  /** Calls of the slow handler, and the most that ran at one time. */
  readonly starts: number;
  readonly mostRunning: number;
  /** What reached onError, and uncaught errors. */
  readonly errors: readonly string[];
}

const START_MS = 60_000;

/** A server in a process of its own. */
export class RemoteServer {
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  /** Options must survive JSON. */
  static async start(options: ServerOptions = {}): Promise<RemoteServer> {
    const child = forkProcess(new URL('attacked-server.ts', import.meta.url), [JSON.stringify(options)], {
      execArgv: ['--expose-gc', '--no-warnings'],
    });
    return new RemoteServer(child, await answer<number>(child));
  }

  connect(options?: ConnectOptions): Promise<RawClient> {
    return RawClient.connect(this.port, options);
  }

  async look(): Promise<Look> {
    const told = answer<Look>(this.#child);
    this.#child.send('look');
    return told;
  }

  /** Polls until the look is as wanted. */
  async until(holds: (look: Look) => boolean, what: string, timeoutMs = 60_000): Promise<Look> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      const look = await this.look();
      if (holds(look)) return look;
      if (performance.now() > end)
        throw new Error(`${timeoutMs} ms passed waiting for ${what}: ${JSON.stringify(look)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Ends the process, whatever state it is in. */
  async kill(): Promise<void> {
    await endProcess(this.#child);
  }

  /** Asserts that the process lives and has reported no error. */
  async assertHealthy(): Promise<void> {
    const { errors } = await this.look();
    assert.deepEqual(errors, []);
  }
}

function answer<T>(child: ChildProcess): Promise<T> {
  const told = new Promise<T>((resolve, reject) => {
    const died = (code: number | null): void => reject(new Error(`the server process died, code ${code}`));
    child.once('exit', died);
    child.once('message', (message) => {
      child.off('exit', died);
      resolve(message as T);
    });
  });
  return deadline(told, 'the server process', START_MS);
}
