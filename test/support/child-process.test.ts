/** What a test started ends with it, however it ended. */
import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import { describe, it } from 'node:test';
import { belongings } from './belongings.ts';
import { endProcess, runProcess, startProcess, temporaryFolder } from './child-process.ts';
import { waitFor } from './wait.ts';

const helper = new URL('child-process.ts', import.meta.url).href;

/** What this test leaves on purpose is no leftover of the run. */
const { PILOTLIGHT_TEST_RUN: _, ...env } = process.env;

/** A process that starts a Redis (which hides its environment), a shell with a child, and makes a folder; then does `rest`. */
const start = (rest: string) => `
  import { spawn } from 'node:child_process';
  import { startProcess, temporaryFolder } from '${helper}';
  const folder = temporaryFolder();
  const redis = startProcess('redis-server', ['--port', '0', '--unixsocket', folder + '/socket', '--dir', folder]);
  redis.stdout.once('data', () => {
    const shell = startProcess('sh', ['-c', 'sleep 1001 & exec sleep 1002']);
    const other = spawn('sleep', ['1003'], { detached: true, stdio: 'ignore' });
    console.log(JSON.stringify({ folder, owner: process.env.PILOTLIGHT_TEST_OWNER, pids: [redis.pid, shell.pid, other.pid] }));
    ${rest}
  });`;

interface Started {
  readonly folder: string;
  readonly owner: string;
  readonly pids: readonly number[];
}

async function startAndWait(rest: string) {
  const child = startProcess(process.execPath, ['--input-type=module', '-e', start(rest)], { env });
  let out = '';
  child.stdout.on('data', (data) => {
    out += data;
  });
  await waitFor('the processes', () => out.includes('\n'));
  return { child, ...(JSON.parse(out) as Started) };
}

async function assertGone({ folder, owner, pids }: Started): Promise<void> {
  await waitFor('the folder to be gone', () => !existsSync(folder));
  await waitFor('the processes to be gone', () => belongings(owner, folder).length === 0);
  // The system may take a while to end what was killed.
  for (const pid of pids) await waitFor(`the end of process ${pid}`, () => !isAlive(pid));
}

/** A process that has ended, and that nobody waited for, is not alive. */
function isAlive(pid: number): boolean {
  return belongings('', '').some((it) => it.pid === pid);
}

describe('processes and folders of a test', () => {
  for (const [how, rest] of [
    ['is killed', ''],
    ['throws', 'throw new Error("as planned");'],
    ['exits', 'process.exit(0);'],
  ] as const) {
    it(`end with it when it ${how}`, async () => {
      const started = await startAndWait(rest);
      if (rest === '') {
        for (const pid of started.pids) assert.ok(isAlive(pid), `process ${pid}`);
        await endProcess(started.child);
      }
      await assertGone(started);
    });
  }

  it('are missed by a process that ends in order and leaves a folder', async () => {
    const script = `import { temporaryFolder } from '${helper}'; temporaryFolder('forgotten');`;
    const { code, err } = await runProcess(process.execPath, ['--input-type=module', '-e', script], { env });
    assert.equal(code, 1);
    assert.match(err, /^left in .+: forgotten-/m);
  });

  it('end with their whole group', async () => {
    const folder = temporaryFolder();
    const child = startProcess('sh', ['-c', 'sleep 1004 & sleep 1005'], { cwd: folder });
    await waitFor('its children', () => belongings(folder, folder).length === 3);
    await endProcess(child);
    await waitFor('its children to be gone', () => belongings(folder, folder).length === 0);
    rmSync(folder, { recursive: true });
  });
});
