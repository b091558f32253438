// npm start: installs what is missing, then serves.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensureDashboard, ensurePackages, node, root } from './setup.mjs';

/** How often this process looks whether npm is still there, ms. */
const parentIntervalMs = 500;

const started = ancestors();
ensurePackages();
ensureDashboard();
const args = process.argv.slice(2);
// The channel breaks with this process, however it ends, and the server stops then.
const server = spawn(node, [join(root, 'src/main.ts'), ...(args.length > 0 ? args : ['serve'])], {
  stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
});
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => server.kill(signal));
// npm runs this through a shell, which passes no signal on. Without npm it may be left in the background.
if (process.env.npm_lifecycle_event !== undefined) {
  const timer = setInterval(() => {
    if (ancestors() === started) return;
    clearInterval(timer);
    server.kill('SIGTERM');
  }, parentIntervalMs);
  timer.unref();
}
server.on('exit', (code, signal) => {
  process.exitCode = signal ? 1 : code;
});

/** The shell that npm started, and npm itself where the system tells of it. */
function ancestors() {
  try {
    return `${process.ppid} ${/\) \w (\d+)/.exec(readFileSync(`/proc/${process.ppid}/stat`, 'utf8'))?.[1]}`;
  } catch {
    return String(process.ppid);
  }
}
