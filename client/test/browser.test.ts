/** The client in a real Chromium: reloads, tabs, goodbye. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Activity } from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { Browser, Page } from 'playwright-core';
import { build, type Rolldown } from 'vite';
import { launchBrowser } from '../../test/support/browser.ts';
import { startServer, type TestServer, Watcher } from '../../test/support/pilotlight.ts';
import { RedisServer } from '../../test/support/redis-server.ts';
import { waitFor } from '../../test/support/wait.ts';

const entry = fileURLToPath(new URL('./support/browser-page.ts', import.meta.url));

async function pageScript(): Promise<string> {
  const result = await build({
    configFile: false,
    logLevel: 'silent',
    build: { write: false, lib: { entry, formats: ['es'] } },
  });
  const [output] = (result as Rolldown.RolldownOutput[])[0]?.output ?? [];
  assert.ok(output);
  return output.code;
}

describe('client in Chromium', () => {
  let redis: RedisServer;
  let servers: TestServer[];
  let pages: Server;
  let pageUrl: string;
  let browser: Browser;
  const watchers: Watcher[] = [];

  before(async () => {
    const script = await pageScript();
    pages = createServer((request, response) => {
      const isScript = request.url === '/page.js';
      response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
      response.end(isScript ? script : '<!doctype html><script type="module" src="/page.js"></script>');
    }).listen(0, '127.0.0.1');
    await once(pages, 'listening');
    pageUrl = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
    redis = await RedisServer.start();
    const environment = {
      REDIS_URL: redis.url,
      USER_STATUS_TTL: '20s',
      DISCONNECT_GRACE: '6s',
      ALLOWED_ORIGINS: pageUrl,
      DRAIN_TIMEOUT: '200ms',
    };
    servers = [await startServer(environment), await startServer(environment)];
    browser = await launchBrowser();
  });
  after(async () => {
    await browser?.close();
    for (const watcher of watchers) await watcher.stop();
    for (const server of servers) await server.stop();
    await redis.stop();
    pages.close();
  });

  async function open(userId: string, node = 0): Promise<Page> {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(
      `${pageUrl}/?user=${userId}&server=${encodeURIComponent((servers[node] as TestServer).httpUrl)}`,
    );
    await page.waitForFunction('document.title === "open"');
    return page;
  }
  function watch(userId: string): Watcher {
    const watcher = new Watcher((servers[1] as TestServer).client, [userId]);
    watchers.push(watcher);
    return watcher;
  }

  it('reloads without a flicker, and says goodbye when it goes', async () => {
    const watcher = watch('ada');
    await watcher.sees('ada', '[OFFLINE]');
    const page = await open('ada');
    await watcher.sees('ada', '[OFFLINE] ONLINE');
    for (let round = 0; round < 3; round++) {
      await page.reload();
      await page.waitForFunction('document.title === "open"');
    }
    await sleep(2000);
    assert.equal(watcher.story('ada'), '[OFFLINE] ONLINE');
    const { connections } = await (servers[0] as TestServer).client.getConnections({ userId: 'ada' });
    assert.equal(connections.length, 1, 'the pages before said goodbye');
    await page.goto('about:blank');
    await watcher.sees('ada', '[OFFLINE] ONLINE OFFLINE');
    await page.context().close();
  });

  it('of two tabs on different nodes the last one decides', async () => {
    const watcher = watch('bob');
    await watcher.sees('bob', '[OFFLINE]');
    const [first, second] = [await open('bob', 0), await open('bob', 1)];
    await watcher.sees('bob', '[OFFLINE] ONLINE');
    await first.context().close();
    await sleep(2000);
    assert.equal(watcher.story('bob'), '[OFFLINE] ONLINE');
    await second.context().close();
    await watcher.sees('bob', '[OFFLINE] ONLINE OFFLINE');
  });

  it('tells of input and of its lack, and leaves alone what the user said by hand', async () => {
    const server = await startServer({
      ALLOWED_ORIGINS: pageUrl,
      IDLE_AFTER: '800ms',
      DRAIN_TIMEOUT: '200ms',
    });
    servers.push(server);
    const becomes = (activity: Activity) =>
      waitFor(
        () => `the activity ${Activity[activity]}`,
        async () => (await server.client.getUserStatus({ userId: 'cyd' })).data?.activity === activity,
      );
    const page = await open('cyd', servers.length - 1);
    assert.deepEqual(await page.evaluate('globalThis.report()'), ['cyd ONLINE ACTIVE']);
    // Heartbeats go on; with nobody at the page they say nothing of the user.
    await becomes(Activity.IDLE);
    await page.mouse.move(50, 50);
    await page.mouse.move(60, 60);
    await becomes(Activity.ACTIVE);
    await page.evaluate('globalThis.client.setActivity("AWAY")');
    await page.mouse.move(70, 70);
    await sleep(500);
    await becomes(Activity.AWAY);
    await page.evaluate('globalThis.client.setActivity("ACTIVE")');
    await becomes(Activity.ACTIVE);
    await becomes(Activity.IDLE);
    // A silent user who loses the connection does not look ACTIVE for coming back.
    const watcher = new Watcher(server.client, ['cyd']);
    watchers.push(watcher);
    await watcher.sees('cyd', '[ONLINE]');
    await page.evaluate('globalThis.reconnect()');
    await page.waitForFunction('document.title === "open"');
    await becomes(Activity.IDLE);
    assert.equal(watcher.story('cyd'), '[ONLINE]');
    await page.context().close();
  });

  it('is refused from a page of another origin', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(
      `${pageUrl.replace('127.0.0.1', 'localhost')}/?user=eve&server=${encodeURIComponent((servers[0] as TestServer).httpUrl)}`,
    );
    await page.waitForFunction('document.title === "waiting"');
    await context.close();
  });
});
