import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Cost } from './server-process.ts';

const at = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const answerTimeoutMs = 180_000;

/** A child process that answers one message at a time. */
class Worker {
  readonly child: ChildProcess;

  constructor(
    file: string,
    parameters: readonly string[],
    nodeOptions: readonly string[],
    env: NodeJS.ProcessEnv,
  ) {
    this.child = fork(at(file), parameters, { execArgv: [...nodeOptions], env: { ...process.env, ...env } });
  }

  async answer(): Promise<unknown> {
    const [message] = await Promise.race([
      once(this.child, 'message', { signal: AbortSignal.timeout(answerTimeoutMs) }),
      once(this.child, 'exit').then(() => Promise.reject(new Error('the process ended'))),
    ]);
    return message;
  }

  async ask(message: unknown): Promise<unknown> {
    const answer = this.answer();
    this.child.send(message as object);
    return answer;
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill(signal);
    await once(this.child, 'exit');
  }
}

export class ServerProcess {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly #worker: Worker;

  private constructor(worker: Worker, ports: { grpcPort: number; httpPort: number }) {
    this.#worker = worker;
    this.grpcPort = ports.grpcPort;
    this.httpPort = ports.httpPort;
  }

  static async start(environment: Readonly<Record<string, string>>): Promise<ServerProcess> {
    const worker = new Worker('server-process.ts', [], ['--expose-gc'], {
      GRPC_PORT: '0',
      HTTP_PORT: '0',
      ...environment,
    });
    return new ServerProcess(worker, (await worker.answer()) as { grpcPort: number; httpPort: number });
  }

  /** @param collects whether garbage goes first, to see what is really kept */
  async cost(collects: boolean): Promise<Cost> {
    const { cost } = (await this.#worker.ask(collects ? 'collect' : 'look')) as { cost: Cost };
    return cost;
  }

  end(signal: NodeJS.Signals): Promise<void> {
    return this.#worker.end(signal);
  }
}

export class TaskProcess {
  readonly #worker: Worker;

  private constructor(worker: Worker) {
    this.#worker = worker;
  }

  static async start(file: string, parameters: unknown): Promise<TaskProcess> {
    const worker = new Worker(file, [JSON.stringify(parameters)], [], {});
    await worker.answer();
    return new TaskProcess(worker);
  }

  async run<Result>(task: string, ...parameters: readonly unknown[]): Promise<Result> {
    const { result, error } = (await this.#worker.ask([task, ...parameters])) as {
      result: Result;
      error?: string;
    };
    if (error !== undefined) throw new Error(`${task}: ${error}`);
    return result;
  }

  end(): Promise<void> {
    return this.#worker.end('SIGKILL');
  }
}
