/** The dashboard in a real browser, on a real server. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, describe, it } from 'node:test';
import type { AxeResults } from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { buildDashboard, launchBrowser } from '../support/browser.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { freePort } from '../support/redis-server.ts';
import { waitFor } from '../support/wait.ts';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** Runs in the page; text, because this project's types are Node's. */
const inPage = <Value>(page: Page, expression: string) => page.evaluate(expression) as Promise<Value>;
const themeOf = (page: Page) => inPage<string>(page, 'document.documentElement.dataset.theme');

const online = 1;
const offline = 2;

describe('dashboard', { timeout: 120_000 }, () => {
  let browser: Browser;
  let server: TestServer;
  let environment: Record<string, string>;
  let page: Page;
  const requested: string[] = [];
  const complaints: string[] = [];

  const openPage = async (options: Parameters<Browser['newPage']>[0] = {}, path = '/') => {
    const opened = await browser.newPage(options);
    opened.setDefaultTimeout(15_000);
    opened.on('request', (request) => requested.push(request.url()));
    opened.on('pageerror', (error) => complaints.push(error.message));
    opened.on('console', (message) => {
      // While the server is away, or about to be, the browser itself says so.
      const isExpected = /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|response code: 503/.test(
        message.text(),
      );
      if (message.type() === 'error' && !isExpected) complaints.push(message.text());
    });
    await opened.goto(server.httpUrl + path);
    await opened.locator('[data-link="live"]').waitFor();
    return opened;
  };
  const set = (userId: string, status: number) => server.client.setUserStatus({ userId, status });
  const light = (userId: string) => page.locator(`.windows button[data-user="${userId}"]`);
  const serves = async () => (await page.locator('[data-link]').getAttribute('data-link')) as string;

  before(async () => {
    await buildDashboard();
    environment = {
      HTTP_PORT: String(await freePort()),
      GRPC_PORT: String(await freePort()),
      USER_STATUS_TTL: '1h',
      HEARTBEAT_INTERVAL: '30s',
      DRAIN_TIMEOUT: '200ms',
    };
    server = await startServer(environment);
    browser = await launchBrowser();
    page = await openPage();
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  it('shows a user who is set online by gRPC, without a reload', async () => {
    assert.equal(await page.locator('.windows button').count(), 0);
    await set('ada', online);
    await light('ada').waitFor();
    assert.equal(await light('ada').getAttribute('aria-label'), 'ada: online, active');
    await page.getByTestId('online').getByText('1', { exact: true }).waitFor();
    await set('ada', offline);
    await page.getByRole('button', { name: 'ada: offline' }).waitFor();
    await page.getByTestId('online').getByText('0', { exact: true }).waitFor();
  });

  it('shows users who came before the page was opened', async () => {
    await set('early', online);
    const late = await openPage();
    await late.locator('.windows button[data-user="early"]').waitFor();
    await late.close();
  });

  it('moves its charts', async () => {
    const picture = () => inPage<string>(page, "document.querySelector('.hero canvas').toDataURL()");
    const first = await picture();
    await set('mover', online);
    await waitFor('another picture', async () => (await picture()) !== first);
    const summary = page.getByRole('img', { name: /^Users online over the last/ });
    await waitFor('its summary', async () => / 2 now/.test((await summary.getAttribute('aria-label')) ?? ''));
  });

  it('looks up a user, and keeps what it shows true', async () => {
    await page.getByLabel('User id').fill('bob');
    await page.getByRole('button', { name: 'Look up' }).click();
    const status = page.getByTestId('user-status');
    await status.getByText('offline', { exact: true }).waitFor();
    await server.client.setUserStatus({ userId: 'bob', status: online, activity: 4 });
    await status.getByText('online, do not disturb').waitFor();
    await set('bob', offline);
    await status.getByText('offline', { exact: true }).waitFor();
    assert.match(page.url(), /\?user=bob$/);
  });

  it('lists the devices of a user', async () => {
    const aborter = new AbortController();
    const stream = server.client.subscribeStatusUpdates(
      { userId: 'carol', watchUserIds: ['ada'] },
      { signal: aborter.signal },
    );
    const reading = (async () => {
      for await (const _event of stream);
    })().catch(() => {});
    await page.getByLabel('User id').fill('carol');
    await page.getByRole('button', { name: 'Look up' }).click();
    await page.getByRole('list', { name: 'Devices' }).getByText('stream').waitFor();
    aborter.abort();
    await reading;
    await page.getByText('No open connection').waitFor();
  });

  it('can be used by keyboard alone', async () => {
    await page.locator('h1').click();
    await page.getByRole('button', { name: /theme$/ }).focus();
    const isOnWall = () => inPage<boolean>(page, "document.activeElement.classList.contains('window')");
    for (let stops = 0; !(await isOnWall()); stops++) {
      assert.ok(stops < 30, 'the wall is not reached by Tab');
      await page.keyboard.press('Tab');
    }
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowRight');
    const chosen = await inPage<string>(page, 'document.activeElement.dataset.user');
    await page.keyboard.press('Enter');
    await page.locator('.lamp strong').getByText(chosen, { exact: true }).waitFor();
  });

  it('shows that the server went away, and recovers when it is back', async () => {
    await server.stop();
    await waitFor('the loss to be shown', async () => (await serves()) === 'lost');
    await page.getByText('Connection lost').waitFor();
    server = await startServer(environment);
    await waitFor('the recovery', async () => (await serves()) === 'live');
    await set('phoenix', online);
    await light('phoenix').waitFor();
    // The new server never heard of whom the old one knew, and the session says so.
    await page.getByRole('button', { name: 'mover: offline' }).waitFor();
    await page.getByTestId('online').getByText('1', { exact: true }).waitFor();
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    it(`has no serious accessibility fault in ${colorScheme}`, async () => {
      await set('sam', online);
      const themed = await openPage({ colorScheme, reducedMotion: 'reduce' }, '/?user=sam');
      await themed.getByTestId('user-status').waitFor();
      await themed.locator('table tbody tr').first().waitFor();
      assert.equal(await themeOf(themed), colorScheme);
      await themed.evaluate(axeSource);
      const results = await inPage<AxeResults>(themed, 'axe.run()');
      const faults = results.violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
      assert.deepEqual(
        faults.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`),
        [],
      );
      assert.ok(results.passes.length > 20);
      await themed.close();
    });
  }

  it('changes its theme, and remembers', async () => {
    const own = await openPage({ colorScheme: 'light' });
    await own.getByRole('button', { name: 'Change to the dark theme' }).click();
    assert.equal(await themeOf(own), 'dark');
    await own.reload();
    await own.getByRole('button', { name: 'Change to the light theme' }).waitFor();
    await own.close();
  });

  it('fits a phone', async () => {
    const phone = await openPage({ viewport: { width: 360, height: 740 } });
    await phone.locator('table tbody tr').first().waitFor();
    const overflow = await inPage<number>(phone, 'document.documentElement.scrollWidth - innerWidth');
    assert.equal(overflow, 0);
    await phone.close();
  });

  it('asked nobody but its server for anything, and broke no rule of its own', () => {
    assert.ok(requested.length > 5);
    assert.deepEqual(
      requested.filter(
        (url) =>
          !url.startsWith(`${server.httpUrl}/`) &&
          !url.startsWith(`${server.httpUrl.replace('http', 'ws')}/`),
      ),
      [],
    );
    assert.deepEqual(complaints, []);
  });
});
