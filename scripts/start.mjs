// npm start: installs what is missing, then serves.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { ensureDashboard, ensurePackages, node, root } from './setup.mjs';

ensurePackages();
ensureDashboard();
const args = process.argv.slice(2);
const server = spawn(node, [join(root, 'src/main.ts'), ...(args.length > 0 ? args : ['serve'])], {
  stdio: 'inherit',
});
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => server.kill(signal));
server.on('exit', (code, signal) => {
  process.exitCode = signal ? 1 : code;
});
