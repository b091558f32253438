import { setTimeout as sleep } from 'node:timers/promises';
import { percentile } from './histogram.ts';
import type { Load } from './load-process.ts';
import { ServerProcess, TaskProcess } from './processes.ts';

export interface SteadyOptions {
  readonly redisUrl: string;
  /** Sessions over WebSocket, all on one server, and over gRPC, all on another. */
  readonly webSockets: number;
  readonly grpcStreams: number;
  /** Users that each session watches. */
  readonly watched: number;
  readonly loadProcesses: number;
  readonly changesPerSecond: number;
  readonly durationMs: number;
  /** Pause before memory is read, ms. */
  readonly settleMs: number;
  readonly onProgress?: (what: string) => void;
}

export interface SideFigures {
  readonly wire: Load['wire'];
  readonly sessions: number;
  /** Memory of a session that watches nobody, after a garbage collection, over the process without sessions. */
  readonly idleBytes: number;
  readonly idleHeapBytes: number;
  /** The same, watching. */
  readonly watchingBytes: number;
  /** Processor time of one session in a second, microseconds. */
  readonly cpuUs: number;
  /** Longest that the server's event loop did not come round while it was measured, ms. */
  readonly loopDelayMs: number;
}

export interface SteadyFigures {
  readonly sides: readonly SideFigures[];
  readonly changes: number;
  readonly events: number;
  readonly lost: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** The same of the load processes: what of the latency is not the servers'. */
  readonly loadLoopDelayMs: number;
}

/** Everybody connected, watching and heartbeating, on two servers; some change, and everybody who watches them sees it. */
export async function runSteady(options: SteadyOptions): Promise<SteadyFigures> {
  const environment = {
    REDIS_URL: options.redisUrl,
    REDIS_TIMEOUT: '10s',
    HEARTBEAT_INTERVAL: '15s',
    IDLE_AFTER: '0s',
  };
  const total = options.webSockets + options.grpcStreams;
  const servers = [await ServerProcess.start(environment), await ServerProcess.start(environment)] as const;
  const loads: TaskProcess[] = [];
  try {
    const sides = [
      await Side.start('WebSocket', servers[0], 0, options.webSockets, total, options),
      await Side.start('gRPC', servers[1], options.webSockets, options.grpcStreams, total, options),
    ];
    loads.push(...sides.flatMap(({ loads: some }) => some));
    const { onProgress = () => {} } = options;
    onProgress('opening sessions');
    for (const side of sides) await side.open();
    onProgress('watching');
    for (const side of sides) await side.watch();
    await Promise.all(loads.map((load) => load.run('heartbeat')));
    await sleep(options.settleMs);
    await Promise.all(sides.map((side) => side.beginCpu()));
    onProgress('measuring');
    const share = options.changesPerSecond / loads.length;
    await Promise.all(loads.map((load) => load.run('change', share, options.durationMs)));
    const figures = await Promise.all(sides.map((side) => side.figures()));
    const reports = await Promise.all(
      loads.map((load) =>
        load.run<{ events: number; lost: number; counts: [number, number][]; loopDelayMs: number }>('report'),
      ),
    );
    const counts = reports.flatMap((report) => report.counts);
    return {
      sides: figures,
      changes: Math.round((options.changesPerSecond * options.durationMs) / 1000),
      events: reports.reduce((sum, { events }) => sum + events, 0),
      lost: reports.reduce((sum, { lost }) => sum + lost, 0),
      p50Ms: percentile(counts, 0.5) / 1000,
      p99Ms: percentile(counts, 0.99) / 1000,
      maxMs: percentile(counts, 1) / 1000,
      loadLoopDelayMs: Math.max(...reports.map(({ loopDelayMs }) => loopDelayMs)),
    };
  } finally {
    await Promise.all(loads.map((load) => load.end()));
    await Promise.all(servers.map((server) => server.end('SIGKILL')));
  }
}

/** One server and the sessions on it. */
class Side {
  readonly loads: readonly TaskProcess[];
  readonly #wire: Load['wire'];
  readonly #server: ServerProcess;
  readonly #count: number;
  readonly #settleMs: number;
  #baseRssBytes = 0;
  #baseHeapBytes = 0;
  #idleBytes = 0;
  #idleHeapBytes = 0;
  #watchingBytes = 0;
  #cpuMs = 0;
  #cpuSinceMs = 0;

  private constructor(
    wire: Load['wire'],
    server: ServerProcess,
    count: number,
    settleMs: number,
    loads: readonly TaskProcess[],
  ) {
    this.#settleMs = settleMs;
    this.#wire = wire;
    this.#server = server;
    this.#count = count;
    this.loads = loads;
  }

  static async start(
    wire: Load['wire'],
    server: ServerProcess,
    first: number,
    count: number,
    total: number,
    options: SteadyOptions,
  ): Promise<Side> {
    const processes = Math.max(1, options.loadProcesses / 2);
    const loads: TaskProcess[] = [];
    for (let index = 0; index < processes; index++) {
      const begin = Math.floor((index * count) / processes);
      const end = Math.floor(((index + 1) * count) / processes);
      const load: Load = {
        wire,
        port: wire === 'gRPC' ? server.grpcPort : server.httpPort,
        localAddress: `127.0.0.${(wire === 'gRPC' ? 100 : 10) + index}`,
        first: first + begin,
        count: end - begin,
        total,
        watched: options.watched,
        heartbeatMs: 15_000,
      };
      loads.push(await TaskProcess.start('load-process.ts', load));
    }
    return new Side(wire, server, count, options.settleMs, loads);
  }

  async open(): Promise<void> {
    const base = await this.#server.cost(true);
    this.#baseRssBytes = base.rssBytes;
    this.#baseHeapBytes = base.heapBytes;
    await Promise.all(this.loads.map((load) => load.run('open')));
    await sleep(this.#settleMs);
    const { rssBytes, heapBytes } = await this.#server.cost(true);
    this.#idleBytes = (rssBytes - this.#baseRssBytes) / this.#count;
    this.#idleHeapBytes = (heapBytes - this.#baseHeapBytes) / this.#count;
  }

  async watch(): Promise<void> {
    await Promise.all(this.loads.map((load) => load.run('watch')));
    await sleep(this.#settleMs);
    const { rssBytes } = await this.#server.cost(true);
    this.#watchingBytes = (rssBytes - this.#baseRssBytes) / this.#count;
  }

  async beginCpu(): Promise<void> {
    this.#cpuMs = (await this.#server.cost(false)).cpuMs;
    this.#cpuSinceMs = performance.now();
  }

  async figures(): Promise<SideFigures> {
    const { cpuMs, loopDelayMs } = await this.#server.cost(false);
    const seconds = (performance.now() - this.#cpuSinceMs) / 1000;
    return {
      wire: this.#wire,
      sessions: this.#count,
      idleBytes: this.#idleBytes,
      idleHeapBytes: this.#idleHeapBytes,
      watchingBytes: this.#watchingBytes,
      loopDelayMs,
      cpuUs: ((cpuMs - this.#cpuMs) * 1000) / seconds / this.#count,
    };
  }
}
