/** What inputs without a token cost a real server, in CPU and memory, and what a well-behaved user beside them notices. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { PresenceService } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { ServerProcess } from '../../faults/server-process.ts';
import { RedisServer } from '../../support/redis-server.ts';
import { type CostInput, costInputs } from './cost-inputs.ts';
import { apiKeysFile, secureEnvironment, token } from './credentials.ts';

export interface Cost {
  readonly name: string;
  readonly sentKb: number;
  readonly cpuMsPerKb: number;
  readonly heldKbPerKb: number;
  /** The same after REQUEST_TIMEOUT, with every connection still open on the client's side. */
  readonly keptKbPerKb: number;
  readonly failures: number;
  readonly p99Ms: number;
}

export interface Costs {
  readonly calmP99Ms: number;
  readonly rows: readonly Cost[];
}

/** Linux counts CPU in ticks of 10 ms. */
const tickMs = 10;
const requestTimeoutMs = 1_000;
/** REQUEST_TIMEOUT is looked at four times in it; a closing handshake takes two seconds more. */
const releaseMs = requestTimeoutMs + 2_500;

export interface CostOptions {
  /** How many of each input's connections: 1 all of them, 0.1 a tenth. */
  readonly share: number;
  /** Whether to wait until what the time-out ends is over. */
  readonly waitsForRelease: boolean;
  readonly onRow?: (row: Cost) => void;
}

export async function measureCosts({ share, waitsForRelease, onRow }: CostOptions): Promise<Costs> {
  const keys = apiKeysFile();
  const redis = await RedisServer.start();
  const server = await ServerProcess.start('costs', {
    ...secureEnvironment(keys.file),
    REDIS_URL: redis.url,
    // Where a busy machine may stop the server for a while, neither late messages nor long turns are its fault.
    ...(waitsForRelease ? { REQUEST_TIMEOUT: `${requestTimeoutMs}ms` } : { MAX_TURN: '2s' }),
    DRAIN_TIMEOUT: '0s',
    // Of the well-behaved user, who sends more than a user does.
    RATE_LIMIT_CALLS: '0',
    RATE_LIMIT_UPDATES: '0',
  });
  const user = new WellBehavedUser(server.grpcUrl, await token('ada'));
  try {
    const inputs = await costInputs();
    // What is compiled and allocated by the first of each kind is no cost of the next.
    for (const input of inputs) {
      const { sockets } = await send(server, { ...input, connections: Math.min(10, input.connections) });
      for (const socket of sockets) socket.destroy();
    }
    await sleep(500);
    user.take();
    await sleep(1_500);
    const calm = user.take();
    const rows: Cost[] = [];
    for (const input of inputs) {
      const connections = Math.ceil(input.connections * share);
      const waitMs = waitsForRelease ? releaseMs : 0;
      const row = await measure(server, { ...input, connections }, waitMs, user);
      onRow?.(row);
      rows.push(row);
    }
    return { calmP99Ms: calm.p99Ms, rows };
  } finally {
    await user.stop();
    await server.kill();
    await redis.stop();
    keys.remove();
  }
}

async function measure(
  server: ServerProcess,
  input: CostInput,
  waitMs: number,
  user: WellBehavedUser,
): Promise<Cost> {
  const before = usage(server);
  const { sockets, sentBytes } = await send(server, input);
  await sleep(300);
  const after = usage(server);
  // That of the user beside it is in it.
  const cpuMs = after.cpuMs - before.cpuMs;
  if (waitMs > 0) await sleep(waitMs);
  const kept = usage(server);
  for (const socket of sockets) socket.destroy();
  const { failures, p99Ms } = user.take();
  // A request costs its head, its parsing and its answer, however short it is.
  const sentKb = Math.max(sentBytes, 1000 * input.requests * sockets.length) / 1000;
  return {
    name: input.name,
    sentKb,
    cpuMsPerKb: cpuMs / sentKb,
    heldKbPerKb: Math.max(0, after.rssKb - before.rssKb) / sentKb,
    keptKbPerKb: Math.max(0, kept.rssKb - before.rssKb) / sentKb,
    failures,
    p99Ms,
  };
}

async function send(server: ServerProcess, input: CostInput) {
  const port = input.port === 'http' ? server.httpPort : server.grpcPort;
  const sockets: Socket[] = [];
  for (let opened = 0; opened < input.connections; opened++) {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    sockets.push(socket);
    if (input.isDeaf) socket.pause();
    else socket.resume();
    socket.write(input.bytes);
  }
  await Promise.all(sockets.map((socket) => written(socket)));
  const sentBytes = sockets.reduce((sum, socket) => sum + socket.bytesWritten - socket.writableLength, 0);
  return { sockets, sentBytes };
}

/** Everything has left, or the server has had enough. */
async function written(socket: Socket): Promise<void> {
  if (socket.destroyed || (socket.writableLength === 0 && !socket.connecting)) return;
  await Promise.race([
    once(socket, 'drain'),
    once(socket, 'connect'),
    once(socket, 'close'),
    sleep(3_000),
  ]).catch(() => {});
}

export function usage({ pid }: { readonly pid?: number | undefined }): { cpuMs: number; rssKb: number } {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  const rssKb = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  return { cpuMs: (Number(fields[11]) + Number(fields[12])) * tickMs, rssKb };
}

/** Heartbeats over a connection of its own, fifty a second. */
class WellBehavedUser {
  #failures = 0;
  #latencies: number[] = [];
  #isStopped = false;
  readonly #running: Promise<void>;

  constructor(baseUrl: string, bearer: string) {
    const client = createClient(PresenceService, createGrpcTransport({ baseUrl }));
    const headers = { authorization: `Bearer ${bearer}` };
    this.#running = (async () => {
      while (!this.#isStopped) {
        const beganMs = performance.now();
        try {
          await client.sendHeartbeat({ userId: 'ada' }, { headers });
        } catch {
          this.#failures++;
        }
        this.#latencies.push(performance.now() - beganMs);
        await sleep(20);
      }
    })();
  }

  /** What it noticed since the last time. */
  take(): { failures: number; p99Ms: number } {
    const sorted = this.#latencies.toSorted((a, b) => a - b);
    const taken = { failures: this.#failures, p99Ms: sorted[Math.floor((sorted.length - 1) * 0.99)] ?? 0 };
    this.#latencies = [];
    this.#failures = 0;
    return taken;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#running;
  }
}
