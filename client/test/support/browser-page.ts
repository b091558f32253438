/** The page of browser.test.ts: a client of `?user=` at `?server=`, whose state is the title. */
import { PresenceClient } from '../../src/index.ts';

const parameters = new URLSearchParams(location.search);
const userId = parameters.get('user') ?? '';
const client = new PresenceClient({ url: parameters.get('server') ?? '', userId, device: 'Chromium' });
client.onStateChange((state) => {
  document.title = state;
});
client.subscribe([userId], () => {});
client.open();

/** As the browser does with a page that it puts away and shows again. */
function reconnect(): void {
  dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }));
  dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }));
}

Object.assign(globalThis, {
  client,
  reconnect,
  report: async () => (await client.query([userId])).map((it) => `${it.userId} ${it.status} ${it.activity}`),
});
