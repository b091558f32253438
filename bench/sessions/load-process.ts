/** Some of the sessions: opened, watching, heartbeating, changing. Told what to do by sessions.ts. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServerFrame } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { newHistogram, type SparseHistogram } from './histogram.ts';
import { type BenchWire, openGrpc, openWebSocket } from './wires.ts';

export interface Load {
  readonly wire: 'WebSocket' | 'gRPC';
  readonly port: number;
  readonly localAddress: string;
  /** Its users are `user FIRST` to `user FIRST + COUNT - 1`. */
  readonly first: number;
  readonly count: number;
  /** Users of all processes. */
  readonly total: number;
  readonly watched: number;
  readonly heartbeatMs: number;
}

interface Member {
  readonly userId: string;
  wire: BenchWire;
}

const load = JSON.parse(process.argv[2] as string) as Load;
const loopDelay = monitorEventLoopDelay({ resolution: 5 });
loopDelay.enable();
const members: Member[] = [];
const latencies: SparseHistogram = newHistogram();
let isMeasuring = false;
let welcomes = 0;
let acks = 0;
let events = 0;
let lost = 0;

/** Watch lists that are sent before the first of them is answered. */
const maxUnanswered = 50;

const nowMs = () => performance.timeOrigin + performance.now();

function onFrame({ frame }: ServerFrame): void {
  if (frame.case === 'welcome') welcomes++;
  else if (frame.case === 'ack') acks++;
  else if (frame.case === 'error') throw new Error(`${frame.value.code}: ${frame.value.message}`);
  if (frame.case !== 'events') return;
  for (const { snapshot, customStatus } of frame.value.events) {
    if (snapshot || !customStatus) continue;
    events++;
    // The change carries the time at which it was asked for.
    if (isMeasuring) latencies.record(Math.max(1, Math.round((nowMs() - Number(customStatus.text)) * 1000)));
  }
}

async function openOne(index: number): Promise<void> {
  const userId = `user ${load.first + index}`;
  const open = load.wire === 'gRPC' ? openGrpc : openWebSocket;
  const wire = await open({
    port: load.port,
    localAddress: load.localAddress,
    onFrame,
    onClose: () => {
      lost++;
    },
  });
  wire.send({ case: 'hello', value: { userId, device: 'bench' } });
  members.push({ userId, wire });
}

async function until(what: string, condition: () => boolean): Promise<void> {
  if (condition()) return;
  const endMs = performance.now() + 120_000;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`waited in vain for ${what}`);
    await sleep(2);
  }
}

const tasks = {
  async open(): Promise<void> {
    for (let start = 0; start < load.count; start += 50) {
      const size = Math.min(50, load.count - start);
      await Promise.all(Array.from({ length: size }, (_, index) => openOne(start + index)));
    }
    await until('all welcomes', () => welcomes === load.count);
  },
  async watch(): Promise<void> {
    acks = 0;
    for (const [index, { wire }] of members.entries()) {
      const userIds = Array.from(
        { length: load.watched },
        (_, step) => `user ${(load.first + index + 1 + step * 7919) % load.total}`,
      );
      wire.send({ case: 'watch', value: { userIds } });
      await until('acknowledgements', () => acks > index - maxUnanswered);
    }
    await until('all acknowledgements', () => acks >= load.count);
  },
  async heartbeat(): Promise<void> {
    const stepMs = load.heartbeatMs / Math.max(1, members.length);
    let next = 0;
    let dueMs = performance.now();
    setInterval(() => {
      while (dueMs <= performance.now() && members.length > 0) {
        members[next++ % members.length]?.wire.send({ case: 'heartbeat', value: {} });
        dueMs += stepMs;
      }
    }, 10);
  },
  async change(changesPerSecond: number, durationMs: number): Promise<void> {
    isMeasuring = true;
    loopDelay.reset();
    const endMs = performance.now() + durationMs;
    for (let dueMs = performance.now(); dueMs < endMs; dueMs += 1000 / changesPerSecond) {
      await sleep(Math.max(0, dueMs - performance.now()));
      const member = members[Math.floor(Math.random() * members.length)] as Member;
      const value = { text: nowMs().toFixed(3), emoji: '', expiresInMs: 0n };
      member.wire.send({ case: 'setCustomStatus', value });
    }
    await sleep(500);
    isMeasuring = false;
  },
  async report() {
    return { events, lost, counts: latencies.values(), loopDelayMs: loopDelay.max / 1e6 };
  },
  async close(): Promise<void> {
    for (const { wire } of members) wire.close();
  },
};

process.on('message', ([task, ...parameters]: [keyof typeof tasks, ...number[]]) => {
  (tasks[task] as (...parameters: number[]) => Promise<unknown>)(...parameters).then(
    (result) => process.send?.({ result: result ?? null }),
    (error: Error) => process.send?.({ error: error.message }),
  );
});
process.send?.('ready');
