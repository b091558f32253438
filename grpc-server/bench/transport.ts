/**
 * The transport against @grpc/grpc-js in the same run; prints the table of the README and the decision record:
 *   node grpc-server/bench/transport.ts [watchers]
 * Unary and server streaming need `h2load` (nghttp2-client). Fan-out needs nothing but sockets; its floor is measured
 * too, by a server that does nothing but one write of prepared bytes to each socket.
 */
import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeRequest, GET, GET_LATER, LIST, STREAM_MESSAGES } from './codec.ts';

const WATCHERS = Number(process.argv[2] ?? 10_000);
const WATCHERS_PER_PROCESS = 5_000;
const BROADCASTS = 20;
const ROUNDS = 4;
const SUBJECTS = ['grpc-js', 'ours'] as const;
type Subject = (typeof SUBJECTS)[number];

const directory = mkdtempSync(join(tmpdir(), 'grpc-bench-'));
const requestFile = join(directory, 'request');
const message = encodeRequest({ userId: 'user-42' });
writeFileSync(requestFile, Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]));

function reply<T>(child: ChildProcess, request?: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number | null): void => reject(new Error(`a child exited with ${code}`));
    child.once('exit', onExit);
    child.once('message', (answer) => {
      child.off('exit', onExit);
      resolve(answer as T);
    });
    if (request !== undefined) child.send(request);
  });
}

function start(file: string, args: readonly string[]): ChildProcess {
  return fork(new URL(file, import.meta.url), args, { execArgv: ['--expose-gc'], serialization: 'json' });
}

async function stop(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.disconnect();
  await gone;
}

/** Requests per second by h2load; NaN where it is not installed. */
function h2load(port: number, path: string, requests: number): number {
  const args = ['-t1', '-c50', '-m20', `-n${requests}`, '-d', requestFile];
  const headers = ['-H', 'te: trailers', '-H', 'content-type: application/grpc'];
  try {
    const output = execFileSync('h2load', [...args, ...headers, `http://127.0.0.1:${port}${path}`], {
      encoding: 'utf8',
    });
    if (!output.includes(` ${requests} succeeded`)) throw new Error(`h2load saw failures:\n${output}`);
    return Number(/, ([0-9.]+) req\/s/.exec(output)?.[1]);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Number.NaN;
    throw error;
  }
}

interface Fanout {
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU of the server for one watcher of one broadcast. */
  readonly cpuUs: number;
  readonly kbPerWatcher: number;
}

async function fanout(server: ChildProcess, port: number): Promise<Fanout> {
  const before = await reply<{ rssBytes: number }>(server, 'memory');
  const clients: ChildProcess[] = [];
  for (let opened = 0; opened < WATCHERS; opened += WATCHERS_PER_PROCESS) {
    const count = Math.min(WATCHERS_PER_PROCESS, WATCHERS - opened);
    const client = start('./watcher-clients.ts', [String(port), String(count), String(2 + clients.length)]);
    await reply(client);
    clients.push(client);
  }
  const after = await reply<{ rssBytes: number }>(server, 'memory');

  const p50s: number[] = [];
  const p99s: number[] = [];
  let cpuUs = Number.POSITIVE_INFINITY;
  for (let round = 0; round < BROADCASTS + 2; round++) {
    const told = clients.map((client) => reply<{ arrivalsNs: string[] }>(client, 'listen'));
    await sleep(300);
    const cpuBefore = await reply<{ cpuUs: number }>(server, 'cpu');
    const { sentNs } = await reply<{ sentNs: string }>(server, 'broadcast');
    const arrivals = (await Promise.all(told)).flatMap((report) => report.arrivalsNs);
    if (arrivals.length !== WATCHERS) throw new Error(`${arrivals.length} of ${WATCHERS} watchers were told`);
    const cpuAfter = await reply<{ cpuUs: number }>(server, 'cpu');
    const delaysMs = arrivals.map((at) => Number(BigInt(at) - BigInt(sentNs)) / 1e6);
    // The first two warm up.
    if (round < 2) continue;
    cpuUs = Math.min(cpuUs, (cpuAfter.cpuUs - cpuBefore.cpuUs) / WATCHERS);
    p50s.push(quantile(delaysMs, 0.5));
    p99s.push(quantile(delaysMs, 0.99));
  }
  for (const client of clients) await stop(client);
  return {
    p50Ms: quantile(p50s, 0.5),
    p99Ms: quantile(p99s, 0.5),
    cpuUs,
    kbPerWatcher: (after.rssBytes - before.rssBytes) / 1024 / WATCHERS,
  };
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) * share)] as number;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

interface Row {
  readonly name: string;
  readonly unit: string;
  readonly values: Record<Subject, number>;
}

interface Load {
  readonly name: string;
  readonly path: string;
  /** What is counted: 'request' or 'message'. */
  readonly unit: string;
  readonly perRequest?: number;
  /** Requests per round. */
  readonly 'grpc-js': number;
  readonly ours: number;
}

const rows: Row[] = [];
let floor = '';

/** Both servers run at once and are loaded in turn, so that both meet the same disturbances; the best round counts. */
async function measureLoad(load: Load): Promise<void> {
  const { name, path, perRequest = 1 } = load;
  const best: Record<Subject, number> = { 'grpc-js': 0, ours: 0 };
  const cpuUs: Record<Subject, number> = {
    'grpc-js': Number.POSITIVE_INFINITY,
    ours: Number.POSITIVE_INFINITY,
  };
  const servers = SUBJECTS.map((subject) => ({ subject, server: start('./bench-server.ts', [subject]) }));
  const loaded = await Promise.all(
    servers.map(async (one) => ({ ...one, port: (await reply<{ port: number }>(one.server)).port })),
  );
  for (let round = 0; round <= ROUNDS; round++) {
    for (const { subject, server, port } of loaded) {
      const requests = load[subject];
      const before = await reply<{ cpuUs: number }>(server, 'cpu');
      const rate = h2load(port, path, requests) * perRequest;
      const after = await reply<{ cpuUs: number }>(server, 'cpu');
      // The first round warms up.
      if (round === 0) continue;
      best[subject] = Math.max(best[subject], rate);
      cpuUs[subject] = Math.min(cpuUs[subject], (after.cpuUs - before.cpuUs) / requests / perRequest);
    }
  }
  for (const { server } of loaded) await stop(server);
  rows.push({ name, unit: `${load.unit}/s`, values: best });
  rows.push({ name: `${name}: CPU of the server`, unit: `us per ${load.unit}`, values: cpuUs });
}

async function measureFanout() {
  const found: Partial<Record<Subject | 'sockets', Fanout>> = {};
  for (const subject of [...SUBJECTS, 'sockets'] as const) {
    const server = start('./bench-server.ts', [subject]);
    const { port } = await reply<{ port: number }>(server);
    found[subject] = await fanout(server, port);
    await stop(server);
  }
  const { 'grpc-js': theirs, ours, sockets } = found as Record<Subject | 'sockets', Fanout>;
  const name = `fan-out to ${WATCHERS.toLocaleString('en')} connections`;
  rows.push({ name: `${name}, p50`, unit: 'ms', values: { 'grpc-js': theirs.p50Ms, ours: ours.p50Ms } });
  rows.push({ name: `${name}, p99`, unit: 'ms', values: { 'grpc-js': theirs.p99Ms, ours: ours.p99Ms } });
  const cpu = { 'grpc-js': theirs.cpuUs, ours: ours.cpuUs };
  rows.push({ name: `${name}: CPU of the server`, unit: 'us each', values: cpu });
  const memory = { 'grpc-js': theirs.kbPerWatcher, ours: ours.kbPerWatcher };
  rows.push({ name: 'memory of a watching connection (RSS)', unit: 'KB', values: memory });
  floor = `One write of prepared bytes to each of these sockets, and nothing else: p50 ${sockets.p50Ms.toFixed(1)} ms, p99 ${sockets.p99Ms.toFixed(1)} ms, CPU ${sockets.cpuUs.toFixed(1)} us each.`;
}

try {
  const unary = { unit: 'request', 'grpc-js': 60_000, ours: 400_000 };
  await measureLoad({ name: 'unary', path: GET.path, ...unary });
  await measureLoad({ name: 'unary, handler with a promise', path: GET_LATER.path, ...unary });
  const streams = { unit: 'message', perRequest: STREAM_MESSAGES, 'grpc-js': 1_500, ours: 20_000 };
  await measureLoad({ name: 'server stream', path: LIST.path, ...streams });
  if (WATCHERS > 0) await measureFanout();
} finally {
  rmSync(directory, { recursive: true });
}

console.log(`Node ${process.version}, ${cpus().length} x ${cpus()[0]?.model.trim()}`);
console.log('\n| | grpc-js | ours | ratio |\n|---|---:|---:|---:|');
for (const { name, unit, values } of rows) {
  const digits = unit.endsWith('/s') ? 0 : 1;
  const format = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  const cells = SUBJECTS.map((subject) => `${values[subject].toLocaleString('en', format)} ${unit}`);
  console.log(`| ${name} | ${cells.join(' | ')} | ${(values.ours / values['grpc-js']).toPrecision(2)} |`);
}
if (floor !== '') console.log(`\n${floor}`);
