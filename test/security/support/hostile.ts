/** One user who does the most that the limits allow, in many ways, and what other users notice of it. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { PresenceService } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { ServerProcess } from '../../faults/server-process.ts';
import { endProcess, forkProcess } from '../../support/child-process.ts';
import { RedisServer } from '../../support/redis-server.ts';
import { waitFor } from '../../support/wait.ts';
import { usage } from './costs.ts';
import { apiKeys, apiKeysFile, secureEnvironment, token } from './credentials.ts';
import { Endpoint } from './endpoint.ts';
import { type HostileReport, type HostileTarget, hostileWays } from './hostile-user.ts';

export interface HostileRow {
  readonly name: string;
  readonly title: string;
  /** What the hostile user was answered, and refused, a second. */
  readonly done: number;
  readonly refused: number;
  /** CPU while it lasted, percent of a core. */
  readonly serverPercent: number;
  readonly redisPercent: number;
  /** Of others' heartbeats. */
  readonly heartbeats: number;
  readonly failures: number;
  /** The first of them; empty: none. */
  readonly failure: string;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Right before. */
  readonly calmP99Ms: number;
}

export interface HostileOptions {
  readonly calmMs: number;
  readonly warmUpMs: number;
  readonly hostileMs: number;
  /** Default: all. */
  readonly ways?: readonly string[];
  /** Of the server, beside its defaults. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly onRow?: (row: HostileRow) => void;
}

/** How long directory and policy take to answer, ms. */
const lookupMs = 20;
const hostileFile = new URL('hostile-user.ts', import.meta.url);

export async function measureHostility(options: HostileOptions): Promise<HostileRow[]> {
  const names = options.ways ?? Object.keys(hostileWays);
  const rows: HostileRow[] = [];
  for (const asksOutside of [false, true]) {
    const some = names.filter((name) => (hostileWays[name]?.asksOutside ?? false) === asksOutside);
    if (some.length > 0) rows.push(...(await measureOnOneServer(some, asksOutside, options)));
  }
  return rows;
}

async function measureOnOneServer(
  names: readonly string[],
  asksOutside: boolean,
  options: HostileOptions,
): Promise<HostileRow[]> {
  const keys = apiKeysFile();
  const redis = await RedisServer.start();
  const endpoints: Endpoint[] = [];
  if (asksOutside) endpoints.push(await everybody('known'), await everybody('allowed'));
  const [directory, policy] = endpoints;
  const server = await ServerProcess.start('hostile', {
    ...secureEnvironment(keys.file),
    REDIS_URL: redis.url,
    DRAIN_TIMEOUT: '0s',
    ...options.environment,
    ...(directory && {
      USER_DIRECTORY: 'http',
      USER_DIRECTORY_URL: directory.url,
      USER_DIRECTORY_CACHE: '1s',
    }),
    ...(policy && { WATCH_POLICY: 'http', WATCH_POLICY_URL: policy.url, WATCH_POLICY_CACHE: '1s' }),
  });
  const others = new OtherUsers(server.grpcUrl, asksOutside);
  const rows: HostileRow[] = [];
  try {
    await others.start();
    await sleep(options.warmUpMs);
    for (const [index, name] of names.entries()) {
      const row = await measure(name, `mallory-${index}`, server, redis.pid, others, options);
      options.onRow?.(row);
      rows.push(row);
    }
    return rows;
  } finally {
    await others.stop();
    await server.kill();
    for (const endpoint of endpoints) endpoint.stop();
    await redis.stop();
    keys.remove();
  }
}

async function measure(
  name: string,
  user: string,
  server: ServerProcess,
  redisPid: number,
  others: OtherUsers,
  { calmMs, warmUpMs, hostileMs }: HostileOptions,
): Promise<HostileRow> {
  others.take();
  await sleep(calmMs);
  const calm = others.take();
  const { grpcUrl, httpPort } = server;
  const httpUrl = `http://127.0.0.1:${httpPort}`;
  const target: HostileTarget = { grpcUrl, httpUrl, user, token: await token(user) };
  const crowd = name === 'flips' ? await crowdOf({ ...target, token: apiKeys.read }) : undefined;
  const hostile = forkProcess(hostileFile, [name, JSON.stringify(target)]);
  const reports = new Reports(hostile);
  try {
    await reports.begun;
    await waitFor('an answer to the hostile user', () => reports.last.done + reports.last.refused > 0);
    await sleep(warmUpMs);
    others.take();
    const [before, cpuBefore, redisBefore] = [
      reports.last,
      usage(server).cpuMs,
      usage({ pid: redisPid }).cpuMs,
    ];
    const beganMs = performance.now();
    await sleep(hostileMs);
    const tookMs = performance.now() - beganMs;
    const { latenciesMs: _, ...noticed } = others.take();
    const perSecond = (count: number) => Math.round((count / tookMs) * 1000);
    const percent = (cpuMs: number) => Math.round((cpuMs / tookMs) * 100);
    return {
      name,
      title: hostileWays[name]?.title ?? name,
      done: perSecond(reports.last.done - before.done),
      refused: perSecond(reports.last.refused - before.refused),
      serverPercent: percent(usage(server).cpuMs - cpuBefore),
      redisPercent: percent(usage({ pid: redisPid }).cpuMs - redisBefore),
      ...noticed,
      calmP99Ms: calm.p99Ms,
    };
  } finally {
    await endProcess(hostile);
    if (crowd) await endProcess(crowd);
  }
}

/** Many who watch the hostile user. */
async function crowdOf(target: HostileTarget): Promise<ChildProcess> {
  const crowd = forkProcess(hostileFile, ['crowd', JSON.stringify(target)]);
  await Promise.race([
    once(crowd, 'message'),
    once(crowd, 'exit').then(() => Promise.reject(new Error('the crowd ended'))),
  ]);
  return crowd;
}

class Reports {
  last: HostileReport = { done: 0, refused: 0 };
  readonly begun: Promise<void>;

  constructor(hostile: ChildProcess) {
    this.begun = Promise.race([
      once(hostile, 'message').then(() => {}),
      once(hostile, 'exit').then(() => Promise.reject(new Error('the hostile user ended'))),
    ]);
    hostile.on('message', (report) => {
      this.last = report as HostileReport;
    });
  }
}

/** An endpoint that knows and allows everybody, after a while. */
async function everybody(field: 'known' | 'allowed'): Promise<Endpoint> {
  const endpoint = await Endpoint.start(field);
  endpoint.behaviour = (response, { users }) => {
    setTimeout(() => response.end(JSON.stringify({ [field]: users })), lookupMs);
  };
  return endpoint;
}

const otherUsers = 20;
const heartbeatsPerSecond = 200;

/** Heartbeats of users within their limits, all together at a steady rate, whether or not the last were answered. */
class OtherUsers {
  readonly #client;
  readonly #alsoRead: boolean;
  readonly #headers: { authorization: string }[] = [];
  #failures = 0;
  #failure = '';
  #latencies: number[] = [];
  #underWay = 0;
  #sent = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(baseUrl: string, alsoRead: boolean) {
    this.#client = createClient(PresenceService, createGrpcTransport({ baseUrl }));
    this.#alsoRead = alsoRead;
  }

  async start(): Promise<void> {
    for (let i = 0; i < otherUsers; i++)
      this.#headers.push({ authorization: `Bearer ${await token(`other-${i}`)}` });
    const beganMs = performance.now();
    this.#timer = setInterval(() => {
      const due = ((performance.now() - beganMs) / 1000) * heartbeatsPerSecond;
      // A hurry of this process is none of the server's doing.
      for (this.#sent = Math.max(this.#sent, Math.floor(due) - 5); this.#sent < due; this.#sent++)
        void this.#beat(this.#sent % otherUsers);
    }, 5);
  }

  /** What they noticed since the last time. */
  take() {
    const sorted = this.#latencies.toSorted((a, b) => a - b);
    const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] ?? 0;
    const taken = {
      heartbeats: sorted.length,
      failures: this.#failures,
      failure: this.#failure,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      latenciesMs: sorted,
    };
    this.#latencies = [];
    this.#failures = 0;
    this.#failure = '';
    return taken;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    while (this.#underWay > 0) await sleep(10);
  }

  #fail(what: string): void {
    this.#failures++;
    this.#failure ||= what;
  }

  async #beat(index: number): Promise<void> {
    const options = { headers: this.#headers[index] as { authorization: string } };
    const userId = `other-${index}`;
    this.#underWay++;
    const beganMs = performance.now();
    try {
      const { success } = await this.#client.sendHeartbeat({ userId }, options);
      if (!success) this.#fail('success=false');
      this.#latencies.push(performance.now() - beganMs);
      // Whom the directory and the policy have to be asked about, each second anew.
      if (this.#alsoRead && this.#sent % 10 === 0)
        await this.#client.getUserStatus({ userId: `other-${(index + 1) % otherUsers}` }, options);
    } catch (error) {
      this.#fail(String(error));
      this.#latencies.push(performance.now() - beganMs);
    } finally {
      this.#underWay--;
    }
  }
}
