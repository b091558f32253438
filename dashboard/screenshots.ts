/**
 * Takes the pictures in docs/images: two servers on one Redis, pretend users, and a browser.
 *
 *     node dashboard/screenshots.ts [seconds of life before the pictures; default 150]
 */
import { mkdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { BrowserContextOptions } from 'playwright-core';
import { demoCommand } from '../src/cli/demo-command.ts';
import { buildDashboard, launchBrowser } from '../test/support/browser.ts';
import { startServer } from '../test/support/pilotlight.ts';
import { RedisServer } from '../test/support/redis-server.ts';

const lifeSeconds = Number(process.argv[2] ?? 150);
const folder = fileURLToPath(new URL('../docs/images/', import.meta.url));
const wide = { width: 1280, height: 900 };

const pictures: [file: string, options: BrowserContextOptions][] = [
  ['dashboard-dark.png', { colorScheme: 'dark', viewport: wide }],
  ['dashboard-light.png', { colorScheme: 'light', viewport: wide }],
  ['dashboard-phone.png', { colorScheme: 'dark', viewport: { width: 390, height: 844 } }],
];

mkdirSync(folder, { recursive: true });
await buildDashboard();
const redis = await RedisServer.start(['--maxmemory', '512mb', '--maxmemory-policy', 'noeviction']);
const environment = {
  REDIS_URL: redis.url,
  USER_STATUS_TTL: '20s',
  HEARTBEAT_INTERVAL: '8s',
  DISCONNECT_GRACE: '1s',
};
const servers = await Promise.all([startServer(environment), startServer(environment)]);
const aborter = new AbortController();
const demos = servers.map((server, index) =>
  demoCommand(
    {
      address: `127.0.0.1:${server.grpcPort}`,
      json: false,
      colour: false,
      signal: aborter.signal,
      print: (line) => console.log(`demo ${index}: ${line}`),
    },
    { users: index === 0 ? 220 : 300, forMs: undefined },
  ),
);
const browser = await launchBrowser();
try {
  await sleep(lifeSeconds * 1000);
  for (const [file, options] of pictures) {
    const page = await browser.newPage(options);
    await page.goto(`${servers[0]?.httpUrl}/?user=grace.wren`);
    await page.locator('[data-link="live"]').waitFor();
    // A few lights come and go, and the latencies settle.
    await sleep(4000);
    await page.screenshot({ path: folder + file, fullPage: true });
    await page.close();
    console.log(file);
  }
} finally {
  aborter.abort();
  await browser.close();
  await Promise.all(demos);
  await Promise.all(servers.map((server) => server.stop()));
  await redis.stop();
}
