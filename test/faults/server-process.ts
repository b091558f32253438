import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { endProcess, startProcess } from '../support/child-process.ts';
import { freePort } from '../support/redis-server.ts';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const startTimeoutMs = 60_000;
const stopTimeoutMs = 30_000;

/** A real server as a process of its own, always on the same ports, so that clients find it again. */
export class ServerProcess {
  readonly name: string;
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly #environment: Readonly<Record<string, string>>;
  #process: ChildProcess | undefined;
  /** What it wrote to its log, the newest lines. */
  #log: string[] = [];

  constructor(
    name: string,
    ports: { grpcPort: number; httpPort: number },
    environment: Readonly<Record<string, string>>,
  ) {
    this.name = name;
    this.grpcPort = ports.grpcPort;
    this.httpPort = ports.httpPort;
    this.#environment = environment;
  }

  static async start(name: string, environment: Readonly<Record<string, string>>): Promise<ServerProcess> {
    const ports = { grpcPort: await freePort(), httpPort: await freePort() };
    const server = new ServerProcess(name, ports, environment);
    await server.run();
    return server;
  }

  get grpcUrl(): string {
    return `http://127.0.0.1:${this.grpcPort}`;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  get log(): readonly string[] {
    return this.#log;
  }

  /** Starts it, again after it ended. Resolves when it is ready. */
  async run(): Promise<void> {
    const child = startProcess(process.execPath, [main, 'serve'], {
      env: {
        ...process.env,
        ...this.#environment,
        GRPC_PORT: String(this.grpcPort),
        HTTP_PORT: String(this.httpPort),
      },
    });
    this.#process = child;
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.#log.push(line);
      if (this.#log.length > 500) this.#log.shift();
    });
    const ready = Promise.withResolvers<void>();
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line.includes('is ready')) ready.resolve();
    });
    child.once('exit', (code) =>
      ready.reject(new Error(`${this.name} ended with ${code}: ${this.#log.at(-1)}`)),
    );
    const timer = setTimeout(
      () => ready.reject(new Error(`${this.name} is not ready: ${this.#log.at(-1)}`)),
      startTimeoutMs,
    );
    try {
      await ready.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Asks it to stop, as an orchestrator would, and waits until it has. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child) return;
    const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs);
    await endProcess(child, signal);
    clearTimeout(timer);
  }
}
