/**
 * Makes the tables and charts of docs/performance.md from a folder of results: `node bench/report.ts bench/results/...`.
 * What stands between `<!-- NAME -->` and `<!-- end -->` in that document is written anew, and nothing else.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Found, Recorded, rounded, whole } from './recorded.ts';
import { chartsOf, drawCharts } from './report-charts.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const recorded = new Recorded(join(root, process.argv[2] ?? ''));
const document = join(root, 'docs/performance.md');
const charts = join(root, 'docs/performance');

const ms = (value: number): string =>
  value >= 100 ? `${Math.round(value)} ms` : `${value.toFixed(value >= 10 ? 1 : 2)} ms`;
const percent = (value: number): string => `${Math.round(value)} %`;
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map((_, column) => (column === 0 ? '---' : '---:')), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');

/** CPU of one call, microseconds: of a core's share while it ran. */
const cpuUs = (found: Found, process: 'server' | 'redis'): number =>
  (found.fact(`${process}-cpu`) * 10_000) / found.series.rate;

function runsTable(): string {
  const runs: readonly (readonly [name: string, series: string, what: string])[] = [
    ['heartbeat', 'heartbeat', 'heartbeats, 10,000 per second'],
    ['query', 'query', 'queries of one user, 5,000 per second'],
    ['spec-bulk', 'bulk', 'queries of 1,000 users, 20 per second'],
    ['bulk-memory', 'bulk', 'the same on the memory engine, 50 per second'],
    ['spec-updates', 'update', 'status updates of 10,000 users, 2,000 per second'],
    ['fanout-stream', 'event', 'a change seen by 9,000 watchers (SubscribeStatusUpdates)'],
    ['fanout-grpc', 'event', 'a change seen by 9,000 watchers (Connect)'],
    ['fanout-websocket', 'event', 'a change seen by 9,000 watchers (WebSocket)'],
    ['churn', 'open', 'sessions that come and go, 200 per second'],
    ['mixed', 'update', 'social app: status updates'],
    ['mixed', 'event', 'social app: a friend sees the change'],
    ['mixed', 'open', 'social app: opening the app'],
    ['mixed', 'heartbeat', 'social app: heartbeats'],
    ['expiry', 'offline', '100,000 leases run out: OFFLINE seen after the deadline'],
    ['storm', 'back', '9,000 sessions cut at once: back'],
  ];
  const rows = runs.flatMap(([name, series, what]) => {
    const found = recorded.find(name, series);
    if (!found) return [];
    const { count, p50, p99, p999, max, errors } = found.series;
    const limit = found.report.clientLimits.length > 0 ? ' *' : '';
    const cpu = [found.fact('server-cpu'), found.fact('redis-cpu')].map((value) =>
      Number.isNaN(value) ? '-' : percent(value),
    );
    return [[`${what}${limit}`, whole(count), ms(p50), ms(p99), ms(p999), ms(max), String(errors), ...cpu]];
  });
  return table(
    ['Redis engine', 'count', 'p50', 'p99', 'p99.9', 'max', 'errors', 'server CPU', 'Redis CPU'],
    rows,
  );
}

function throughputTable(): string {
  const runs: readonly (readonly [name: string, series: string, what: string])[] = [
    ['heartbeat-max', 'heartbeat', 'heartbeats, Redis engine'],
    ['heartbeat-max-memory', 'heartbeat', 'heartbeats, memory engine'],
    ['update-max', 'update', 'transitions, Redis engine'],
  ];
  const rows = runs.flatMap(([name, series, what]) => {
    const found = recorded.find(name, series);
    if (!found) return [];
    const server = cpuUs(found, 'server');
    const redis = cpuUs(found, 'redis');
    return [
      [
        what,
        `${whole(found.series.rate)} per second`,
        percent(found.fact('server-cpu')),
        `${server.toFixed(1)} us`,
        Number.isNaN(redis) ? '-' : `${redis.toFixed(1)} us`,
        whole(1e6 / server),
      ],
    ];
  });
  const head = [
    'as many as were answered',
    'rate',
    'server CPU',
    'server, each',
    'Redis, each',
    'per server core',
  ];
  return table(head, rows);
}

function connectionsTable(): string {
  const rows = (['grpc', 'websocket'] as const).flatMap((kind) => {
    const found = recorded.find(`sessions-${kind}`, 'open');
    if (!found) return [];
    const { p50, p99, errors } = found.series;
    const name = { grpc: 'Connect', websocket: 'WebSocket' }[kind];
    return [[name, whole(found.fact('open')), String(errors), whole(found.fact('lost')), ms(p50), ms(p99)]];
  });
  const head = ['10,000 sessions at 1,500 per second', 'open', 'refused', 'lost', 'opened within p50', 'p99'];
  return table(head, rows);
}

/** The table that bench/sessions.ts prints, as it prints it. */
function memoryTable(): string {
  return memoryLines()
    .filter((line) => line.startsWith('|'))
    .join('\n');
}

function memoryLines(): string[] {
  return recorded.text('memory.txt').split('\n');
}

/** Resident bytes of an idle gRPC session, by the same table. */
function idleBytes(): number {
  const row = memoryLines().find((line) => /^\| gRPC/i.test(line));
  return Number(/([\d.]+) KB/.exec(row ?? '')?.[1]) * 1024;
}

interface Unit {
  readonly heartbeatServerUs: number;
  readonly heartbeatRedisUs: number;
  readonly transitionServerUs: number;
  readonly transitionRedisUs: number;
  readonly connectionBytes: number;
  readonly userBytes: number;
}

/**
 * Redis CPU of one look at a lease, microseconds, by bench/redis-cost.ts: half of one goes with each heartbeat, and a run
 * of seconds ends before it.
 */
const checkRedisUs = 6;

/** What the measured runs say that each thing costs. */
function units(): Unit | undefined {
  const heartbeat = recorded.find('heartbeat-max', 'heartbeat');
  const transition = recorded.find('update-max', 'update');
  const growth = recorded.report('growth-1000000') ?? recorded.report('growth-100000');
  if (!heartbeat || !transition || !growth?.redis) return undefined;
  return {
    heartbeatServerUs: cpuUs(heartbeat, 'server'),
    heartbeatRedisUs: cpuUs(heartbeat, 'redis') + checkRedisUs / 2,
    transitionServerUs: cpuUs(transition, 'server'),
    transitionRedisUs: cpuUs(transition, 'redis'),
    connectionBytes: idleBytes(),
    userBytes: growth.redis.usedBytes / growth.load.users,
  };
}

function growthTable(): string {
  const rows = [10_000, 100_000, 1_000_000].flatMap((users) => {
    const found = recorded.find(`growth-${users}`, 'heartbeat');
    if (!found) return [];
    const bytes = found.report.redis?.usedBytes ?? Number.NaN;
    const { p50, p99 } = found.series;
    return [
      [
        whole(users),
        ms(p50),
        ms(p99),
        `${cpuUs(found, 'server').toFixed(1)} us`,
        `${cpuUs(found, 'redis').toFixed(1)} us`,
        `${whole(bytes / 2 ** 20)} MiB`,
        `${whole(bytes / users)} B`,
      ],
    ];
  });
  return table(
    ['users ONLINE', 'heartbeat p50', 'p99', 'server, each', 'Redis, each', 'Redis memory', 'of each user'],
    rows,
  );
}

/** A calculated installation; the assumptions are written beside the table in the document. */
function sizing(users: number, unit: Unit): string[] {
  const heartbeats = users / 15;
  const transitions = (users * 8) / 86_400;
  const spare = 0.5;
  const serverCores =
    (heartbeats * unit.heartbeatServerUs + transitions * unit.transitionServerUs) / 1e6 / spare;
  const redisCores =
    (heartbeats * unit.heartbeatRedisUs + transitions * unit.transitionRedisUs) / 1e6 / spare;
  const nodeMemory = users * unit.connectionBytes;
  const redisMemory = users * unit.userBytes;
  const nodes = Math.max(2, Math.ceil(serverCores), Math.ceil(nodeMemory / 8 / 2 ** 30));
  const shards = Math.max(1, Math.ceil(redisCores), Math.ceil(redisMemory / 16 / 2 ** 30));
  // Calculated: 80 bytes of request, 66 of answer, three packets with 52 bytes of TCP and IP heads each.
  const megabits = (heartbeats * 300 * 8) / 1e6;
  const hourly = nodes * (0.04 + 8 * 0.005) + 2 * shards * (0.04 + 16 * 0.005);
  return [
    whole(users),
    whole(heartbeats),
    serverCores.toFixed(1),
    String(nodes),
    redisCores.toFixed(1),
    String(shards),
    `${whole(redisMemory / 2 ** 30)} GiB`,
    `${whole(megabits)} Mbit/s`,
    `$${whole(hourly * 730)}`,
  ];
}

function sizingTable(): string {
  const unit = units();
  if (!unit) return '';
  const head = [
    'users ONLINE',
    'heartbeats per second',
    'server cores',
    'nodes of 1 core',
    'Redis cores',
    'Redis shards',
    'Redis memory',
    'traffic',
    'a month',
  ];
  return table(
    head,
    [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000].map((users) => sizing(users, unit)),
  );
}

function peersTable(): string {
  const peers = recorded.peers();
  if (!peers) return '';
  const rows = peers.figures.map((figure) => {
    const [literal, socketIo, ours] = ['literal', 'socket.io', 'pilotlight'].map((name) =>
      peers.meanOf(name, figure),
    ) as [number, number, number];
    const ratios = [ours / literal, ours / socketIo].map((ratio) =>
      Number.isFinite(ratio) ? ratio.toFixed(2) : '-',
    );
    return [figure, rounded(literal), rounded(socketIo), rounded(ours), ...ratios];
  });
  return table(
    ['', 'literal', 'Socket.IO', 'Pilotlight', 'Pilotlight / literal', 'Pilotlight / Socket.IO'],
    rows,
  );
}

const parts: Readonly<Record<string, () => string>> = {
  machine: () => {
    const machine = JSON.parse(recorded.text('machine.json')) as Record<string, string>;
    const where = relative(join(root, 'docs'), recorded.folder);
    return `Measured ${machine.date?.slice(0, 10)} at commit ${machine.commit?.slice(0, 7)} on ${machine.cpus}, ${machine.memoryGiB} GiB, Linux ${machine.kernel}, Node ${machine.node}, ${machine.redis?.split(' sha')[0]}; raw data in [${where.replace('../', '')}](${where}/machine.json).`;
  },
  runs: runsTable,
  throughput: throughputTable,
  connections: connectionsTable,
  memory: memoryTable,
  growth: growthTable,
  sizing: sizingTable,
  peers: peersTable,
};

drawCharts(recorded, charts);
let text = readFileSync(document, 'utf8');
for (const [name, make] of Object.entries(parts)) {
  const pattern = new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(<!-- end -->)`);
  if (!pattern.test(text)) throw new Error(`docs/performance.md has no place for ${name}`);
  const made = make() + chartsOf(name, charts);
  text = text.replace(pattern, (_, begin: string, end: string) => `${begin}${made}\n${end}`);
}
writeFileSync(document, text);
