/**
 * What a scrape of /metrics costs at 10,000 watching connections, and what it does to the p99 of calls.
 *
 *     node bench/http/scrape.ts [connections] [scrapes]
 *
 * Connections are gRPC streams (200 on each HTTP/2 connection) of a process of their own; calls are heartbeats, in series
 * on one connection, first without scrapes, then with one every 200 ms.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { PresenceService } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { readConfig } from '../../src/config.ts';
import { silentLog } from '../../src/observe/log.ts';
import { Server } from '../../src/server.ts';

const streamsPerConnection = 200;
const calls = 5000;

const [role = '10000', second = '50', third] = process.argv.slice(2);
if (role === 'watchers') await holdStreams(Number(second), third as string);
else await measure(Number(role), Number(second));

/** The other process: opens streams and reads them. */
async function holdStreams(count: number, baseUrl: string): Promise<void> {
  for (let first = 0; first < count; first += streamsPerConnection) {
    const client = createClient(PresenceService, createGrpcTransport({ baseUrl }));
    const group = Array.from({ length: Math.min(streamsPerConnection, count - first) }, async (_, index) => {
      const stream = client.subscribeStatusUpdates({
        watchUserIds: [`user-${first + index}`, `user-${index}`],
      });
      for await (const _event of stream);
    });
    Promise.all(group).catch(() => process.exit(0));
    await sleep(50);
  }
}

async function measure(connections: number, scrapes: number): Promise<void> {
  const server = new Server(readConfig({ GRPC_PORT: '0', HTTP_PORT: '0', USER_STATUS_TTL: '1h' }), silentLog);
  const { grpc, http } = await server.start();
  const grpcUrl = `http://127.0.0.1:${grpc.port}`;
  const watchers = fork(import.meta.filename, ['watchers', String(connections), grpcUrl]);
  try {
    while (server.stats().hub.subscriptions < connections) await sleep(50);
    await sleep(1000);
    const client = createClient(PresenceService, createGrpcTransport({ baseUrl: grpcUrl }));
    const scrape = async () => {
      const startMs = performance.now();
      const text = await (await fetch(`http://127.0.0.1:${http.port}/metrics`)).text();
      return { ms: performance.now() - startMs, bytes: text.length };
    };
    const cpuBefore = process.cpuUsage();
    for (let done = 0; done < scrapes; done++) await scrape();
    const cpu = process.cpuUsage(cpuBefore);
    await callLatencies(client, calls);
    const quiet = await callLatencies(client, calls);
    const costs: number[] = [];
    let bytes = 0;
    const scraping = (async () => {
      for (let done = 0; done < scrapes; done++) {
        const cost = await scrape();
        costs.push(cost.ms);
        bytes = cost.bytes;
        await sleep(200);
      }
    })();
    const scraped: number[] = [];
    while (costs.length < scrapes) scraped.push(...(await callLatencies(client, 500)));
    await scraping;
    console.log(`${cpus().length} x ${cpus()[0]?.model}, Node ${process.version}`);
    console.log(`${server.stats().hub.subscriptions} watching streams, ${scrapes} scrapes of ${bytes} bytes`);
    const cpuMs = (cpu.user + cpu.system) / 1000 / scrapes;
    console.log(`scrape        ${cpuMs.toFixed(2)} ms of CPU, the client's share included`);
    console.log(`scrape        ${describe(costs)} from asking to the last byte`);
    console.log(`heartbeat     ${describe(quiet)} without scrapes`);
    console.log(`heartbeat     ${describe(scraped)} with a scrape every 200 ms`);
  } finally {
    watchers.kill('SIGKILL');
    await once(watchers, 'exit');
    await server.stop();
  }
}

async function callLatencies(client: ReturnType<typeof createClient<typeof PresenceService>>, count: number) {
  const latencies: number[] = [];
  for (let call = 0; call < count; call++) {
    const startMs = performance.now();
    await client.sendHeartbeat({ userId: `user-${call}` });
    latencies.push(performance.now() - startMs);
  }
  return latencies;
}

function describe(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (q: number) =>
    (sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] as number).toFixed(2);
  return `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, max ${at(1)} ms`;
}
