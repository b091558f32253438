import { type ChildProcess, fork } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { type Command, InvalidArgumentError } from 'commander';
import { CommandError } from '../client-commands.ts';
import { type Progress, runLoad } from './coordinator.ts';
import { type Expectation, judge, parseExpectation } from './expect.ts';
import { type LoadOptions, type ScenarioName, type SessionKind, scenarioNames, sessionKinds } from './job.ts';
import { type ParentChannel, runLoadProcess } from './load-process.ts';
import { ObservedProcess } from './observed-process.ts';
import { htmlReport, type RunReport, summary } from './report.ts';
import { clientLimits } from './result.ts';

/** What of the process the command needs. */
export interface BenchHost {
  /** The module that the command line is, to be started again as a load process. */
  readonly modulePath: string;
  readonly args: readonly string[];
  readonly nodeVersion: string;
  readonly print: (text: string) => void;
  /** Shows progress on one line of a terminal; undefined: there is none. */
  readonly showProgress: ((text: string) => void) | undefined;
  /** How a load process talks to its parent. */
  readonly parent: ParentChannel;
  readonly fail: () => void;
  readonly signal: () => AbortSignal;
}

/** Reads `30s`, `500ms`, `2m`. */
export type ParseDuration = (text: string) => number;

interface Preset {
  readonly description: string;
  /** What differs from the defaults of all scenarios. */
  readonly defaults: Readonly<Record<string, string>>;
}

const descriptions: Readonly<Record<ScenarioName, Preset>> = {
  heartbeat: { description: 'SendHeartbeat of users who are ONLINE', defaults: { rate: '5000' } },
  update: { description: 'SetUserStatus, each call a transition', defaults: { rate: '2000' } },
  query: { description: 'GetUserStatus', defaults: { rate: '5000' } },
  bulk: {
    description: 'GetMultipleUserStatus of --bulk-size users',
    defaults: { rate: '50', connections: '10' },
  },
  fanout: {
    description: 'users flip at --rate; --connections watchers see each flip',
    defaults: { rate: '2', connections: '1000' },
  },
  expiry: { description: '--users are lit and left alone; how late is OFFLINE seen', defaults: {} },
  sessions: {
    description: '--connections sessions opened at --rate, held for --duration',
    defaults: { rate: '500', connections: '1000' },
  },
  churn: { description: 'sessions that come at --rate and leave after --life', defaults: { rate: '100' } },
  storm: {
    description: '--connections sessions cut at once, and all back',
    defaults: { connections: '1000' },
  },
  mixed: {
    description: 'a social app: friends by a power law, a day of coming and going in --duration',
    defaults: { rate: '20', users: '1000' },
  },
};

/** The load tests that the specification asks for: `bench NAME` is the scenario with these options. */
export const presets: Readonly<
  Record<string, { scenario: ScenarioName; args: readonly string[]; about: string }>
> = {
  'spec-updates': {
    scenario: 'update',
    about: 'concurrent status updates of 10,000 users, each in less than 100 ms',
    args: ['--users', '10000', '--rate', '2000', '--expect', 'p99<100ms', '--expect', 'errors=0'],
  },
  'spec-bulk': {
    scenario: 'bulk',
    about: 'bulk queries of 1,000 of 10,000 users',
    args: ['--users', '10000', '--bulk-size', '1000', '--expect', 'p99<100ms', '--expect', 'errors=0'],
  },
  'spec-connections': {
    scenario: 'sessions',
    about: '10,000 WebSocket connections, none refused, none lost',
    args: [
      ...['--kind', 'websocket', '--connections', '10000', '--rate', '1000'],
      ...['--expect', 'open=10000', '--expect', 'lost=0'],
    ],
  },
  'spec-users': {
    scenario: 'mixed',
    about: '10,000 concurrent users of a social app, status updates in less than 100 ms',
    args: [
      ...['--users', '12000', '--rate', '100', '--duration', '30s'],
      ...['--expect', 'update.p99<100ms', '--expect', 'event.p99<100ms', '--expect', 'lost=0'],
    ],
  },
};

/** Adds `bench`, and the hidden command that a load process runs. */
export function addBenchCommands(program: Command, host: BenchHost, parseDuration: ParseDuration): void {
  const bench = program
    .command('bench')
    .description('Put load on a server and measure it: one command for each scenario.')
    .addHelpText(
      'after',
      '\nExample:\n  pilotlight bench heartbeat --address 127.0.0.1:50051 --expect "p99<50ms"',
    );
  const addOptions = (command: Command, preset: Preset): Command =>
    withOptions(command, preset, parseDuration).action((options: CommandOptions) =>
      benchCommand(host, command.name() as ScenarioName, options),
    );
  for (const name of scenarioNames) {
    addOptions(bench.command(name).description(descriptions[name].description), descriptions[name]);
  }
  for (const [name, { scenario, args, about }] of Object.entries(presets)) {
    bench
      .command(name)
      .description(`${about} (${scenario} ${args.join(' ')})`)
      .allowUnknownOption()
      .argument('[options...]')
      .helpOption(false)
      .action(async (more: string[]) => {
        // Later options win, except expectations: these add up.
        await bench.parseAsync([scenario, ...args, ...more], { from: 'user' });
      });
  }
  program
    .command('bench-load', { hidden: true })
    .description('One load process of bench; speaks to its parent only.')
    .action(() => runLoadProcess(host.parent));
}

interface CommandOptions {
  readonly address: { readonly host: string; readonly port: number };
  readonly httpPort: number;
  readonly users: number;
  readonly connections: number;
  readonly rate: number;
  readonly concurrency: number;
  readonly warmup: number;
  readonly duration: number;
  readonly bulkSize: number;
  readonly kind: SessionKind;
  readonly ttl: number;
  readonly heartbeat: number;
  readonly life: number;
  readonly watched?: number;
  readonly prefix: string;
  readonly processes: number;
  readonly header: readonly (readonly [string, string])[];
  readonly observe: readonly ObservedProcess[];
  readonly expect: readonly Expectation[];
  readonly json?: string | true;
  readonly html?: string;
}

function withOptions(command: Command, { defaults }: Preset, parseDuration: ParseDuration): Command {
  const duration = argument(parseDuration);
  const text = (name: string, fallback: string): string => defaults[name] ?? fallback;
  return command
    .option(
      '--address <host:port>',
      'gRPC address of the server',
      argument(parseAddress),
      parseAddress('127.0.0.1:50051'),
    )
    .option(
      '--http-port <port>',
      'HTTP port of the server, for WebSockets',
      argument(wholeNumber(1, 65_535)),
      8080,
    )
    .option('--users <n>', 'users', argument(wholeNumber(1, 10_000_000)), Number(text('users', '10000')))
    .option(
      '--connections <n>',
      'connections: for calls, or of watchers or sessions',
      argument(wholeNumber(1, 1_000_000)),
      Number(text('connections', '50')),
    )
    .option(
      '--rate <n>',
      'calls, flips or sessions begun per second; max: as many as are answered',
      argument(parseRate),
      Number(text('rate', '100')),
    )
    .option('--concurrency <n>', 'calls in flight with --rate max', argument(wholeNumber(1, 1_000_000)), 1000)
    .option('--warmup <duration>', 'load before anything counts', duration, 2000)
    .option('--duration <duration>', 'time that counts', duration, 10_000)
    .option('--bulk-size <n>', 'users of a bulk query', argument(wholeNumber(1, 100_000)), 1000)
    .option(
      '--kind <kind>',
      `of sessions and watchers: ${sessionKinds.join(', ')}`,
      argument(parseKind),
      'stream' as const,
    )
    .option('--ttl <duration>', "the server's USER_STATUS_TTL, for expiry", duration, 30_000)
    .option('--heartbeat <duration>', 'interval of heartbeats in mixed', duration, 15_000)
    .option('--life <duration>', 'of a session in churn', duration, 5000)
    .option(
      '--watched <n>',
      'users that each watcher of fanout watches; default: by the rate',
      argument(wholeNumber(1, 10_000)),
    )
    .option(
      '--prefix <text>',
      'goes before the number in user ids; default: one of its own for each run',
      `bench-${Date.now().toString(36)}`,
    )
    .option(
      '--processes <n>',
      'load processes',
      argument(wholeNumber(1, 64)),
      Math.max(1, Math.min(4, availableParallelism() - 1)),
    )
    .option('--header <name:value>', 'metadata of every call; may repeat', collect(parseHeader), [])
    .option(
      '--observe <name=pid>',
      'tell CPU and memory of a process of this machine; may repeat',
      collect((it) => new ObservedProcess(it)),
      [],
    )
    .option(
      '--expect <figure>',
      'fail unless it holds, such as p99<50ms, rate>8k, update.p99<100ms, lost=0; may repeat',
      collect(parseExpectation),
      [],
    )
    .option('--json [file]', 'all results as JSON, to a file or instead of the table')
    .option('--html <file>', 'report with charts');
}

async function benchCommand(host: BenchHost, scenario: ScenarioName, options: CommandOptions): Promise<void> {
  const load = loadOf(options);
  const startedAt = new Date().toISOString();
  let result: Awaited<ReturnType<typeof runLoad>>;
  try {
    result = await runLoad({
      scenario,
      load,
      processes: options.processes,
      observed: options.observe,
      fork: (): ChildProcess => fork(host.modulePath, ['bench-load']),
      onProgress: (progress) => host.showProgress?.(progressLine(progress)),
      signal: host.signal(),
    });
  } catch (error) {
    throw new CommandError(`${(error as Error).message} (${load.host}:${load.port})`);
  } finally {
    host.showProgress?.('');
  }
  const { metadata: _, ...shown } = load;
  const report: RunReport = {
    scenario,
    startedAt,
    command: `pilotlight ${host.args.filter((_arg, index) => host.args[index - 1] !== '--header').join(' ')}`,
    node: host.nodeVersion,
    machine: `${cpus().length} x ${cpus()[0]?.model.trim() ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    load: shown,
    processes: options.processes,
    result,
    clientLimits: clientLimits(result),
    verdicts: options.expect.map((expectation) => judge(expectation, result)),
  };
  const json = JSON.stringify(report, null, 1);
  if (options.json === true) host.print(json);
  else host.print(summary(report));
  if (typeof options.json === 'string') await writeFile(options.json, `${json}\n`);
  if (options.html !== undefined) await writeFile(options.html, htmlReport(report));
  if (report.verdicts.some(({ isMet }) => !isMet)) host.fail();
}

function loadOf(options: CommandOptions): LoadOptions {
  const { address, warmup, duration, ttl, heartbeat, life, header, rate } = options;
  return {
    host: address.host,
    port: address.port,
    httpPort: options.httpPort,
    metadata: header,
    prefix: options.prefix,
    users: options.users,
    connections: options.connections,
    rate,
    concurrency: options.concurrency,
    warmupMs: warmup,
    durationMs: duration,
    bulkSize: options.bulkSize,
    kind: options.kind,
    ttlMs: ttl,
    heartbeatMs: heartbeat,
    lifeMs: life,
    // A flip is told from the same user's flip before it up to four seconds later.
    watched: options.watched ?? Math.max(1, Math.ceil(2 * rate)),
  };
}

function progressLine({ share, done, errors, note }: Progress): string {
  const full = Math.round(share * 24);
  const bar = `${'█'.repeat(full)}${'░'.repeat(24 - full)}`;
  return `${bar}  ${done} done${errors > 0 ? `, ${errors} errors` : ''}${note === '' ? '' : `  ${note}`}`;
}

/** Lets commander tell what is wrong with an argument. */
function argument<Value>(parse: (text: string) => Value): (text: string) => Value {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError((error as Error).message);
    }
  };
}

function collect<Value>(parse: (text: string) => Value): (text: string, before: Value[]) => Value[] {
  const checked = argument(parse);
  return (text, before) => [...before, checked(text)];
}

function parseAddress(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/i.exec(text);
  if (!match) throw new Error('must be host:port');
  return { host: (match[1] ?? match[2]) as string, port: Number(match[3]) };
}

function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max)) throw new Error(`must be a whole number from ${min} to ${max}`);
    return value;
  };
}

function parseRate(text: string): number {
  if (text === 'max') return 0;
  const value = Number(text);
  if (!(value > 0 && value <= 10_000_000)) throw new Error('must be a number above 0, or max');
  return value;
}

function parseKind(text: string): SessionKind {
  const kind = sessionKinds.find((it) => it === text);
  if (!kind) throw new Error(`must be one of ${sessionKinds.join(', ')}`);
  return kind;
}

function parseHeader(text: string): readonly [string, string] {
  const match = /^([a-z0-9_.-]+):\s*(.+)$/.exec(text);
  if (!match) throw new Error('must be name:value, the name in lower case');
  return [match[1] as string, match[2] as string];
}
