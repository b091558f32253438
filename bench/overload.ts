/**
 * Five times the heartbeats that a server can do: what becomes of those it takes, of those it refuses, and of itself.
 *
 *     node bench/overload.ts [times] [seconds] [share of a core]      default: 5 10 0.4
 *
 * Redis engine, every call with a token. The server gets a share of one core (Linux, cgroup v1 `cpu`, as root), so that one
 * load process can send several times what it can do. First a closed loop finds that rate; then calls are sent at a pace that
 * waits for no answer, the first four seconds uncounted; then a tenth of the rate shows when the server is well again.
 */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { RetryInfoSchema } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import { PresenceService } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { monoMs } from '../src/cli/bench/clock.ts';
import { H2Connection } from '../src/cli/bench/h2-connection.ts';
import { requestHead } from '../src/cli/bench/h2-frames.ts';
import { paths, userRequest } from '../src/cli/bench/messages.ts';
import { Pacer } from '../src/cli/bench/pacer.ts';
import { freePort, RedisServer } from '../test/support/redis-server.ts';
import { newHistogram, percentile } from './sessions/histogram.ts';

const times = Number(process.argv[2] ?? 5);
const seconds = Number(process.argv[3] ?? 10);
const share = Number(process.argv[4] ?? 0.4);
const users = 5000;
/** Enough that their calls come in batches, as those of a load that is too much do: fewer get less done. */
const callers = 1000;
const connections = 100;
const key = randomBytes(32).toString('base64url');
const group = `/sys/fs/cgroup/cpu/pilotlight-overload-${process.pid}`;

const folder = mkdtempSync(join(tmpdir(), 'pilotlight-overload-'));
const keysFile = join(folder, 'keys.json');
const sha256 = createHash('sha256').update(key).digest('hex');
writeFileSync(keysFile, JSON.stringify([{ id: 'bench', sha256, scopes: ['presence:write'] }]));
const redis = await RedisServer.start();
const [grpcPort, httpPort] = [await freePort(), await freePort()];
const server = spawn(process.execPath, ['src/main.ts', 'serve'], {
  env: {
    ...process.env,
    REDIS_URL: redis.url,
    GRPC_PORT: String(grpcPort),
    HTTP_PORT: String(httpPort),
    USER_STATUS_TTL: '5m',
    AUTH: 'api-keys',
    AUTH_API_KEYS_FILE: keysFile,
    RATE_LIMIT_BACKEND_FACTOR: '0',
    LOG_LEVEL: 'warn',
  },
  stdio: ['ignore', 'pipe', 'inherit'],
});
await once(server.stdout, 'data');

const authorization = `Bearer ${key}`;
const head = requestHead(paths.heartbeat, `127.0.0.1:${grpcPort}`, [['authorization', authorization]]);
const messages = Array.from({ length: users }, (_, user) => userRequest(`user-${user}`));
const links: H2Connection[] = [];
let next = 0;

/** One heartbeat; the answer is whether it was done. */
function heartbeat(done: (ok: boolean) => void): void {
  const turn = next++;
  let isDone = false;
  (links[turn % connections] as H2Connection).call(head, messages[turn % users] as Buffer, {
    onMessage: () => {
      isDone = true;
    },
    onEnd: () => done(isDone),
  });
}

/** How many calls a second `inFlight` callers get done who each wait for the one before. */
async function closedLoop(inFlight: number, forMs: number): Promise<number> {
  const endMs = monoMs() + forMs;
  let done = 0;
  const caller = async (): Promise<void> => {
    while (monoMs() < endMs) {
      if (await new Promise<boolean>((resolve) => heartbeat(resolve))) done++;
      else await sleep(10);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  return done / (forMs / 1000);
}

/** Calls at a rate. Those that began before `sinceMs` are not counted. */
async function openLoop(what: string, rate: number, forMs: number, sinceMs: number): Promise<number> {
  const taken = newHistogram();
  const refused = newHistogram();
  const counts = { taken: 0, refused: 0 };
  let lastRefusedMs = 0;
  const pacer = new Pacer();
  const beganMs = monoMs();
  await pacer.run(rate, beganMs, beganMs + forMs, () => {
    const sentMs = monoMs();
    heartbeat((ok) => {
      const nowMs = monoMs();
      if (!ok) lastRefusedMs = nowMs - beganMs;
      if (sentMs < beganMs + sinceMs) return;
      (ok ? taken : refused).record(Math.max(0.01, nowMs - sentMs));
      counts[ok ? 'taken' : 'refused']++;
    });
  });
  const waitUntilMs = monoMs() + 5000;
  const open = () => links.reduce((sum, link) => sum + link.openCalls, 0);
  while (open() > 0 && monoMs() < waitUntilMs) await sleep(5);
  const perSecond = (count: number) => Math.round(count / ((forMs - sinceMs) / 1000));
  const ms = (values: [number, number][], q: number) => `${percentile(values, q).toFixed(1)} ms`;
  console.log(`${what}: ${Math.round(rate)} calls/s for ${forMs / 1000} s`);
  console.log(
    `  taken    ${perSecond(counts.taken)}/s, p50 ${ms(taken.values(), 0.5)}, p99 ${ms(taken.values(), 0.99)}`,
  );
  console.log(
    `  refused  ${perSecond(counts.refused)}/s, p50 ${ms(refused.values(), 0.5)}, p99 ${ms(refused.values(), 0.99)}`,
  );
  const lateMs = pacer.lateness.getValueAtPercentile(99) / 1000;
  console.log(
    `  unanswered ${open()}; memory ${rssMiB()} MiB; the load process was ${lateMs.toFixed(1)} ms late (p99)`,
  );
  return lastRefusedMs;
}

function rssMiB(): number {
  const status = readFileSync(`/proc/${server.pid}/status`, 'utf8');
  return Math.round(Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024);
}

/** What a refusal says, ms; asked for until one comes. undefined: none did. */
async function delayOfRefusal(forMs: number): Promise<number | undefined> {
  const endMs = monoMs() + forMs;
  const client = createClient(
    PresenceService,
    createGrpcTransport({ baseUrl: `http://127.0.0.1:${grpcPort}` }),
  );
  const headers = { authorization };
  while (monoMs() < endMs) {
    try {
      await client.sendHeartbeat({ userId: 'user-0' }, { headers });
    } catch (error) {
      const [retry] = ConnectError.from(error).findDetails(RetryInfoSchema);
      if (retry) return Number(retry.retryDelay?.seconds) * 1000;
    }
  }
  return undefined;
}

try {
  for (let link = 0; link < connections; link++) {
    const connection = new H2Connection({ host: '127.0.0.1', port: grpcPort, localAddress: undefined });
    await connection.opened;
    links.push(connection);
  }
  console.log(`node ${process.version}, ${cpus()[0]?.model}, load ${loadavg()[0]?.toFixed(2)} at the start`);
  // Warm before it is slowed down.
  await closedLoop(callers, 3000);
  mkdirSync(group);
  writeFileSync(`${group}/cpu.cfs_period_us`, '10000');
  writeFileSync(`${group}/cpu.cfs_quota_us`, String(Math.round(share * 10_000)));
  writeFileSync(`${group}/cgroup.procs`, String(server.pid));
  const sustainable = await closedLoop(callers, 4000);
  console.log(
    `sustainable with ${share} of a core, ${callers} callers: ${Math.round(sustainable)} calls/s; memory ${rssMiB()} MiB`,
  );
  const [, delayMs] = await Promise.all([
    openLoop(`${times} times as many`, sustainable * times, seconds * 1000, 4000),
    delayOfRefusal(seconds * 1000),
  ]);
  console.log(delayMs === undefined ? '  nobody was refused' : `  a refusal says: after ${delayMs} ms`);
  const lastRefusedMs = await openLoop('a tenth, at once after it', sustainable / 10, 5000, 0);
  console.log(`  the last refusal came ${Math.round(lastRefusedMs)} ms after the load had ended`);
  console.log(`load ${loadavg()[0]?.toFixed(2)} at the end`);
} finally {
  for (const link of links) link.destroy();
  server.kill();
  await once(server, 'exit');
  rmdirSync(group);
  rmSync(folder, { recursive: true });
  await redis.stop();
}
process.exit(0);
