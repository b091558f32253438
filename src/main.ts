/** The command line; the only user of `process`. */
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import { addBenchCommands, type BenchHost } from './cli/bench/command.ts';
import {
  type CommandContext,
  CommandError,
  deleteCommand,
  getCommand,
  heartbeatCommand,
  setCommand,
  watchCommand,
} from './cli/client-commands.ts';
import { demoCommand, maxDemoUsers } from './cli/demo-command.ts';
import { plainTokenWarning } from './cli/printable.ts';
import { topCommand } from './cli/top-command.ts';
import { ConfigError, parseDuration, readConfig } from './config.ts';
import { createLog } from './observe/log.ts';
import { Server } from './server.ts';
import { version } from './version.ts';

async function serve(): Promise<void> {
  const config = readConfig(process.env);
  const log = createLog(config.logLevel);
  const server = new Server(config, log);
  const stopped = Promise.race([interrupted(), orphaned()]).then((reason) => {
    log.info({ reason }, 'stopping: open calls may end, leases are left to run');
    return server.stop();
  });
  const { grpc, http } = await server.start();
  process.stdout.write(
    `Pilotlight ${version} is ready: gRPC on ${grpc.host}:${grpc.port}, HTTP on ${http.host}:${http.port}, ${server.engine} engine\n`,
  );
  await stopped;
}

/** The first SIGTERM or SIGINT; a second ends the process at once, as the system would. */
function interrupted(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve(signal));
  });
}

/** The end of the process that started this one with a channel, as `npm start` does: nobody else would stop the server. */
function orphaned(): Promise<'orphaned'> {
  return new Promise((resolve) => {
    process.once('disconnect', () => resolve('orphaned'));
    process.channel?.unref();
  });
}

function contextSignal(): AbortSignal {
  const aborter = new AbortController();
  void interrupted().then(() => aborter.abort());
  return aborter.signal;
}

function contextOf(command: Command): CommandContext {
  const { address, url, json } = command.optsWithGlobals<{ address: string; url?: string; json?: boolean }>();
  const warning = plainTokenWarning(url ?? address, process.env.PILOTLIGHT_TOKEN);
  if (warning) process.stderr.write(`pilotlight: ${warning}\n`);
  return {
    address,
    token: process.env.PILOTLIGHT_TOKEN,
    json: json ?? false,
    colour: process.stdout.isTTY && process.env.NO_COLOR === undefined,
    signal: contextSignal(),
    print: (line) => process.stdout.write(`${line}\n`),
  };
}

function usersOption(text: string): number {
  const count = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > maxDemoUsers) throw new InvalidArgumentError(`must be 1 to ${maxDemoUsers}`);
  return count;
}

function everyOption(text: string): number {
  try {
    return parseDuration(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

function clientCommand(program: Command, usage: string, description: string, example: string): Command {
  return program
    .command(usage)
    .description(description)
    .option(
      '--address <host:port>',
      'gRPC address of the server, or its URL (https://...); PILOTLIGHT_TOKEN is sent to it',
      '127.0.0.1:50051',
    )
    .option('--json', 'one JSON object per line')
    .addHelpText('after', `\nExample:\n  ${example}`);
}

function createProgram(): Command {
  const program = new Command('pilotlight')
    .description('Real-time user presence: who is online, told to everyone who watches.')
    .version(version)
    .addHelpText('after', '\nExample:\n  pilotlight serve');

  program
    .command('serve')
    .description('Run a server, configured by environment variables (docs/configuration.md).')
    .addHelpText(
      'after',
      '\nExample:\n  REDIS_URL=redis://localhost:6379 USER_STATUS_TTL=30s pilotlight serve',
    )
    .action(serve);

  clientCommand(program, 'set', 'Set a user online or offline.', 'pilotlight set ada online')
    .argument('<id>', 'the user')
    .argument('<status>', 'online or offline')
    .action((id: string, status: string, _options, command: Command) =>
      setCommand(contextOf(command), id, status),
    );

  clientCommand(program, 'get', 'Show the status of users.', 'pilotlight get ada grace')
    .argument('<id...>', 'the users')
    .action((ids: string[], _options, command: Command) => getCommand(contextOf(command), ids));

  clientCommand(program, 'delete', 'Delete everything stored about a user.', 'pilotlight delete ada')
    .argument('<id>', 'the user')
    .action((id: string, _options, command: Command) => deleteCommand(contextOf(command), id));

  clientCommand(program, 'heartbeat', 'Say that a user is alive.', 'pilotlight heartbeat ada --every 15s')
    .argument('<id>', 'the user')
    .option('--every <duration>', 'go on, once every 15s, 500ms, 2m ...', everyOption)
    .action((id: string, options: { every?: number }, command: Command) =>
      heartbeatCommand(contextOf(command), id, options.every),
    );

  clientCommand(program, 'watch', 'Watch users live, a line for each event.', 'pilotlight watch ada grace')
    .argument('<id...>', 'the users')
    .action((ids: string[], _options, command: Command) => watchCommand(contextOf(command), ids));

  clientCommand(
    program,
    'demo',
    'Drive pretend users who come and go, so that there is something to see.',
    'pilotlight demo --users 300 --for 10m',
  )
    .option('--users <number>', `how many, 1 to ${maxDemoUsers}`, usersOption, 240)
    .option('--for <duration>', 'stop after 30s, 5m ...; default: when interrupted', everyOption)
    .action((options: { users: number; for?: number }, command: Command) =>
      demoCommand(contextOf(command), { users: options.users, forMs: options.for }),
    );

  program
    .command('top')
    .description('Show the whole system at a glance, once a second.')
    .option('--url <url>', 'HTTP address of a server', 'http://127.0.0.1:8080')
    .option('--once', 'one look, then the end')
    .option('--json', 'one JSON object per line')
    .addHelpText('after', '\nExample:\n  pilotlight top --url http://127.0.0.1:8080')
    .action((options: { url: string; once?: boolean }, command: Command) =>
      topCommand(contextOf(command), {
        url: options.url,
        once: options.once ?? false,
        columns: process.stdout.isTTY ? process.stdout.columns : undefined,
      }),
    );

  addBenchCommands(program, benchHost(), parseDuration);
  return program;
}

/** The load generator's way to the process: it starts this module again as its load processes. */
function benchHost(): BenchHost {
  const { stderr } = process;
  return {
    modulePath: fileURLToPath(import.meta.url),
    args: process.argv.slice(2),
    nodeVersion: process.version,
    print: (text) => process.stdout.write(`${text}\n`),
    showProgress: stderr.isTTY ? (text) => stderr.write(`\r\x1b[K${text}`) : undefined,
    parent: {
      send: (message) => {
        // Where the parent is gone, nobody waits for this process any more.
        if (process.connected) process.send?.(message, (error: Error | null) => error && process.exit(1));
      },
      onMessage: (listener) => {
        process.on('message', listener);
        process.once('disconnect', () => process.exit());
      },
    },
    fail: () => {
      process.exitCode = 1;
    },
    signal: () => contextSignal(),
  };
}

try {
  await createProgram().parseAsync();
} catch (error) {
  const isExpected = error instanceof ConfigError || error instanceof CommandError;
  process.stderr.write(`pilotlight: ${isExpected ? error.message : startProblem(error as Error)}\n`);
  process.exitCode = 1;
}

function startProblem(error: NodeJS.ErrnoException & { port?: number }): string {
  if (error.code === 'EADDRINUSE')
    return `port ${error.port} is taken; choose another with GRPC_PORT or HTTP_PORT`;
  if (error.code === 'EADDRNOTAVAIL') return 'HOST is no address of this machine';
  return error.message;
}
