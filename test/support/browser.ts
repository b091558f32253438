import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium } from 'playwright-core';
import { build } from 'vite';
import { keepProcesses } from './child-process.ts';

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

/** Builds the dashboard as it is now, so that the server has it to serve. */
export async function buildDashboard(): Promise<void> {
  const root = fileURLToPath(new URL('../../dashboard', import.meta.url));
  await build({ root, configFile: `${root}/vite.config.ts`, logLevel: 'warn' });
}
