import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { endProcess, startProcess, temporaryFolder } from './child-process.ts';
import { waitFor } from './wait.ts';

/**
 * A port of 127.0.0.1 that was free a moment ago, and that nobody else gets by chance: the system gives connections and
 * servers without a port of their own one above 32767.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** Long, since it may have much to load on a busy machine. */
const startTimeoutMs = 60_000;

/**
 * Options of a Redis that has its data again after a kill: every write is in the file before its answer. No fsync, which
 * guards against a fall of the machine only, and takes however long a busy disk does.
 */
export const keepsData = ['--appendonly', 'yes', '--appendfsync', 'no'];

/** A real redis-server of the test's own, on a free port, with a data folder that goes with it. */
export class RedisServer {
  /** What runs. A test file of its own may put another there, such as valkey-server, before it starts any. */
  static program = 'redis-server';
  readonly port: number;
  readonly #folder: string;
  readonly #options: readonly string[];
  #first: readonly string[] = [];
  #environment: Readonly<Record<string, string>> = {};
  #process: ChildProcess | undefined;

  constructor(port: number, folder: string, options: readonly string[]) {
    this.port = port;
    this.#folder = folder;
    this.#options = options;
  }

  /**
   * @param prepare makes files in the folder, and answers what goes before all options on the command line
   * @param environment added to this process' own
   */
  static async start(
    options: readonly string[] = [],
    prepare: (folder: string) => Promise<readonly string[]> = async () => [],
    environment: Readonly<Record<string, string>> = {},
  ): Promise<RedisServer> {
    const folder = temporaryFolder('redis');
    const server = new RedisServer(await freePort(), folder, options);
    server.#environment = environment;
    server.#first = await prepare(folder);
    await server.run();
    return server;
  }

  get isRunning(): boolean {
    return this.#process !== undefined;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  get pid(): number {
    return this.#process?.pid as number;
  }

  /** Starts it, or starts it again with the data that it saved. */
  async run(): Promise<void> {
    const child = startProcess(
      RedisServer.program,
      [
        ...this.#first,
        '--port',
        String(this.port),
        '--bind',
        '127.0.0.1',
        '--dir',
        this.#folder,
        '--save',
        '',
        ...this.#options,
      ],
      { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, ...this.#environment } },
    );
    const failed = once(child, 'error').then(([error]) => {
      throw new Error('redis-server does not start; install the Debian package redis-server', {
        cause: error,
      });
    });
    failed.catch(() => {});
    this.#process = child;
    const answers = () => {
      if (child.exitCode !== null) throw new Error(`redis-server ended at once on port ${this.port}`);
      return answersPing(this.port);
    };
    await Promise.race([failed, waitFor('redis-server to answer', answers, startTimeoutMs)]);
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Stops and goes on, as under a debugger or on a machine that swaps. */
  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    process.kill(this.pid, name);
  }

  async stop(): Promise<void> {
    await this.#end('SIGKILL');
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child) await endProcess(child, signal);
  }
}

function answersPing(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.setTimeout(500, () => socket.destroy());
    socket.on('data', (data) => {
      resolve(data.toString().startsWith('+PONG'));
      socket.destroy();
    });
    socket.on('error', () => resolve(false));
    socket.on('close', () => resolve(false));
  });
}
