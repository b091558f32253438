import { type Metric, Registry } from 'prom-client';
import type { Histogram } from './measure.ts';
import type { Monitor, Sources } from './monitor.ts';

interface MetricRow {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  /** Never a user id, nor anything else that callers make up. */
  readonly labels: readonly string[];
}

/** Every metric. docs/metrics.md is checked against this table, and the table against what is served. */
export const metricTable = {
  pilotlight_info: {
    type: 'gauge',
    help: 'Always 1; says what runs.',
    labels: ['version', 'engine', 'node'],
  },
  pilotlight_ready: { type: 'gauge', help: '1 while /readyz says ready, else 0.', labels: [] },
  pilotlight_online_users: {
    type: 'gauge',
    help: 'Users ONLINE in the whole system: the same on every node, so take max(), not sum().',
    labels: [],
  },
  pilotlight_connections: { type: 'gauge', help: 'Open streams and sessions.', labels: ['transport'] },
  pilotlight_watchers: { type: 'gauge', help: 'Open subscriptions.', labels: [] },
  pilotlight_watched_users: { type: 'gauge', help: 'Users that somebody watches on this node.', labels: [] },
  pilotlight_watch_edges: {
    type: 'gauge',
    help: 'Pairs of a subscription and a user that it watches.',
    labels: [],
  },
  pilotlight_heartbeats_total: {
    type: 'counter',
    help: 'Heartbeats answered: renewed, or refused after a sign-out.',
    labels: ['outcome'],
  },
  pilotlight_refusals_total: {
    type: 'counter',
    help: 'Calls, connections and newcomers refused by a limit.',
    labels: ['limit'],
  },
  pilotlight_lookup_answers_total: {
    type: 'counter',
    help: 'Users looked up in the user directory or the watch policy, by where the answer came from.',
    labels: ['service', 'source'],
  },
  pilotlight_lookup_asks_total: {
    type: 'counter',
    help: 'Questions put to the user directory or the watch policy.',
    labels: ['service', 'outcome'],
  },
  pilotlight_lookup_remembered: {
    type: 'gauge',
    help: 'Answers of the user directory or the watch policy that are remembered.',
    labels: ['service'],
  },
  pilotlight_transitions_total: {
    type: 'counter',
    help: 'Transitions of the whole system as they arrived here: take max() over nodes, not sum().',
    labels: ['cause'],
  },
  pilotlight_rpc_duration_seconds: {
    type: 'histogram',
    help: 'Calls by method and code; of a subscription, the time until its snapshot was handed over.',
    labels: ['transport', 'method', 'code'],
  },
  pilotlight_fanout_duration_seconds: {
    type: 'histogram',
    help: 'From the arrival of transitions to the last watcher written to.',
    labels: [],
  },
  pilotlight_feed_lag_seconds: {
    type: 'histogram',
    help: "From a transition (the engine's clock) to its arrival (this machine's clock).",
    labels: [],
  },
  pilotlight_feed_gaps_closed_total: {
    type: 'counter',
    help: 'Gaps in the feed that were closed from the log.',
    labels: [],
  },
  pilotlight_feed_losses_total: {
    type: 'counter',
    help: 'Gaps that the log no longer had, so that watched users were read afresh.',
    labels: [],
  },
  pilotlight_feed_unknown_entries_total: {
    type: 'counter',
    help: 'Log entries of a type or version that this server does not know: skipped.',
    labels: [],
  },
  pilotlight_feed_lagging_partitions: {
    type: 'gauge',
    help: 'Followed partitions whose feed is not caught up.',
    labels: [],
  },
  pilotlight_mixed_ttls: {
    type: 'gauge',
    help: '1 while live servers have different USER_STATUS_TTL, so that last seen may be wrong by the difference, else 0.',
    labels: [],
  },
  pilotlight_expiry_lateness_seconds: {
    type: 'histogram',
    help: "From a lease's deadline to the user being judged OFFLINE.",
    labels: [],
  },
  pilotlight_sweep_duration_seconds: {
    type: 'histogram',
    help: 'One round of judging what is due.',
    labels: [],
  },
  pilotlight_sweeper_partitions: { type: 'gauge', help: 'Partitions that this node sweeps.', labels: [] },
  pilotlight_partitions: {
    type: 'gauge',
    help: 'PARTITIONS, the same on every node: so many must be swept by all nodes together.',
    labels: [],
  },
  pilotlight_conflated_events_total: {
    type: 'counter',
    help: 'Steps left out for watchers that were too slow for every one.',
    labels: [],
  },
  pilotlight_queued_bytes: {
    type: 'gauge',
    help: 'Bytes that wait for slow clients.',
    labels: ['transport'],
  },
  pilotlight_redis_up: { type: 'gauge', help: '1 while Redis answers, else 0.', labels: [] },
  pilotlight_redis_command_duration_seconds: {
    type: 'histogram',
    help: 'From sending a command to its reply.',
    labels: [],
  },
  pilotlight_redis_errors_total: {
    type: 'counter',
    help: 'Commands that failed or got no reply in time.',
    labels: [],
  },
  pilotlight_redis_refusals_total: {
    type: 'counter',
    help: 'Answers of Redis that refuse, and connections that fail, by code.',
    labels: ['code'],
  },
  pilotlight_redis_commands_in_flight: {
    type: 'gauge',
    help: 'Commands that await their reply.',
    labels: [],
  },
  pilotlight_engine_memory_bytes: { type: 'gauge', help: 'Memory that the engine uses.', labels: [] },
  pilotlight_engine_memory_limit_bytes: {
    type: 'gauge',
    help: 'Bound of that memory; absent: none.',
    labels: [],
  },
  pilotlight_event_loop_lag_seconds: {
    type: 'histogram',
    help: 'How late a timer of 20 ms fires.',
    labels: [],
  },
  process_cpu_seconds_total: { type: 'counter', help: 'User and system CPU time.', labels: [] },
  process_resident_memory_bytes: { type: 'gauge', help: 'Resident memory.', labels: [] },
  process_start_time_seconds: {
    type: 'gauge',
    help: 'When the server was created, Unix seconds.',
    labels: [],
  },
  nodejs_heap_used_bytes: { type: 'gauge', help: 'JavaScript heap in use.', labels: [] },
} as const satisfies Record<string, MetricRow>;

export type MetricName = keyof typeof metricTable;

interface Value {
  readonly value: number;
  readonly labels?: Readonly<Record<string, string | number>>;
  readonly metricName?: string;
}

/** The metrics of a server, read from its parts when Prometheus asks. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #sources: Sources;
  readonly #monitor: Monitor;
  #values: Readonly<Record<MetricName, Value[]>> | undefined;

  constructor(sources: Sources, monitor: Monitor) {
    this.#sources = sources;
    this.#monitor = monitor;
    for (const [name, { type, help, labels }] of Object.entries(metricTable)) {
      const get = async () => ({ name, help, type, values: this.#values?.[name as MetricName] ?? [] });
      // prom-client asks of a metric no more than `name` and `get`; its own classes would have the hot paths pay for labels.
      this.#registry.registerMetric({ name, help, type, labelNames: labels, get } as unknown as Metric);
    }
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    this.#values = readAll(this.#sources, this.#monitor);
    return this.#registry.metrics();
  }
}

/** Every value now. Each part is looked at once, and nothing waits. */
function readAll(sources: Sources, monitor: Monitor): Record<MetricName, Value[]> {
  const hub = sources.hub();
  const transitions = sources.transitions();
  const redis = sources.redis();
  const { renewedHeartbeats, refusedHeartbeats } = sources.heartbeats();
  const { online, memory, eventLoopLag, startedAtMs } = monitor.gauges;
  const { user, system } = process.cpuUsage();
  const { rss, heapUsed } = process.memoryUsage();
  return {
    pilotlight_info: [
      { value: 1, labels: { version: sources.version, engine: sources.engine, node: sources.nodeId } },
    ],
    pilotlight_ready: one(sources.notReadyReasons().length === 0 ? 1 : 0),
    pilotlight_online_users: known(online),
    pilotlight_connections: each('transport', sources.connections()),
    pilotlight_watchers: one(hub.subscriptions),
    pilotlight_watched_users: one(hub.users),
    pilotlight_watch_edges: one(hub.watches),
    pilotlight_heartbeats_total: each('outcome', { renewed: renewedHeartbeats, refused: refusedHeartbeats }),
    pilotlight_refusals_total: each('limit', sources.refused()),
    ...lookups(sources.lookups()),
    pilotlight_transitions_total: each('cause', transitions.counts),
    pilotlight_rpc_duration_seconds: rpcs(sources.calls()),
    pilotlight_fanout_duration_seconds: buckets('pilotlight_fanout_duration_seconds', hub.fanOut),
    pilotlight_feed_lag_seconds: buckets('pilotlight_feed_lag_seconds', transitions.feedLag),
    pilotlight_feed_gaps_closed_total: known(redis?.gapsClosed),
    pilotlight_feed_losses_total: one(hub.losses),
    pilotlight_feed_unknown_entries_total: known(redis?.unknownEntries),
    pilotlight_feed_lagging_partitions: known(redis?.silentPartitions),
    pilotlight_mixed_ttls: known(redis && Number(redis.hasMixedTtls)),
    pilotlight_expiry_lateness_seconds: buckets(
      'pilotlight_expiry_lateness_seconds',
      transitions.expiryLateness,
    ),
    pilotlight_sweep_duration_seconds: buckets('pilotlight_sweep_duration_seconds', redis?.sweepSeconds),
    pilotlight_sweeper_partitions: one(redis?.ownedPartitions ?? sources.partitions),
    pilotlight_partitions: one(sources.partitions),
    pilotlight_conflated_events_total: one(hub.conflated),
    pilotlight_queued_bytes: each('transport', sources.queuedBytes()),
    pilotlight_redis_up: redis ? one(sources.isEngineAvailable() ? 1 : 0) : [],
    pilotlight_redis_command_duration_seconds: buckets(
      'pilotlight_redis_command_duration_seconds',
      redis?.commandSeconds,
    ),
    pilotlight_redis_errors_total: known(redis?.errors),
    pilotlight_redis_refusals_total: each('code', redis?.refusals ?? {}),
    pilotlight_redis_commands_in_flight: known(redis?.inFlight),
    pilotlight_engine_memory_bytes: known(memory?.usedBytes),
    pilotlight_engine_memory_limit_bytes: known(memory?.maxBytes),
    pilotlight_event_loop_lag_seconds: buckets('pilotlight_event_loop_lag_seconds', eventLoopLag),
    process_cpu_seconds_total: one((user + system) / 1e6),
    process_resident_memory_bytes: one(rss),
    process_start_time_seconds: one(startedAtMs / 1000),
    nodejs_heap_used_bytes: one(heapUsed),
  };
}

function one(value: number): Value[] {
  return [{ value }];
}

function known(value: number | null | undefined): Value[] {
  return value === null || value === undefined ? [] : [{ value }];
}

function each(label: string, values: Readonly<Record<string, number>>): Value[] {
  return Object.entries(values).map(([name, value]) => ({ value, labels: { [label]: name } }));
}

function lookups(
  services: ReturnType<Sources['lookups']>,
): Pick<
  Record<MetricName, Value[]>,
  'pilotlight_lookup_answers_total' | 'pilotlight_lookup_asks_total' | 'pilotlight_lookup_remembered'
> {
  const asked = Object.entries(services).flatMap(([service, stats]) =>
    stats ? [{ service, ...stats }] : [],
  );
  const split = (label: string, service: string, counts: Readonly<Record<string, number>>): Value[] =>
    Object.entries(counts).map(([name, value]) => ({ value, labels: { service, [label]: name } }));
  return {
    pilotlight_lookup_answers_total: asked.flatMap(({ service, answers }) =>
      split('source', service, answers),
    ),
    pilotlight_lookup_asks_total: asked.flatMap(({ service, asks }) => split('outcome', service, asks)),
    pilotlight_lookup_remembered: asked.map(({ service, remembered }) => ({
      value: remembered,
      labels: { service },
    })),
  };
}

function rpcs(calls: ReturnType<Sources['calls']>): Value[] {
  return Object.entries(calls).flatMap(([transport, meter]) =>
    [...meter.entries()].flatMap(({ method, code, histogram }) =>
      buckets('pilotlight_rpc_duration_seconds', histogram, { transport, method, code }),
    ),
  );
}

function buckets(
  name: MetricName,
  histogram: Histogram | undefined,
  labels: Record<string, string> = {},
): Value[] {
  if (!histogram) return [];
  let total = 0;
  const values: Value[] = [...histogram.counts].map((count, bucket) => {
    total += count;
    return {
      metricName: `${name}_bucket`,
      value: total,
      labels: { ...labels, le: histogram.bounds[bucket] ?? '+Inf' },
    };
  });
  values.push({ metricName: `${name}_sum`, value: histogram.sum, labels });
  values.push({ metricName: `${name}_count`, value: histogram.count, labels });
  return values;
}
