import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium } from 'playwright-core';
import { keepProcesses, runProcess } from './child-process.ts';

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** A real Chromium without a window. */
export async function launchBrowser(): Promise<Browser> {
  if (!existsSync(executablePath)) {
    throw new Error('chromium does not start; install the Debian package chromium');
  }
  keepProcesses();
  return chromium.launch({
    executablePath,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });
}

/**
 * Has the server the dashboard as it is now to serve. What is built of the present sources stays untouched: other tests
 * are served from the same folder meanwhile.
 */
export async function buildDashboard(): Promise<void> {
  const cwd = fileURLToPath(new URL('../..', import.meta.url));
  const script = `import { ensureDashboard } from './scripts/setup.mjs'; ensureDashboard();`;
  const { code, err } = await runProcess(process.execPath, ['--input-type=module', '-e', script], { cwd });
  if (code !== 0) throw new Error(`the dashboard does not build: ${err}`);
}
