// What `npm start` and `npm test` need before they can run. Plain JavaScript for Node 20, no dependencies: it runs
// before there are any.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));

/** The Node that the project runs on: pinned by the lockfile, whatever the machine has. */
export const node = join(root, 'node_modules', '.bin', 'node');

const say = (sentence) => process.stderr.write(`pilotlight: ${sentence}\n`);

/** Ends the process with one sentence. */
export function fail(sentence) {
  say(sentence);
  process.exit(1);
}

/** Runs a program of the project, and ends the process with its exit code if it fails. */
export function run(what, program, args, options = {}) {
  say(what);
  const env = {
    ...process.env,
    PATH: `${join(root, 'node_modules', '.bin')}${delimiter}${process.env.PATH}`,
  };
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: 'inherit', env, ...options });
  if (error) fail(`${what} failed: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

/** Installs the locked npm packages, unless they are there already. */
export function ensurePackages() {
  if (Number.parseInt(process.versions.node, 10) < 20)
    fail(`Node 20 or newer is needed, this is ${process.version}`);
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  const stamp = join(root, 'node_modules', '.pilotlight-lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  run('installing npm packages (once)', 'npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
  if (!existsSync(node)) fail('the npm package node brought no binary; are install scripts switched off?');
  writeFileSync(stamp, lock);
}

/** Installs Debian packages whose programs are missing: { program: package }. */
export function ensurePrograms(programs) {
  const missing = Object.keys(programs).filter((program) => !isOnPath(program));
  if (missing.length === 0) return;
  const packages = missing.map((program) => programs[program]);
  if (process.getuid?.() !== 0 || !isOnPath('apt-get')) {
    fail(
      `${missing.join(', ')} not found; install the Debian packages: apt-get install ${packages.join(' ')}`,
    );
  }
  // A server that a package brings must not start by itself: tests start their own.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const quiet = { env, stdio: ['ignore', 'ignore', 'inherit'] };
  run('updating the Debian package lists', 'apt-get', ['update', '-qq'], quiet);
  run(
    `installing ${packages.join(', ')}`,
    'apt-get',
    ['install', '-y', '-qq', '--no-install-recommends', ...packages],
    quiet,
  );
}

function isOnPath(program) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
