/** The runner, on test files that go wrong in every way that looks like success. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { belongings } from '../support/belongings.ts';
import { endProcess, runProcess, startProcess, temporaryFolder } from '../support/child-process.ts';
import { waitFor } from '../support/wait.ts';

const runner = fileURLToPath(new URL('run-tests.ts', import.meta.url));
const helper = new URL('../support/child-process.ts', import.meta.url).href;

const head = `import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startProcess, temporaryFolder } from '${helper}';
`;
const first = `describe('first', () => { it('one', () => {}); it('two', async () => { await sleep(10); }); });\n`;
const second = `describe('second', () => { it('three', () => {}); it('four', () => {}); });\n`;

/** What a file with four tests may become, and what the run must say. */
const faults: readonly (readonly [name: string, text: string, says: RegExp])[] = [
  ['loses its last half', first, /ran 2 tests, test\/counts\.json says 4/],
  ['is not there', '', /did not run/],
  ['exits at once', `process.exit(0);\n${first}${second}`, /ended before its tests did/],
  ['exits in the middle', `${first}it('x', () => process.exit(0));\n${second}`, /ended before its tests did/],
  ['exits in a hook', `${first}after(() => process.exit(0));\n${second}`, /ended before its tests did/],
  ['throws at load', `${first}throw new Error('at load');\n${second}`, /at load/],
  [
    'is killed',
    `${first}it('x', () => process.kill(process.pid, 'SIGKILL'));\n${second}`,
    /ended before its tests did/,
  ],
  ['throws after its tests', `${first}${second}setTimeout(() => { throw new Error('late'); }, 100);`, /late/],
  ['never ends a test', `${first}it('x', () => new Promise(() => {}));\n`, /still runs at its time limit/],
  ['never yields', `${first}it('x', () => { for (;;); });\n`, /was killed at its time limit/],
  [
    'never closes a handle',
    `${first}${second}setInterval(() => {}, 1000);`,
    /at its time limit; open: .*Timeout/,
  ],
  [
    'skips a suite',
    `${first}describe.skip('second', () => { it('three', () => {}); });`,
    /skips the suite second/,
  ],
  [
    'leaves a process',
    `${first}${second}after(() => startProcess('sleep', ['2001'], { stdio: 'ignore' }).unref());`,
    /left processes behind/,
  ],
  ['leaves a folder', `${first}${second}after(() => { temporaryFolder('lost'); });`, /left in .*: lost-/],
  [
    'leaves a temporary file',
    `${first}${second}after(async () => {
      const { mkdtempSync } = await import('node:fs');
      const { tmpdir } = await import('node:os');
      mkdtempSync(tmpdir() + '/lost-');
    });`,
    /left temporary files: lost-/,
  ],
];

describe('the test runner', () => {
  const {
    PILOTLIGHT_TEST_RUN: _run,
    PILOTLIGHT_TEST_FILE: _file,
    NODE_TEST_CONTEXT: _context,
    ...env
  } = process.env;
  let folder: string;

  before(() => {
    folder = temporaryFolder('project');
  });
  after(() => rmSync(folder, { recursive: true }));

  /** A project with one test file, which had four tests once. */
  function project(name: string, text: string): string {
    const cwd = join(folder, name.replaceAll(' ', '-'));
    mkdirSync(join(cwd, 'test'), { recursive: true });
    writeFileSync(join(cwd, 'package.json'), '{ "type": "module" }');
    writeFileSync(join(cwd, 'test', 'counts.json'), '{ "test/some.test.ts": 4 }');
    if (text !== '') writeFileSync(join(cwd, 'test', 'some.test.ts'), head + text);
    return cwd;
  }
  const run = (cwd: string, ...args: string[]) =>
    runProcess(process.execPath, [runner, ...args], { cwd, env });

  it('passes a file that has all its tests, and closes with the figures', async () => {
    const cwd = project('good', first + second);
    const { code, out, err } = await run(cwd);
    assert.equal(code, 0, out + err);
    assert.match(out, /ℹ tests 4\nℹ suites 2\nℹ pass 4\nℹ fail 0\n.*\n.*\n.*\nℹ duration_ms \S+\n$/);
    assert.deepEqual(belongings(cwd, cwd), []);
  });

  it('learns new counts when asked to', async () => {
    const cwd = project('learns', first);
    assert.equal((await run(cwd, 'test/some.test.ts')).code, 1);
    assert.equal((await run(cwd, '--update', 'test/some.test.ts')).code, 0);
    assert.equal((await run(cwd)).code, 0);
  });

  describe('fails when a file', { concurrency: 4 }, () => {
    for (const [name, text, says] of faults) {
      it(name, async () => {
        const limit = name.startsWith('never') ? ['--time-limit-ms', '5000'] : [];
        const { code, out, err } = await run(project(name, text), ...limit);
        assert.equal(code, 1, out + err);
        assert.match(out + err, says);
        assert.doesNotMatch(out, /^ℹ fail 0$/m);
      });
    }
  });

  it('leaves nothing when it is killed', async () => {
    const cwd = project(
      'killed',
      `it('x', async () => { startProcess('sleep', ['2002'], { cwd: '.' }); await sleep(1e6); });`,
    );
    const child = startProcess(process.execPath, [runner], { cwd, env });
    const sleeps = () => belongings(cwd, cwd).some(({ command }) => command === 'sleep 2002');
    await waitFor('the test to run', sleeps);
    await endProcess(child);
    await waitFor('its processes to be gone', () => belongings(cwd, cwd).length === 0);
  });

  it('ends with the process that started it', async () => {
    const cwd = project('orphan', `it('x', () => sleep(1e6));`);
    const start = `require('child_process').spawn(process.execPath, ${JSON.stringify([runner])}, { detached: true })`;
    const child = startProcess(process.execPath, ['-e', start], { cwd, env });
    const tests = () => belongings(cwd, cwd).some(({ command }) => command.endsWith('some.test.ts'));
    await waitFor('the test to run', tests);
    await endProcess(child);
    await waitFor('its processes to be gone', () => belongings(cwd, cwd).length === 0);
  });
});
