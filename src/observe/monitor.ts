import type { Overview } from '../core/overview.ts';
import type { Cause } from '../core/presence.ts';
import type { Log } from './log.ts';
import type { LookupStats } from './lookup-stats.ts';
import { type CallMeter, Histogram, HistogramWindow, latencyBoundsSeconds, quantile } from './measure.ts';
import type { RedisStats } from './redis-stats.ts';
import type { EngineReport, NodeReport, Quantiles, Sample, Stats, Tick } from './stats.ts';

/** Where the monitor and the metrics look. All of it is cheap to read. */
export interface Sources {
  readonly nodeId: string;
  readonly version: string;
  readonly engine: 'memory' | 'redis';
  readonly partitions: number;
  readonly ttlMs: number;
  readonly heartbeatIntervalMs: number;
  readonly overview: Overview;
  /** Unix ms. */
  readonly nowMs: () => number;
  readonly isEngineAvailable: () => boolean;
  readonly notReadyReasons: () => readonly string[];
  /** null: the engine is not Redis. */
  readonly redis: () => RedisStats | null;
  readonly hub: () => {
    readonly users: number;
    readonly subscriptions: number;
    readonly watches: number;
    readonly conflated: number;
    readonly losses: number;
    readonly fanOut: Histogram;
  };
  readonly transitions: () => {
    readonly counts: Readonly<Record<Cause, number>>;
    readonly feedLag: Histogram;
    readonly expiryLateness: Histogram;
  };
  /** How often somebody was refused, by what for. */
  readonly refused: () => Readonly<Record<string, number>>;
  /** By who is asked; undefined: nobody is. */
  readonly lookups: () => Readonly<Record<'directory' | 'policy', LookupStats | undefined>>;
  readonly heartbeats: () => { readonly renewedHeartbeats: number; readonly refusedHeartbeats: number };
  /** By transport. */
  readonly connections: () => { readonly grpc: number; readonly websocket: number; readonly events: number };
  readonly queuedBytes: () => { readonly grpc: number; readonly websocket: number; readonly events: number };
  /** By transport. */
  readonly calls: () => Readonly<Record<string, CallMeter>>;
}

const sampleIntervalMs = 1000;
/** Ten minutes. */
const keptSamples = 600;
const memoryIntervalSamples = 5;
const loopIntervalMs = 20;

/** Looks at everything once a second, tells the other nodes, and keeps ten minutes for who comes to look. */
export class Monitor {
  readonly #sources: Sources;
  readonly #log: Log;
  readonly #startedAtMs: number;
  readonly #history: Sample[] = [];
  readonly #listeners = new Set<(tick: Tick) => void>();
  readonly #eventLoopLag = new Histogram();
  readonly #fanOut: HistogramWindow;
  readonly #feedLag: HistogramWindow;
  readonly #commands: HistogramWindow | null;
  #heartbeatCounts: number[] = [];
  #before = { calls: 0, heartbeats: 0, commands: 0 };
  #transitionsBefore: Readonly<Record<Cause, number>>;
  #worstLagMs = 0;
  #samples = 0;
  #online: number | null = null;
  #memory: { usedBytes: number; maxBytes: number | null } | null = null;
  #tick: Tick | undefined;
  #sampling: Promise<void> | undefined;
  #sampleTimer: NodeJS.Timeout | undefined;
  #loopTimer: NodeJS.Timeout | undefined;

  constructor(sources: Sources, log: Log) {
    this.#sources = sources;
    this.#log = log;
    this.#startedAtMs = sources.nowMs();
    this.#fanOut = new HistogramWindow(sources.hub().fanOut);
    this.#feedLag = new HistogramWindow(sources.transitions().feedLag);
    const redis = sources.redis();
    this.#commands = redis ? new HistogramWindow(redis.commandSeconds) : null;
    this.#transitionsBefore = { ...sources.transitions().counts };
  }

  start(): void {
    let expectedMs = performance.now() + loopIntervalMs;
    this.#loopTimer = setInterval(() => {
      const nowMs = performance.now();
      const lagMs = Math.max(0, nowMs - expectedMs);
      expectedMs = nowMs + loopIntervalMs;
      this.#eventLoopLag.observe(lagMs / 1000);
      this.#worstLagMs = Math.max(this.#worstLagMs, lagMs);
    }, loopIntervalMs);
    this.#sampleTimer = setInterval(() => this.#sampleNow(), sampleIntervalMs);
    this.#sampleNow();
  }

  async stop(): Promise<void> {
    clearInterval(this.#loopTimer);
    clearInterval(this.#sampleTimer);
    await this.#sampling;
  }

  /** The last sample and what came before it; undefined: none was taken yet. */
  stats(): Stats | undefined {
    if (!this.#tick) return undefined;
    const { nodeId, version, ttlMs, heartbeatIntervalMs } = this.#sources;
    return { ...this.#tick, nodeId, version, ttlMs, heartbeatIntervalMs, history: this.#history };
  }

  /** Shows every tick. Must not throw. @returns ends it */
  listen(listener: (tick: Tick) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What only the monitor knows, for the metrics. */
  get gauges() {
    return {
      startedAtMs: this.#startedAtMs,
      online: this.#online,
      memory: this.#memory,
      eventLoopLag: this.#eventLoopLag,
    };
  }

  #sampleNow(): void {
    // An engine that is slow to answer delays the next sample, and piles up nothing.
    if (this.#sampling) return;
    this.#sampling = this.#sample()
      .catch((error: unknown) => this.#log.error({ err: error }, 'sample failed'))
      .finally(() => {
        this.#sampling = undefined;
      });
  }

  async #sample(): Promise<void> {
    const { overview, isEngineAvailable } = this.#sources;
    const own = this.#report();
    const isMemoryDue = this.#samples++ % memoryIntervalSamples === 0;
    const available = isEngineAvailable();
    const [online, reports, memory] = available
      ? await Promise.all([
          overview.countOnline().catch(nothing),
          overview.exchangeReports(JSON.stringify(own)).catch(nothing),
          isMemoryDue ? overview.memory().catch(nothing) : this.#memory,
        ])
      : [null, null, this.#memory];
    this.#online = online;
    this.#memory = memory;
    const others = (reports ?? [])
      .map(parseReport)
      .filter((report) => report !== undefined)
      .filter(({ id }) => id !== own.id);
    const nodes = [own, ...others].sort((a, b) => (a.id < b.id ? -1 : 1));
    const sample: Sample = {
      atMs: this.#sources.nowMs(),
      online,
      transitions: this.#takeTransitions(),
      heartbeats: nodes.reduce((sum, node) => sum + node.heartbeatsPerSecond, 0),
      heartbeatMs: slowest(nodes.map((node) => node.heartbeatMs)),
      fanOutMs: slowest(nodes.map((node) => node.fanOutMs)),
    };
    this.#history.push(sample);
    if (this.#history.length > keptSamples) this.#history.shift();
    this.#tick = { sample, nodes, engine: this.#engineReport(available) };
    for (const listener of this.#listeners) listener(this.#tick);
  }

  #report(): NodeReport {
    const { nodeId, version, hub, connections, heartbeats, redis, partitions, notReadyReasons } =
      this.#sources;
    const { subscriptions, watches } = hub();
    const { renewedHeartbeats, refusedHeartbeats } = heartbeats();
    const heartbeatTotal = renewedHeartbeats + refusedHeartbeats;
    const calls = this.#callCounts();
    const report: NodeReport = {
      id: nodeId,
      version,
      startedAtMs: this.#startedAtMs,
      connections: connections(),
      watchers: subscriptions,
      watchEdges: watches,
      heartbeatsPerSecond: heartbeatTotal - this.#before.heartbeats,
      callsPerSecond: calls.total - this.#before.calls,
      heartbeatMs: this.#takeHeartbeats(calls.heartbeatCounts),
      fanOutMs: quantiles(this.#fanOut.take()),
      feedLagMs: quantiles(this.#feedLag.take()),
      eventLoopLagMs: this.#worstLagMs,
      sweptPartitions: redis()?.ownedPartitions ?? partitions,
      memoryBytes: process.memoryUsage.rss(),
      notReady: notReadyReasons(),
    };
    this.#worstLagMs = 0;
    this.#before = { ...this.#before, heartbeats: heartbeatTotal, calls: calls.total };
    return report;
  }

  /** All calls, and the heartbeats among them by duration, of every transport. */
  #callCounts(): { total: number; heartbeatCounts: number[] } {
    let total = 0;
    const heartbeatCounts = new Array<number>(latencyBoundsSeconds.length + 1).fill(0);
    for (const meter of Object.values(this.#sources.calls())) {
      for (const { method, histogram } of meter.entries()) {
        total += histogram.count;
        if (method !== 'SendHeartbeat') continue;
        for (const [bucket, count] of histogram.counts.entries())
          (heartbeatCounts[bucket] as number) += count;
      }
    }
    return { total, heartbeatCounts };
  }

  #takeHeartbeats(counts: number[]): Quantiles {
    const taken = counts.map((count, bucket) => count - (this.#heartbeatCounts[bucket] ?? 0));
    this.#heartbeatCounts = counts;
    return quantiles(taken);
  }

  #takeTransitions(): Readonly<Record<Cause, number>> {
    const now = { ...this.#sources.transitions().counts };
    const before = this.#transitionsBefore;
    this.#transitionsBefore = now;
    return Object.fromEntries(
      Object.entries(now).map(([cause, count]) => [cause, count - before[cause as Cause]]),
    ) as Record<Cause, number>;
  }

  #engineReport(available: boolean): EngineReport {
    const { engine, partitions, redis } = this.#sources;
    const stats = redis();
    const commands = stats?.commandSeconds.count ?? 0;
    const report: EngineReport = {
      kind: engine,
      available,
      partitions,
      usedBytes: this.#memory?.usedBytes ?? null,
      maxBytes: this.#memory?.maxBytes ?? null,
      commandMs: this.#commands ? quantiles(this.#commands.take()) : null,
      commandsPerSecond: commands - this.#before.commands,
      errors: stats?.errors ?? 0,
    };
    this.#before = { ...this.#before, commands };
    return report;
  }
}

/** What the engine could not tell this time is left out; its failures are counted where they happen. */
function nothing(): null {
  return null;
}

/** What no node exceeds: an average would hide the one that is sick. */
function slowest(nodes: readonly Quantiles[]): Quantiles {
  const known = nodes.filter((it) => it !== null);
  if (known.length === 0) return null;
  return { p50: Math.max(...known.map(({ p50 }) => p50)), p99: Math.max(...known.map(({ p99 }) => p99)) };
}

function quantiles(counts: ArrayLike<number>): Quantiles {
  const p50 = quantile(latencyBoundsSeconds, counts, 0.5);
  const p99 = quantile(latencyBoundsSeconds, counts, 0.99);
  return p50 === null || p99 === null ? null : { p50: p50 * 1000, p99: p99 * 1000 };
}

/** undefined: a report of a version that says it in another way. */
function parseReport(text: string): NodeReport | undefined {
  try {
    const report = JSON.parse(text) as NodeReport;
    const numbers = [report.heartbeatsPerSecond, report.callsPerSecond, report.watchers, report.memoryBytes];
    const quantiles = [report.heartbeatMs, report.fanOutMs, report.feedLagMs];
    const isKnown =
      typeof report.id === 'string' &&
      numbers.every(Number.isFinite) &&
      [report.connections, ...quantiles].every((it) => typeof it === 'object');
    return isKnown ? report : undefined;
  } catch {
    return undefined;
  }
}
