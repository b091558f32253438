/** How a server ends that was started by `npm start`: whichever of the processes above it is told, or is gone. */
import assert from 'node:assert/strict';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { endProcess, startProcess } from './support/child-process.ts';
import { waitFor } from './support/wait.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const environment = { ...process.env, GRPC_PORT: '0', HTTP_PORT: '0' };

interface Started {
  readonly child: ChildProcessWithoutNullStreams;
  readonly out: () => string;
}

async function start(program: string, args: readonly string[]): Promise<Started> {
  const child = startProcess(program, args, { cwd: root, env: environment });
  let out = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      out += chunk;
    });
  }
  await waitFor('the ready line', () => out.includes('is ready'), 60_000);
  return { child, out: () => out };
}

/** The process with this in its command line, among those below `ancestor`. */
function below(ancestor: number, command: string): number {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => parentOf(pid) === ancestor);
  for (const pid of children) {
    if (read(pid, 'cmdline').includes(command) && !read(pid, 'cmdline').startsWith('sh\0')) return pid;
    const found = below(pid, command);
    if (found !== 0) return found;
  }
  return 0;
}

function parentOf(pid: number): number {
  return Number(
    read(pid, 'stat')
      .split(/\) \w /)[1]
      ?.split(' ')[0],
  );
}

function read(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return '';
  }
}

const isRunning = (pid: number) => read(pid, 'cmdline') !== '';

describe('npm start', { skip: process.platform !== 'linux', concurrency: true }, () => {
  const told: readonly [who: string, signal: NodeJS.Signals, pidOf: (npm: number) => number][] = [
    ['npm', 'SIGTERM', (npm) => npm],
    ['scripts/start.mjs', 'SIGTERM', (npm) => below(npm, 'scripts/start.mjs')],
    ['npm', 'SIGKILL', (npm) => npm],
    ['scripts/start.mjs', 'SIGKILL', (npm) => below(npm, 'scripts/start.mjs')],
  ];
  for (const [who, signal, pidOf] of told) {
    it(`stops its server in order after ${signal} to ${who}`, { timeout: 120_000 }, async () => {
      // The shell stays: with it its whole group would be killed, by the test's own rules.
      const { child, out } = await start('sh', ['-c', 'npm start; sleep 60']);
      try {
        const npm = below(child.pid as number, 'npm');
        const server = below(npm, 'src/main.ts');
        assert.ok(npm > 0 && server > 0);
        process.kill(pidOf(npm), signal);
        await waitFor('the end of the server', () => !isRunning(server), 20_000);
        // What it wrote may come after its end.
        await waitFor('its last line', () => out().includes('"msg":"stopped"'));
        assert.match(out(), /"msg":"stopping: open calls may end/);
      } finally {
        await endProcess(child);
      }
    });
  }
});

describe('a stopped server', () => {
  it('leaves no timer behind: its process ends at once', async () => {
    const { child, out } = await start(process.execPath, [main, 'serve']);
    try {
      child.kill('SIGTERM');
      await waitFor('the last line', () => out().includes('"msg":"stopped"'), 20_000);
      const stoppedMs = performance.now();
      const [code] = await once(child, 'exit');
      assert.equal(code, 0);
      // The timer was of 5 s.
      assert.ok(performance.now() - stoppedMs < 4000);
    } finally {
      await endProcess(child);
    }
  });
});
