/**
 * Takes the pictures in docs/images: two servers on one Redis, pretend users, and a browser.
 *
 *     node dashboard/screenshots.ts [seconds of life before the pictures; default 150]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { BrowserContextOptions } from 'playwright-core';
import { buildDashboard, launchBrowser } from '../test/support/browser.ts';
import { RedisServer } from '../test/support/redis-server.ts';

const lifeSeconds = Number(process.argv[2] ?? 150);
const folder = fileURLToPath(new URL('../docs/images/', import.meta.url));
const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const wide = { width: 1280, height: 900 };

const pictures: [file: string, options: BrowserContextOptions][] = [
  ['dashboard-dark.png', { colorScheme: 'dark', viewport: wide }],
  ['dashboard-light.png', { colorScheme: 'light', viewport: wide }],
  ['dashboard-phone.png', { colorScheme: 'dark', viewport: { width: 390, height: 844 } }],
];
const children: ChildProcess[] = [];

function pilotlight(args: readonly string[], environment: Record<string, string> = {}): ChildProcess {
  const options = { env: { ...process.env, ...environment } };
  const child = spawn(process.execPath, [main, ...args], {
    ...options,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  return child;
}

/** A server as its users run it. @returns its gRPC and HTTP addresses */
async function serve(environment: Record<string, string>): Promise<[grpc: string, http: string]> {
  const child = pilotlight(['serve'], { ...environment, GRPC_PORT: '0', HTTP_PORT: '0', LOG_LEVEL: 'error' });
  const [line] = await once(child.stdout as NodeJS.ReadableStream, 'data');
  const [, grpc, http] = /gRPC on (\S+), HTTP on (\S+),/.exec(String(line)) as RegExpExecArray;
  return [grpc as string, http as string];
}

mkdirSync(folder, { recursive: true });
await buildDashboard();
const redis = await RedisServer.start(['--maxmemory', '512mb', '--maxmemory-policy', 'noeviction']);
const environment = {
  REDIS_URL: redis.url,
  USER_STATUS_TTL: '20s',
  HEARTBEAT_INTERVAL: '8s',
  DISCONNECT_GRACE: '1s',
};
const browser = await launchBrowser();
try {
  const [, http] = await serve(environment);
  const [otherGrpc] = await serve(environment);
  pilotlight(['demo', '--address', otherGrpc, '--users', '280']);
  await sleep(lifeSeconds * 1000);
  for (const [file, options] of pictures) {
    const page = await browser.newPage(options);
    await page.goto(`http://${http}/?user=grace.wren`);
    await page.locator('[data-link="live"]').waitFor();
    // A few lights come and go.
    await sleep(4000);
    await page.screenshot({ path: folder + file, fullPage: true });
    await page.close();
    console.log(file);
  }
} finally {
  await browser.close();
  for (const child of children) child.kill('SIGKILL');
  await redis.stop();
}
