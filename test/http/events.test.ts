/** `GET /v1/events` as browsers use it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { readConfig } from '../../src/config.ts';
import { silentLog } from '../../src/observe/log.ts';
import { Tracing } from '../../src/observe/tracing.ts';
import { Connections } from '../../src/presence/connections.ts';
import { PresenceService } from '../../src/presence/presence-service.ts';
import { WatchHub } from '../../src/presence/watch-hub.ts';
import { AllowedHosts } from '../../src/security/allowed-hosts.ts';
import { ClientAddresses } from '../../src/security/client-addresses.ts';
import { Gate } from '../../src/security/gate.ts';
import { Limits } from '../../src/security/limits.ts';
import { MemoryStore } from '../../src/store/memory-store.ts';
import { HttpTransport } from '../../src/transport/http/http-transport.ts';
import { PageRules } from '../../src/transport/http/origins.ts';
import { EventReader, request } from '../support/http.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';

interface StatusEvent {
  readonly userId: string;
  readonly status: string;
  readonly snapshot: boolean;
  readonly cause: string;
  readonly version: string;
}

const story = (reader: EventReader) =>
  reader
    .messages<StatusEvent>()
    .map(({ userId, status, snapshot }) => (snapshot ? `[${userId} ${status}]` : `${userId} ${status}`));

describe('server-sent events', () => {
  let server: TestServer;
  const readers: EventReader[] = [];

  const open = (query: string, headers?: Record<string, string>) => {
    const reader = new EventReader(`${server.httpUrl}/v1/events?${query}`, headers);
    readers.push(reader);
    return reader;
  };
  const sees = (reader: EventReader, expected: readonly string[]) =>
    waitFor(
      () => `${expected.join(', ')}; it has ${story(reader).join(', ')}`,
      () => story(reader).join() === expected.join(),
    );
  const set = (userId: string, status: string) =>
    request(`${server.httpUrl}/v1/users/${encodeURIComponent(userId)}/status`, 'PUT', { status });

  before(async () => {
    server = await startServer({ USER_STATUS_TTL: '30s', HEARTBEAT_INTERVAL: '15s' });
  });
  after(async () => {
    for (const reader of readers) reader.close();
    await server.stop();
  });

  it('brings the present states, then every change', async () => {
    await set('ada', 'ONLINE');
    const reader = open('watch=ada,bob');
    assert.equal(await reader.status, 200);
    await sees(reader, ['[ada ONLINE]', '[bob OFFLINE]']);
    await set('bob', 'ONLINE');
    await set('ada', 'OFFLINE');
    await sees(reader, ['[ada ONLINE]', '[bob OFFLINE]', 'bob ONLINE', 'ada OFFLINE']);
    const last = reader.messages<StatusEvent>().at(-1);
    assert.equal(last?.cause, 'CAUSE_SET');
    assert.equal(reader.lastEventId, last?.version);
  });

  it('takes ids that hold a comma, encoded, and repeated parameters', async () => {
    const reader = open(`watch=${encodeURIComponent('a,b')},c&watch=d+e`);
    await sees(reader, ['[a,b OFFLINE]', '[c OFFLINE]', '[d e OFFLINE]']);
  });

  it('spares a client that comes back the states that did not change', async () => {
    await set('old', 'ONLINE');
    await set('gone', 'ONLINE');
    // As if the client had seen an event two minutes after these: more than the overlap.
    const lastSeen = String((Date.now() + 120_000) * 1000);
    const reader = open('watch=old,gone,unknown', { 'last-event-id': lastSeen });
    // A user never heard of may be one whom the engine forgot, so that one is told again.
    await sees(reader, ['[unknown OFFLINE]']);
    await set('gone', 'OFFLINE');
    await sees(reader, ['[unknown OFFLINE]', 'gone OFFLINE']);
  });

  it('tells a client that comes back what it may have missed', async () => {
    await set('eve', 'ONLINE');
    const first = open('watch=eve,fay');
    await sees(first, ['[eve ONLINE]', '[fay OFFLINE]']);
    await waitFor('an id', () => first.lastEventId !== '');
    first.close();
    await set('fay', 'ONLINE');
    const second = open('watch=eve,fay', { 'last-event-id': first.lastEventId });
    // eve changed less than the overlap ago, so she is told again; it is a snapshot and does no harm.
    await sees(second, ['[eve ONLINE]', '[fay ONLINE]']);
  });

  it('counts as a connection of user_id', async () => {
    await set('gil', 'ONLINE');
    const own = open('watch=bob&user_id=gil');
    await waitFor('the stream', () => own.events.length === 1);
    const watcher = open('watch=gil');
    await sees(watcher, ['[gil ONLINE]']);
    own.close();
    await sees(watcher, ['[gil ONLINE]', 'gil OFFLINE']);
    assert.equal(watcher.messages<StatusEvent>().at(-1)?.cause, 'CAUSE_DISCONNECT');
  });

  it('tells a reader that does not read only the latest, in bounded memory', async () => {
    const parts = await startHttpAlone();
    const users = Array.from({ length: 200 }, (_, index) => `slow-${index}-${'x'.repeat(100)}`);
    const socket = connect({ port: parts.port, host: '127.0.0.1' });
    await once(socket, 'connect');
    const received: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    const text = () => Buffer.concat(received).toString();
    socket.write(`GET /v1/events?watch=${users.join(',')} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
    await waitFor('the snapshot', () => text().includes('slow-199-'));
    socket.pause();
    for (let round = 0; parts.hub.stats().conflated < 500; round++) {
      assert.ok(round < 2000, 'it never became full');
      for (const userId of users) {
        if (round % 2 === 0) await parts.store.setOnline(userId, null);
        else await parts.store.setOffline(userId);
      }
      await nextTurn();
    }
    const { queuedBytes } = parts.http.stats();
    assert.ok(queuedBytes < 8_000_000, `${queuedBytes} bytes are queued`);
    for (const userId of users) await parts.store.setOffline(userId);
    await parts.store.setOnline(users[0] as string, null);
    socket.resume();
    const latest = () => {
      const states = new Map<string, string>();
      for (const [, user, status] of text().matchAll(/"userId":"(slow-\d+)-x+","status":"(\w+)"/g)) {
        states.set(user as string, status as string);
      }
      return states;
    };
    // States older than the latest may still be in the socket's buffers, in any order of users.
    const online = () => [...latest()].filter(([, status]) => status === 'ONLINE').map(([user]) => user);
    await waitFor(
      () => `slow-0 alone to be ONLINE, which are ${online()}`,
      () => online().join() === 'slow-0',
    );
    socket.destroy();
    await parts.stop();
  });

  it('ends when the server stops', async () => {
    const other = await startServer();
    const reader = new EventReader(`${other.httpUrl}/v1/events?watch=ada`);
    await waitFor('the snapshot', () => reader.events.length === 1);
    await other.stop();
    await waitFor('the end', () => reader.ended);
  });

  it('leaves nothing behind', async () => {
    for (const reader of readers) reader.close();
    await waitFor(
      () => JSON.stringify(server.server.stats()),
      () => {
        const { http, hub } = server.server.stats();
        return http.streams === 0 && hub.watches === 0 && hub.subscriptions === 0;
      },
    );
  });
});

/** The HTTP face over an engine in reach of the test, which can change users faster than any client. */
async function startHttpAlone() {
  const options = {
    // The event loop is the test's too: its work is no overload of the server.
    ...readConfig({ USER_STATUS_TTL: '1h', MAX_TURN: '0s' }),
    clock: { nowMs: Date.now },
    log: silentLog,
    tracing: new Tracing(),
  };
  const store = new MemoryStore(options);
  const hub = new WatchHub({ ...options, store });
  const connections = new Connections({ ...options, store });
  const presence = new PresenceService({ ...options, store, hub, connections });
  const limits = new Limits(options, () => ({ streams: 0, watchEdges: 0, memoryBytes: 0 }));
  const http = new HttpTransport({
    ...options,
    gate: new Gate({ presence, authenticator: undefined, limits }),
    pages: new PageRules({
      hosts: new AllowedHosts({ ...options, isExposed: false }),
      addresses: new ClientAddresses(),
      allowedOrigins: [],
    }),
    tls: undefined,
    port: 0,
    version: '0',
    notReadyReasons: () => [],
    refused: () => [],
    metrics: { contentType: 'text/plain', text: async () => '' },
    webSocket: { path: '/v1/connect', refusal: () => null },
    stats: {
      stats: () => undefined,
      recentTransitions: () => [],
      onTick: () => () => {},
      onTransitions: () => () => {},
    },
  });
  const { port } = await http.start();
  return { store, hub, http, port, stop: () => http.stop() };
}
