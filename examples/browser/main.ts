/** A page that keeps its user ONLINE and shows others: `?me=ada&watch=bob,cyd&server=http://localhost:8080`. */
import { PresenceClient } from '@pilotlight/client';

const parameters = new URLSearchParams(location.search);
const userId = parameters.get('me') ?? 'ada';
const others = (parameters.get('watch') ?? 'bob,cyd').split(',');
const element = <Kind extends HTMLElement>(id: string) => document.getElementById(id) as Kind;

const client = new PresenceClient({
  url: parameters.get('server') ?? 'http://localhost:8080',
  userId,
  device: 'example page',
});
client.onStateChange((state) => {
  element('connection').textContent = `${userId}: ${state}`;
});

const lines = new Map(others.map((id) => [id, document.createElement('li')]));
element('others').append(...lines.values());
client.subscribe(others, ({ userId: id, state }) => {
  const line = lines.get(id);
  if (!line) return;
  const said = state.customStatus ? ` "${state.customStatus.text}"` : '';
  line.textContent = `${id}: ${state.status} ${state.activity ?? ''}${said}`;
});

const say = element<HTMLInputElement>('say');
const report = (error: unknown) => {
  element('connection').textContent = String(error);
};
say.addEventListener('change', () => void client.setCustomStatus(say.value).catch(report));
element('away').addEventListener('click', () => void client.setActivity('AWAY').catch(report));
element('back').addEventListener('click', () => void client.setActivity('ACTIVE').catch(report));

client.open();
