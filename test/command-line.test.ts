/** The command line as a user runs it: real processes. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { endProcess, startProcess } from './support/child-process.ts';
import { waitFor } from './support/wait.ts';

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));

interface Run {
  readonly child: ChildProcess;
  readonly out: () => string;
  readonly err: () => string;
  readonly exit: Promise<number | null>;
}

function pilotlight(args: readonly string[], environment: Record<string, string> = {}): Run {
  const child = startProcess(process.execPath, [main, ...args], { env: { ...process.env, ...environment } });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    err += chunk;
  });
  const exit = once(child, 'close').then(([code]) => code as number | null);
  return { child, out: () => out, err: () => err, exit };
}

describe('command line', () => {
  let server: Run;
  let address: string;

  before(async () => {
    server = pilotlight(['serve'], { GRPC_PORT: '0', HTTP_PORT: '0' });
    await waitFor('the ready line', () => server.out().includes('\n'));
    address = `127.0.0.1:${/gRPC on 127\.0\.0\.1:(\d+)/.exec(server.out())?.[1]}`;
  });
  after(() => endProcess(server.child));

  const client = async (...args: string[]) => {
    const run = pilotlight([...args, '--address', address]);
    return { code: await run.exit, out: run.out(), err: run.err() };
  };

  it('says when it is ready, and where', () => {
    assert.match(
      server.out(),
      /^Pilotlight \S+ is ready: gRPC on 127\.0\.0\.1:\d+, HTTP on 127\.0\.0\.1:\d+, memory engine\n$/,
    );
  });

  it('sets, gets, heartbeats and watches', async () => {
    const watch = pilotlight(['watch', 'ada', 'bob', '--json', '--address', address]);
    await waitFor('the snapshots', () => watch.out().split('\n').length === 3);
    assert.match((await client('set', 'ada', 'online')).out, /^ada {2}● ONLINE active {2}last seen 20/);
    assert.match(
      (await client('heartbeat', 'bob')).out,
      /^bob is alive; the next heartbeat is due in 15000 ms\n$/,
    );
    assert.match((await client('set', 'ada', 'OFFLINE')).out, /^ada {2}○ OFFLINE/);
    assert.match((await client('heartbeat', 'ada')).out, /signed out a moment ago/);
    const { out } = await client('get', 'ada', 'bob', 'zoe', '--json');
    const states = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { userId: string; status: string });
    assert.deepEqual(
      states.map(({ userId, status }) => `${userId} ${status}`),
      ['ada OFFLINE', 'bob ONLINE', 'zoe OFFLINE'],
    );
    await waitFor('all events', () => watch.out().split('\n').length === 6);
    watch.child.kill('SIGINT');
    assert.equal(await watch.exit, 0);
    const events = watch
      .out()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      events.slice(2).map(({ userId, status, cause }) => `${userId} ${status} ${cause}`),
      ['ada ONLINE CAUSE_SET', 'bob ONLINE CAUSE_HEARTBEAT', 'ada OFFLINE CAUSE_SET'],
    );
  });

  it('goes on with --every until interrupted', async () => {
    const beats = pilotlight(['heartbeat', 'eve', '--every', '100ms', '--address', address]);
    await waitFor('three heartbeats', () => beats.out().split('\n').length > 3);
    beats.child.kill('SIGINT');
    assert.equal(await beats.exit, 0);
  });

  it('fails with one sentence and exit code 1', async () => {
    for (const [args, message] of [
      [['set', 'ada', 'dancing'], /^pilotlight: the status must be online or offline, not dancing\n$/],
      [['get', ''], /^pilotlight: user_ids\[0\] must not be empty \(InvalidArgument\)\n$/],
    ] as const) {
      const { code, err } = await client(...args);
      assert.equal(code, 1);
      assert.match(err, message);
    }
    const unreachable = pilotlight(['get', 'ada', '--address', '127.0.0.1:1']);
    assert.equal(await unreachable.exit, 1);
    assert.match(
      unreachable.err(),
      /^pilotlight: no server answers at 127\.0\.0\.1:1; start one with: pilotlight serve\n$/,
    );
  });

  it('gives help with an example for each command', async () => {
    const help = pilotlight(['--help']);
    assert.equal(await help.exit, 0);
    const commands = [...help.out().matchAll(/^ {2}(\w+)/gm)].map(([, name]) => name as string);
    for (const command of commands.filter((name) => name !== 'help' && name !== 'pilotlight')) {
      const run = pilotlight([command, '--help']);
      assert.equal(await run.exit, 0);
      assert.match(run.out(), new RegExp(`Example:\\n {2}.*pilotlight ${command}`), command);
    }
  });

  it('stops the start with every problem of the configuration', async () => {
    const run = pilotlight(['serve'], { USER_STATUS_TTL: 'soon', GRPC_PORT: '99999' });
    assert.equal(await run.exit, 1);
    assert.match(
      run.err(),
      /2 problems:\n {2}USER_STATUS_TTL must be a duration.*\n {2}GRPC_PORT must be a whole number/,
    );
    assert.equal(run.out(), '');
  });

  it('says when a port is taken', async () => {
    const run = pilotlight(['serve'], { GRPC_PORT: address.split(':')[1] as string, HTTP_PORT: '0' });
    assert.equal(await run.exit, 1);
    assert.match(run.err(), /^pilotlight: port \d+ is taken; choose another with GRPC_PORT or HTTP_PORT$/m);
  });

  it('stops gracefully on SIGTERM', async () => {
    const own = pilotlight(['serve'], { GRPC_PORT: '0', HTTP_PORT: '0' });
    await waitFor('the ready line', () => own.out().includes('\n'));
    own.child.kill('SIGTERM');
    assert.equal(await own.exit, 0);
  });
});
