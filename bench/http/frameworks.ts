/**
 * The server's CPU for one request, all threads; the load comes from another process: node:http alone, Fastify alone, and
 * Pilotlight's heartbeat over HTTP (Fastify, browser rules, schemas, use case, message).
 *
 *     node bench/http/frameworks.ts
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { Agent, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fastify } from 'fastify';
import { readConfig } from '../../src/config.ts';
import { silentLog } from '../../src/observe/log.ts';
import { Server } from '../../src/server.ts';

const connections = 64;
const measuredMs = 4000;
const answer = { success: true, nextHeartbeatInSeconds: '15', nextHeartbeatInMs: '15000' };

const [role, url] = process.argv.slice(2);
if (role === 'load') await load(url as string);
else await measure();

async function measure(): Promise<void> {
  const plain = createServer((_request, response) => {
    response.setHeader('content-type', 'application/json; charset=utf-8').end(JSON.stringify(answer));
  });
  plain.listen(0, '127.0.0.1');
  await once(plain, 'listening');
  const framework = fastify();
  framework.post('/v1/users/:id/heartbeat', async () => answer);
  const frameworkUrl = await framework.listen({ host: '127.0.0.1', port: 0 });
  const server = new Server(readConfig({ GRPC_PORT: '0', HTTP_PORT: '0' }), silentLog);
  const { http } = await server.start();
  const subjects: [name: string, url: string][] = [
    ['node:http alone', `http://127.0.0.1:${(plain.address() as AddressInfo).port}`],
    ['Fastify alone', frameworkUrl],
    ['Pilotlight, heartbeat over HTTP', `http://127.0.0.1:${http.port}`],
  ];
  const results = new Map(subjects.map(([name]) => [name, [] as number[]]));
  for (let round = 0; round < 3; round++) {
    for (const [name, base] of subjects) {
      const before = process.cpuUsage();
      const child = fork(import.meta.filename, ['load', base]);
      const [requests] = (await once(child, 'message')) as [number];
      await once(child, 'exit');
      const { user, system } = process.cpuUsage(before);
      results.get(name)?.push((user + system) / requests);
    }
  }
  for (const [name, costs] of results) {
    console.log(`| ${name} | ${Math.round(costs.toSorted((a, b) => a - b)[1] as number)} us |`);
  }
  plain.close();
  plain.closeAllConnections();
  await framework.close();
  await server.stop();
}

/** The other process: as many requests as it can, one after another on each connection. */
async function load(base: string): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const startMs = performance.now();
  let done = 0;
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const sent = request(`${base}/v1/users/ada/heartbeat`, { method: 'POST', agent }, (response) => {
        response.resume().once('end', resolve);
      });
      sent.once('error', reject).end();
    });
  await Promise.all(
    Array.from({ length: connections }, async () => {
      for (;;) {
        await one();
        done++;
        if (performance.now() - startMs > measuredMs) return;
      }
    }),
  );
  agent.destroy();
  process.send?.(done);
  process.disconnect?.();
}
