/** The dashboard of a server that has run for ten minutes, in a real browser. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Monitor } from '../../src/observe/monitor.ts';
import type { Sample } from '../../src/observe/stats.ts';
import { buildDashboard, launchBrowser } from '../support/browser.ts';
import { startServer } from '../support/pilotlight.ts';

test('the wall shows who came before the page, after ten minutes of history', {
  timeout: 120_000,
}, async () => {
  await buildDashboard();
  // Ten minutes are not waited for: the history is the last sample as often as there are seconds in them.
  const stats = Monitor.prototype.stats;
  mock.method(Monitor.prototype, 'stats', function (this: Monitor) {
    const told = stats.call(this);
    return told && { ...told, history: history(told.sample) };
  });
  const server = await startServer({
    USER_STATUS_TTL: '1h',
    HEARTBEAT_INTERVAL: '30s',
    DRAIN_TIMEOUT: '200ms',
  });
  const browser = await launchBrowser();
  try {
    for (let user = 0; user < 300; user++)
      await server.client.setUserStatus({ userId: `early-${user}`, status: 1 });
    const page = await browser.newPage();
    await page.goto(server.httpUrl);
    await page.locator('[data-link="live"]').waitFor();
    await page.locator('.windows button[data-user="early-299"]').waitFor({ timeout: 15_000 });
    assert.equal(await page.locator('.windows button').count(), 300);
  } finally {
    await browser.close();
    await server.stop();
    mock.restoreAll();
  }
});

function history(sample: Sample): Sample[] {
  const quantiles = { p50: 0.123456789, p99: 1.123456789 };
  return Array.from({ length: 600 }, (_, second) => ({
    ...sample,
    atMs: sample.atMs - (599 - second) * 1000,
    heartbeatMs: quantiles,
    fanOutMs: quantiles,
  }));
}
