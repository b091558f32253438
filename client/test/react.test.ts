/** The hooks in a real React tree, in a real document, against a real server. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { JSDOM } from 'jsdom';
import { createElement, type ReactNode, StrictMode } from 'react';
import { flushSync } from 'react-dom';
import { createRoot, type Root } from 'react-dom/client';
import { startServer, type TestServer } from '../../test/support/pilotlight.ts';
import { waitFor } from '../../test/support/wait.ts';
import { PresenceClient, webSocketLink } from '../src/index.ts';
import { type MyPresence, PresenceProvider, useMyPresence, usePresence } from '../src/react.ts';

const { window } = new JSDOM('<!doctype html><div id="root"></div>');
// React looks for these. Node's own WebSocket stays: it speaks to a real server.
Object.assign(globalThis, { window, document: window.document });
Object.assign(globalThis, {
  addEventListener: window.addEventListener.bind(window),
  removeEventListener: window.removeEventListener.bind(window),
});

const { ONLINE } = UserStatus;
const container = window.document.getElementById('root') as unknown as HTMLElement;
let renders = 0;
let mine: MyPresence | undefined;

function Friends({ ids }: { readonly ids: readonly string[] }): ReactNode {
  renders++;
  const states = usePresence(ids);
  return ids.map((id) => createElement('p', { key: id, id }, `${id}: ${states.get(id)?.status ?? '...'}`));
}

function Me(): ReactNode {
  mine = useMyPresence();
  const { state, connection } = mine;
  return createElement(
    'p',
    { id: 'me' },
    `${connection} ${state?.activity} ${state?.customStatus?.text ?? ''}`,
  );
}

describe('react hooks', () => {
  let server: TestServer;
  let client: PresenceClient;
  let root: Root;
  before(async () => {
    server = await startServer({ DRAIN_TIMEOUT: '200ms' });
    client = new PresenceClient({ connect: webSocketLink(server.httpUrl), userId: 'me', activity: 'manual' });
    root = createRoot(container);
  });
  after(async () => {
    root.unmount();
    client.close();
    await server.stop();
  });

  const render = (...children: ReactNode[]) =>
    flushSync(() =>
      root.render(createElement(StrictMode, null, createElement(PresenceProvider, { client }, ...children))),
    );
  const textOf = (id: string) => container.querySelector(`#${id}`)?.textContent;
  const shows = (id: string, text: string) =>
    waitFor(
      () => `${id} to show ${text}; it shows ${textOf(id)}`,
      () => textOf(id) === text,
    );

  it('show states as they change, and watch no longer than they are mounted', async () => {
    render(createElement(Friends, { ids: ['ada', 'bob'] }));
    assert.equal(textOf('ada'), 'ada: ...');
    client.open();
    await shows('ada', 'ada: OFFLINE');
    await server.client.setUserStatus({ userId: 'bob', status: ONLINE });
    await shows('bob', 'bob: ONLINE');
    await waitFor('two to be watched', () => server.server.stats().hub.watches === 2);
    render(createElement(Friends, { ids: ['bob', 'cyd'] }));
    // Known already, so shown at once.
    assert.equal(textOf('bob'), 'bob: ONLINE');
    await shows('cyd', 'cyd: OFFLINE');
    assert.equal(textOf('ada'), undefined);
    await waitFor('two to be watched', () => server.server.stats().hub.watches === 2);
    render();
    await waitFor('nobody to be watched', () => server.server.stats().hub.watches === 0);
  });

  it('do not render for a new list of the same users, nor for what looks the same', async () => {
    render(createElement(Friends, { ids: ['dan'] }));
    await shows('dan', 'dan: OFFLINE');
    render(createElement(Friends, { ids: ['dan'] }));
    const before = renders;
    await server.client.setUserStatus({ userId: 'unseen', status: ONLINE });
    await client.query(['dan']);
    assert.equal(renders, before);
    assert.equal(server.server.stats().hub.watches, 1);
  });

  it('show and change the own presence', async () => {
    render(createElement(Me));
    await shows('me', 'open ACTIVE ');
    await mine?.setActivity('DO_NOT_DISTURB');
    await mine?.setCustomStatus('writing tests');
    await shows('me', 'open DO_NOT_DISTURB writing tests');
    client.close();
    await shows('me', 'closed DO_NOT_DISTURB writing tests');
  });
});
