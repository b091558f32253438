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

Object.assign(globalThis, {
  client,
  report: async () => (await client.query([userId])).map((it) => `${it.userId} ${it.status} ${it.activity}`),
});
