/**
 * Everything that docs/performance.md tells, measured one after the other on this machine and written to
 * bench/results/DATE-COMMIT/: for each run the report of `pilotlight bench` with its command line and raw data, then
 * one table and its charts.
 *
 *   node bench/record.ts [--only NAME,NAME] [--folder bench/results/...] [--no-peers]
 *
 * Needs redis-server. Takes about a quarter of an hour; nothing else should run meanwhile.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { RunReport } from '../src/cli/bench/report.ts';
import { redisCommand } from '../test/support/redis-command.ts';
import { RedisServer } from '../test/support/redis-server.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const mainModule = join(root, 'src/main.ts');
const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    folder: { type: 'string' },
    'no-peers': { type: 'boolean', default: false },
  },
});
const startTimeoutMs = 20_000;
const runTimeoutMs = 300_000;

const git = (...args: string[]): string => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
const commit = git('rev-parse', '--short', 'HEAD');
const date = new Date().toISOString().slice(0, 10);
const folder = values.folder ?? join(root, 'bench/results', `${date}-${commit}`);
mkdirSync(folder, { recursive: true });

/** A server of its own for each run, on the memory engine or with a Redis of its own. */
class MeasuredServer {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly redis: RedisServer | undefined;
  readonly #child: ChildProcess;

  constructor(child: ChildProcess, redis: RedisServer | undefined, grpcPort: number, httpPort: number) {
    this.#child = child;
    this.redis = redis;
    this.grpcPort = grpcPort;
    this.httpPort = httpPort;
  }

  static async start(hasRedis: boolean, environment: Record<string, string>): Promise<MeasuredServer> {
    const redis = hasRedis ? await RedisServer.start() : undefined;
    const child = spawn(process.execPath, [mainModule, 'serve'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        ...process.env,
        ...(redis ? { REDIS_URL: redis.url } : {}),
        GRPC_PORT: '0',
        HTTP_PORT: '0',
        LOG_LEVEL: 'error',
        ...environment,
      },
    });
    const [grpcPort, httpPort] = await new Promise<[number, number]>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the server did not start')), startTimeoutMs);
      child.once('exit', () => reject(new Error('the server ended at its start')));
      createInterface(child.stdout as NodeJS.ReadableStream).once('line', (line) => {
        clearTimeout(timer);
        const [, grpc, http] = /gRPC on [^:]+:(\d+), HTTP on [^:]+:(\d+)/.exec(line) ?? [];
        resolve([Number(grpc), Number(http)]);
      });
    });
    return new MeasuredServer(child, redis, grpcPort, httpPort);
  }

  get observe(): string[] {
    const processes = [`server=${this.#child.pid}`, ...(this.redis ? [`redis=${this.redis.pid}`] : [])];
    return processes.flatMap((process) => ['--observe', process]);
  }

  async stop(): Promise<void> {
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
    await this.redis?.stop();
  }
}

interface Step {
  readonly name: string;
  readonly engine: 'memory' | 'redis';
  readonly args: readonly string[];
  readonly environment?: Record<string, string>;
}

/** Benchmarks that start their own servers and print a table. */
const printed: readonly { readonly name: string; readonly args: readonly string[] }[] = [
  { name: 'memory', args: ['bench/sessions.ts', '--sessions', '9000', '--seconds', '10', '--recovery', '0'] },
];

const processes = ['--processes', '2'];
const watchers = [
  '--connections',
  '9000',
  '--rate',
  '2',
  '--watched',
  '1',
  '--warmup',
  '3s',
  '--duration',
  '15s',
];
const steps: readonly Step[] = [
  { name: 'spec-updates', engine: 'redis', args: ['spec-updates'] },
  { name: 'spec-bulk', engine: 'redis', args: ['spec-bulk', '--rate', '20'] },
  { name: 'bulk-memory', engine: 'memory', args: ['bulk', '--rate', '50', '--expect', 'p99<5ms'] },
  { name: 'query', engine: 'redis', args: ['query', '--rate', '5000'] },
  { name: 'heartbeat', engine: 'redis', args: ['heartbeat', '--rate', '10000', '--expect', 'p99<50ms'] },
  { name: 'heartbeat-max', engine: 'redis', args: ['heartbeat', '--rate', 'max'] },
  { name: 'heartbeat-max-memory', engine: 'memory', args: ['heartbeat', '--rate', 'max'] },
  { name: 'update-max', engine: 'redis', args: ['update', '--rate', 'max', '--duration', '8s'] },
  ...(['stream', 'grpc', 'websocket'] as const).map(
    (kind): Step => ({
      name: `fanout-${kind}`,
      engine: 'redis',
      args: [
        'fanout',
        '--kind',
        kind,
        ...watchers,
        ...processes,
        '--expect',
        'event.p99<100ms',
        '--expect',
        'missed-events=0',
      ],
    }),
  ),
  ...(['grpc', 'websocket'] as const).map(
    (kind): Step => ({
      name: `sessions-${kind}`,
      engine: 'redis',
      args: [
        'sessions',
        '--kind',
        kind,
        '--connections',
        '10000',
        '--rate',
        '1500',
        '--duration',
        '5s',
        ...processes,
      ],
    }),
  ),
  {
    name: 'storm',
    engine: 'redis',
    args: [
      ...['storm', '--kind', 'grpc', '--connections', '9000', '--duration', '8s', ...processes],
      ...['--expect', 'all-back<10s', '--expect', 'false-offline=0', '--expect', 'back=9000'],
    ],
  },
  { name: 'churn', engine: 'redis', args: ['churn', '--kind', 'grpc', '--rate', '200', '--users', '10000'] },
  {
    name: 'mixed',
    engine: 'redis',
    args: ['spec-users', '--users', '11500', '--duration', '25s', ...processes],
  },
  {
    name: 'expiry',
    engine: 'redis',
    environment: { USER_STATUS_TTL: '10s', HEARTBEAT_INTERVAL: '5s' },
    args: [
      'expiry',
      '--users',
      '100000',
      '--ttl',
      '10s',
      '--duration',
      '13s',
      '--expect',
      'p99<150ms',
      '--expect',
      'early=0',
    ],
  },
  ...[10_000, 100_000, 1_000_000].map(
    (users): Step => ({
      name: `growth-${users}`,
      engine: 'redis',
      environment: { USER_STATUS_TTL: '10m', HEARTBEAT_INTERVAL: '5m' },
      args: ['heartbeat', '--users', String(users), '--rate', '10000', '--duration', '8s'],
    }),
  ),
];

async function measure({ name, engine, args, environment }: Step): Promise<void> {
  const server = await MeasuredServer.start(engine === 'redis', environment ?? {});
  try {
    const file = join(folder, `${name}.json`);
    const target = ['--address', `127.0.0.1:${server.grpcPort}`, '--http-port', String(server.httpPort)];
    const child = spawn(
      process.execPath,
      [
        mainModule,
        'bench',
        ...args,
        ...target,
        ...server.observe,
        '--json',
        file,
        '--html',
        join(folder, `${name}.html`),
      ],
      { stdio: ['ignore', 'inherit', 'inherit'] },
    );
    const timer = setTimeout(() => child.kill(), runTimeoutMs);
    await once(child, 'exit');
    clearTimeout(timer);
    const metrics = await fetch(`http://127.0.0.1:${server.httpPort}/metrics`);
    if (metrics.ok) writeFileSync(join(folder, `${name}.metrics.txt`), await metrics.text());
    if (server.redis) writeRedisFacts(file, await redisFacts(server.redis.port));
  } finally {
    await server.stop();
  }
}

interface RedisFacts {
  readonly version: string;
  readonly usedBytes: number;
  readonly keys: number;
  /** Calls and microseconds of each command, as INFO commandstats tells them. */
  readonly commands: string;
}

async function redisFacts(port: number): Promise<RedisFacts> {
  const [server, memory, commands, keys] = await Promise.all([
    redisCommand<string>(port, 'INFO', 'server'),
    redisCommand<string>(port, 'INFO', 'memory'),
    redisCommand<string>(port, 'INFO', 'commandstats'),
    redisCommand<number>(port, 'DBSIZE'),
  ]);
  return {
    version: /redis_version:(\S+)/.exec(server)?.[1] ?? 'unknown',
    usedBytes: Number(/used_memory:(\d+)/.exec(memory)?.[1]),
    keys: Number(keys),
    commands,
  };
}

export type RecordedReport = RunReport & { readonly redis?: RedisFacts };

function writeRedisFacts(file: string, redis: RedisFacts): void {
  const report = JSON.parse(readFileSync(file, 'utf8')) as RunReport;
  writeFileSync(file, `${JSON.stringify({ ...report, redis }, null, 1)}\n`);
}

writeFileSync(
  join(folder, 'machine.json'),
  `${JSON.stringify(
    {
      date: new Date().toISOString(),
      commit: git('rev-parse', 'HEAD'),
      isClean: git('status', '--porcelain', '--untracked-files=no') === '',
      cpus: `${cpus().length} x ${cpus()[0]?.model.trim()}`,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      kernel: release(),
      node: process.version,
      redis: execFileSync('redis-server', ['--version'], { encoding: 'utf8' }).trim(),
    },
    null,
    1,
  )}\n`,
);

const only = values.only?.split(',');
for (const step of steps) {
  if (only && !only.includes(step.name)) continue;
  process.stdout.write(`\n${new Date().toISOString().slice(11, 19)} ${step.name}\n`);
  await measure(step).catch((error: unknown) => {
    process.exitCode = 1;
    process.stderr.write(`${step.name} failed: ${(error as Error).message}\n`);
  });
}
for (const { name, args } of printed) {
  if (only && !only.includes(name)) continue;
  const output = execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8', timeout: runTimeoutMs });
  process.stdout.write(output);
  writeFileSync(join(folder, `${name}.txt`), `node ${args.join(' ')}\n\n${output}`);
}
if (!values['no-peers'] && !only) {
  execFileSync(process.execPath, [join(root, 'bench/peers/run.ts'), '--json', join(folder, 'peers.json')], {
    stdio: 'inherit',
  });
}
