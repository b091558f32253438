/**
 * Pilotlight beside what would be used without it, alternating in one run, each with a Redis of its own:
 *
 *   node bench/peers/run.ts [--rounds 2] [--watchers 9000] [--expiring 20000] [--seconds 5] [--processes 2] [--json FILE]
 *
 * Needs redis-server, and the npm registry once, for bench/peers/package.json.
 */
import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runLoad } from '../../src/cli/bench/coordinator.ts';
import type { LoadOptions, ScenarioName, SessionKind } from '../../src/cli/bench/job.ts';
import { ObservedProcess } from '../../src/cli/bench/observed-process.ts';
import type { RunResult } from '../../src/cli/bench/result.ts';
import { RedisServer } from '../../test/support/redis-server.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '2' },
    watchers: { type: 'string', default: '9000' },
    expiring: { type: 'string', default: '20000' },
    seconds: { type: 'string', default: '5' },
    processes: { type: 'string', default: '2' },
    json: { type: 'string' },
  },
});
const rounds = Number(values.rounds);
const watchers = Number(values.watchers);
const expiring = Number(values.expiring);
const measuredMs = Number(values.seconds) * 1000;
const processes = Number(values.processes);
const ttlSeconds = 5;
/** Every user's, as the lease asks: at the calm rate there are as many users as that takes. */
const heartbeatMs = 2000;
const calmRate = 2000;
const startTimeoutMs = 20_000;

const fileOf = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const mainModule = fileOf('../../src/main.ts');

interface Subject {
  readonly name: string;
  /** The server's arguments for node. */
  readonly args: readonly string[];
  /** How its load process is started. */
  readonly load: readonly [module: string, ...args: string[]];
  readonly kind: SessionKind;
  readonly hasLeases: boolean;
}

const ownLoad = [mainModule, 'bench-load'] as const;
const subjects: readonly Subject[] = [
  { name: 'literal', args: [fileOf('literal-server.mjs')], load: ownLoad, kind: 'stream', hasLeases: true },
  {
    name: 'socket.io',
    args: [fileOf('socketio-server.mjs')],
    load: [fileOf('socketio-load.ts')],
    kind: 'websocket',
    hasLeases: false,
  },
  { name: 'pilotlight', args: [mainModule, 'serve'], load: ownLoad, kind: 'stream', hasLeases: true },
];

/** Figures of one subject in one round. */
type Figures = Record<string, number>;

class PeerServer {
  readonly port: number;
  readonly observed: readonly ObservedProcess[];
  readonly #child: ChildProcess;
  readonly #redis: RedisServer;

  constructor(child: ChildProcess, redis: RedisServer, port: number) {
    this.#child = child;
    this.#redis = redis;
    this.port = port;
    this.observed = [new ObservedProcess(`server=${child.pid}`), new ObservedProcess(`redis=${redis.pid}`)];
  }

  static async start({ name, args }: Subject): Promise<PeerServer> {
    const redis = await RedisServer.start();
    const collector = ['--expose-gc', '--import', fileOf('collect-on-signal.mjs')];
    const child = spawn(process.execPath, [...collector, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        ...process.env,
        REDIS_URL: redis.url,
        TTL_SECONDS: String(ttlSeconds),
        USER_STATUS_TTL: `${ttlSeconds}s`,
        HEARTBEAT_INTERVAL: `${heartbeatMs}ms`,
        GRPC_PORT: '0',
        HTTP_PORT: '0',
        LOG_LEVEL: 'error',
      },
    });
    const port = await new Promise<number>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${name} did not start`)), startTimeoutMs);
      child.once('exit', () => reject(new Error(`${name} ended at its start`)));
      createInterface(child.stdout as NodeJS.ReadableStream).once('line', (line) => {
        clearTimeout(timer);
        resolve(Number(/(?:port |gRPC on [^:]+:)(\d+)/.exec(line)?.[1]));
      });
    });
    return new PeerServer(child, redis, port);
  }

  /** Has its garbage collected, so that memory is what is in use. */
  async settleMemory(): Promise<void> {
    this.#child.kill('SIGUSR2');
    await sleep(500);
  }

  async stop(): Promise<void> {
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
    await this.#redis.stop();
  }
}

async function load(
  subject: Subject,
  server: PeerServer,
  scenario: ScenarioName,
  options: Partial<LoadOptions>,
): Promise<RunResult> {
  const [module, ...args] = subject.load;
  return runLoad({
    scenario,
    processes: scenario === 'heartbeat' ? 1 : processes,
    observed: server.observed,
    ...(scenario === 'fanout' ? { settleMemory: () => server.settleMemory() } : {}),
    fork: () => fork(module, args),
    onProgress: () => {},
    signal: new AbortController().signal,
    load: {
      host: '127.0.0.1',
      port: server.port,
      httpPort: server.port,
      metadata: [],
      prefix: scenario,
      users: 10_000,
      connections: 50,
      rate: 0,
      concurrency: 1000,
      warmupMs: 0,
      durationMs: measuredMs,
      bulkSize: 1000,
      kind: subject.kind,
      ttlMs: ttlSeconds * 1000,
      heartbeatMs,
      lifeMs: 5000,
      watched: 1,
      ...options,
    },
  });
}

const series = (result: RunResult, name: string) => {
  const found = result.series.find((it) => it.name === name);
  if (!found || found.count === 0) throw new Error(`nothing was measured of ${name}`);
  return found;
};
const fact = (result: RunResult, name: string): number =>
  result.facts.find((it) => it.name === name)?.value ?? Number.NaN;

async function measureHeartbeats(subject: Subject, figures: Figures): Promise<void> {
  const server = await PeerServer.start(subject);
  try {
    await load(subject, server, 'heartbeat', { durationMs: Math.min(2000, measuredMs) });
    const result = await load(subject, server, 'heartbeat', {});
    const { count, rate, errors, p99 } = series(result, 'heartbeat');
    figures['heartbeats per second'] = rate;
    figures['heartbeats per second of server CPU'] = count / fact(result, 'server-cpu-seconds');
    figures['heartbeat p99 at full load, ms'] = p99;
    figures['Redis CPU per heartbeat, us'] = (fact(result, 'redis-cpu-seconds') * 1e6) / count;
    figures['heartbeats that failed'] = errors;
    // Else their leases would run out in the middle of what comes.
    await sleep(2 * ttlSeconds * 1000);
    const users = (calmRate * heartbeatMs) / 1000;
    // At this rate it takes so long until the load process is compiled.
    const options = { rate: calmRate, users, warmupMs: 8000, durationMs: 2 * measuredMs };
    const calm = series(await load(subject, server, 'heartbeat', options), 'heartbeat');
    figures['heartbeat p50 at 2,000 per second, ms'] = calm.p50;
    figures['heartbeat p99 at 2,000 per second, ms'] = calm.p99;
  } finally {
    await server.stop();
  }
}

/** Resident memory of a server with so many watchers, in KiB, garbage collected; and what the fan-out to them took. */
async function watch(subject: Subject, connections: number, durationMs: number) {
  const server = await PeerServer.start(subject);
  try {
    const options = { connections, rate: 2, watched: 4, warmupMs: 2000, durationMs };
    const result = await load(subject, server, 'fanout', options);
    return { result, rssKib: fact(result, 'server-rss') * 1024 };
  } finally {
    await server.stop();
  }
}

async function measureFanout(subject: Subject, figures: Figures): Promise<void> {
  // Memory is the difference between many and some: what a server needs for none has room left for the first.
  const some = Math.floor(watchers / 3);
  const small = await watch(subject, some, 500);
  const { result, rssKib } = await watch(subject, watchers, 2 * measuredMs);
  const { p50, p99 } = series(result, 'event');
  figures['fan-out p50, ms'] = p50;
  figures['fan-out p99, ms'] = p99;
  figures['events missed'] = fact(result, 'missed-events');
  figures['server memory per watcher, KiB'] = (rssKib - small.rssKib) / (watchers - some);
}

async function measureExpiry(subject: Subject, figures: Figures): Promise<void> {
  if (!subject.hasLeases) return;
  const server = await PeerServer.start(subject);
  try {
    const result = await load(subject, server, 'expiry', { users: expiring, durationMs: 5000 });
    const { p50, p99 } = series(result, 'offline');
    figures['OFFLINE after the deadline p50, ms'] = p50;
    figures['OFFLINE after the deadline p99, ms'] = p99;
    figures['OFFLINE never told within 10 s, users'] = fact(result, 'never-told');
  } finally {
    await server.stop();
  }
}

if (!existsSync(fileOf('node_modules'))) {
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: fileOf('.'), stdio: 'inherit' });
}

const found = new Map<string, Figures[]>(subjects.map(({ name }) => [name, []]));
for (let round = 1; round <= rounds; round++) {
  const figures = new Map<string, Figures>(subjects.map(({ name }) => [name, {}]));
  for (const measure of [measureHeartbeats, measureFanout, measureExpiry]) {
    for (const subject of subjects) {
      process.stderr.write(`round ${round}: ${measure.name} of ${subject.name}\n`);
      await measure(subject, figures.get(subject.name) as Figures);
    }
  }
  for (const { name } of subjects) found.get(name)?.push(figures.get(name) as Figures);
}

/** The median of the rounds: of two, their mean. */
function median(name: string, figure: string): number {
  const all = (found.get(name) as Figures[])
    .map((figures) => figures[figure] ?? Number.NaN)
    .sort((a, b) => a - b);
  const middle = (all.length - 1) / 2;
  return ((all[Math.floor(middle)] as number) + (all[Math.ceil(middle)] as number)) / 2;
}

const rowNames = Object.keys((found.get('pilotlight') as Figures[])[0] as Figures);
const text = (value: number): string =>
  Number.isNaN(value) ? '-' : value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);
console.log(
  `Node ${process.version}, ${cpus().length} x ${cpus()[0]?.model.trim()}, ${rounds} rounds, ${watchers} watchers\n`,
);
console.log('| | literal | socket.io | pilotlight | pilotlight / literal | pilotlight / socket.io |');
console.log('|---|---:|---:|---:|---:|---:|');
for (const row of rowNames) {
  const [literal, socketIo, ours] = ['literal', 'socket.io', 'pilotlight'].map((name) =>
    median(name, row),
  ) as [number, number, number];
  const cells = [literal, socketIo, ours].map(text);
  const ratios = [ours / literal, ours / socketIo].map((ratio) =>
    Number.isFinite(ratio) ? ratio.toFixed(2) : '-',
  );
  console.log(`| ${[row, ...cells, ...ratios].join(' | ')} |`);
}
if (values.json !== undefined) {
  const report = {
    startedAt: new Date().toISOString(),
    node: process.version,
    options: values,
    found: Object.fromEntries(found),
  };
  writeFileSync(values.json, `${JSON.stringify(report, null, 1)}\n`);
}
