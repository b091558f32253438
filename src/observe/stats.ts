/**
 * What the dashboard and `pilotlight top` are told, once a second. JSON; times are Unix ms, durations ms. Types only, so
 * that the browser can share them.
 */
import type { Cause } from '../core/presence.ts';

/** Two quantiles of what happened since the last sample; null: nothing happened. */
export type Quantiles = { readonly p50: number; readonly p99: number } | null;

/** One node, as it reports itself to the others. */
export interface NodeReport {
  readonly id: string;
  readonly version: string;
  readonly startedAtMs: number;
  /** Open streams and sessions by transport. */
  readonly connections: { readonly grpc: number; readonly websocket: number; readonly events: number };
  /** Open subscriptions, and pairs of a subscription and a user that it watches. */
  readonly watchers: number;
  readonly watchEdges: number;
  readonly heartbeatsPerSecond: number;
  readonly callsPerSecond: number;
  /** From a heartbeat's arrival to its answer. */
  readonly heartbeatMs: Quantiles;
  /** From a transition's arrival to the last watcher's socket. */
  readonly fanOutMs: Quantiles;
  /** From a transition, by the engine's clock, to its arrival here. */
  readonly feedLagMs: Quantiles;
  /** Worst delay of the event loop in the last second. */
  readonly eventLoopLagMs: number;
  /** Partitions whose leases this node judges. */
  readonly sweptPartitions: number;
  readonly memoryBytes: number;
  /** Why it does not serve; empty: it serves. */
  readonly notReady: readonly string[];
}

export interface EngineReport {
  readonly kind: 'memory' | 'redis';
  readonly available: boolean;
  readonly partitions: number;
  readonly usedBytes: number | null;
  /** null: no bound, or not known. */
  readonly maxBytes: number | null;
  /** From sending a command to its reply, on this node; null: none was sent, or there is nothing to send to. */
  readonly commandMs: Quantiles;
  readonly commandsPerSecond: number;
  /** Commands that failed since this node started. */
  readonly errors: number;
}

/** The whole system in one second. */
export interface Sample {
  readonly atMs: number;
  /** Users ONLINE; null: the engine did not say. */
  readonly online: number | null;
  readonly transitions: Readonly<Record<Cause, number>>;
  /** Of all nodes. */
  readonly heartbeats: number;
  /** Of the slowest node. */
  readonly heartbeatMs: Quantiles;
  /** Of the slowest node. */
  readonly fanOutMs: Quantiles;
}

/** What changes each second. */
export interface Tick {
  readonly sample: Sample;
  readonly nodes: readonly NodeReport[];
  readonly engine: EngineReport;
}

export interface Stats extends Tick {
  /** The node that answered. */
  readonly nodeId: string;
  readonly version: string;
  readonly ttlMs: number;
  readonly heartbeatIntervalMs: number;
  /** The last ten minutes, oldest first. */
  readonly history: readonly Sample[];
}
