import type { Fact, SeriesReport } from './recorder.ts';

export const scenarioNames = [
  'heartbeat',
  'update',
  'query',
  'bulk',
  'fanout',
  'expiry',
  'sessions',
  'churn',
  'storm',
  'mixed',
] as const;
export type ScenarioName = (typeof scenarioNames)[number];

export const sessionKinds = ['stream', 'grpc', 'websocket'] as const;
/** A SubscribeStatusUpdates stream, a Connect stream, a WebSocket. */
export type SessionKind = (typeof sessionKinds)[number];

/** What to do to whom. All processes of a run get the same, and take their share of users, connections and rate. */
export interface LoadOptions {
  readonly host: string;
  readonly port: number;
  readonly httpPort: number;
  /** Metadata of every call. */
  readonly metadata: readonly (readonly [string, string])[];
  /** Goes before the number in every user id. */
  readonly prefix: string;
  readonly users: number;
  readonly connections: number;
  /** Calls, flips or sessions begun per second, of all processes; 0: as many as `concurrency` allows. */
  readonly rate: number;
  /** Calls in flight where the rate is 0. */
  readonly concurrency: number;
  readonly warmupMs: number;
  readonly durationMs: number;
  readonly bulkSize: number;
  readonly kind: SessionKind;
  /** USER_STATUS_TTL of the server. */
  readonly ttlMs: number;
  /** HEARTBEAT_INTERVAL that the load keeps to. */
  readonly heartbeatMs: number;
  /** How long a session lives that comes and goes. */
  readonly lifeMs: number;
  /** Users that each watcher of `fanout` watches. */
  readonly watched: number;
}

export interface Job {
  readonly scenario: ScenarioName;
  readonly options: LoadOptions;
  /** Number of this process, 0 to `processes` - 1. */
  readonly process: number;
  readonly processes: number;
}

/** How the load process itself did: whether it was the limit. */
export interface ProcessHealth {
  /** Share of one core that it used while it measured, 0 to 1 and more. */
  readonly cpu: number;
  /** 99th percentile of how late its event loop ran, ms. */
  readonly loopDelayP99Ms: number;
  /** 99th percentile of how late calls were begun, ms; 0: nothing was to begin at a time. */
  readonly latenessP99Ms: number;
}

export interface JobResult {
  readonly series: readonly SeriesReport[];
  readonly facts: Readonly<Record<string, Fact>>;
  readonly health: ProcessHealth;
}

export type ToLoadProcess =
  | { readonly type: 'job'; readonly job: Job }
  /** Begin at this reading of the monotonic clock. */
  | { readonly type: 'start'; readonly startMs: number }
  /** The result is in; close what is open. */
  | { readonly type: 'close' };

export type FromLoadProcess =
  | { readonly type: 'ready' }
  | { readonly type: 'progress'; readonly done: number; readonly errors: number; readonly note: string }
  | { readonly type: 'result'; readonly result: JobResult }
  | { readonly type: 'failed'; readonly message: string };

/** The share of `total` that process `job.process` has: from, to. */
export function shareOf(
  total: number,
  { process, processes }: Pick<Job, 'process' | 'processes'>,
): [number, number] {
  return [Math.floor((total * process) / processes), Math.floor((total * (process + 1)) / processes)];
}
