/** Loaded into each test file's process before the file: what the runner cannot see from outside. */
import { mkdirSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { isMainThread } from 'node:worker_threads';

/** Time to close what is open once the last test has ended. */
const closeMs = 15_000;
const runFolder = process.env.PILOTLIGHT_TEST_RUN;
const file = process.argv[1] ?? '';

// Workers and forked processes of a test inherit the option that loads this.
if (isMainThread && runFolder !== undefined && process.env.PILOTLIGHT_TEST_FILE === undefined) {
  process.env.PILOTLIGHT_TEST_FILE = file;
  const own = join(runFolder, 'files', String(process.pid));
  // All temporary files of the test and its programs. Short: a Unix socket's path has at most 107 characters.
  const temporary = join(runFolder, 'temporary', String(process.pid));
  mkdirSync(temporary, { recursive: true });
  process.env.TMPDIR = temporary;
  // npm would leave its cache there.
  process.env.NODE_DISABLE_COMPILE_CACHE = '1';

  const fail = (why) => {
    process.stderr.write(`${file} ${why}\n`);
    process.exitCode = 1;
  };
  const failStillOpen = (when) => {
    fail(`still runs ${when}; open: ${process.getActiveResourcesInfo().join(', ') || 'nothing'}`);
    process.exit();
  };
  process.on('SIGUSR2', () => failStillOpen('at its time limit'));
  // From now on the runner knows the process, and may ask it.
  writeFileSync(own, file);
  after(() => setTimeout(failStillOpen, closeMs, `${closeMs} ms after its last test`).unref());
  process.on('exit', () => {
    const left = readdirSync(temporary);
    // Hooks that clean up may not have run after a failure.
    if (left.length === 0) rmdirSync(temporary);
    else if (!process.exitCode) fail(`left temporary files: ${left.join(', ')}`);
    rmSync(own);
  });
}
