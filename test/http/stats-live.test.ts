/** What a live page is told, whatever the size of its introduction and however slowly it reads. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { type FastifyInstance, fastify } from 'fastify';
import { type UserState, unknownState } from '../../src/core/presence.ts';
import type { Sample, Stats, Tick } from '../../src/observe/stats.ts';
import type { Gate } from '../../src/security/gate.ts';
import { EventStreams } from '../../src/transport/http/event-stream.ts';
import { statsRoutes } from '../../src/transport/http/stats-routes.ts';
import { EventReader } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';

const sample: Sample = {
  atMs: 1_700_000_000_000,
  online: 123_456,
  transitions: { SET: 1, HEARTBEAT: 2, CONNECT: 3, DISCONNECT: 4, EXPIRED: 5, NODE_LOST: 6 },
  heartbeats: 1234,
  heartbeatMs: { p50: 0.123456789, p99: 1.123456789 },
  fanOutMs: { p50: 0.123456789, p99: 1.123456789 },
};
const fullStats = {
  sample,
  nodes: [],
  nodeId: 'node',
  history: new Array(600).fill(sample),
} as unknown as Stats;
/** Ten of these fill what the system takes of a socket that nobody reads. */
const bigTick = { ...fullStats, padding: 'x'.repeat(1_000_000) } as unknown as Tick;
const online = (userId: string, version: number): UserState => ({ ...unknownState(userId), version });

describe('the live page stream', () => {
  let app: FastifyInstance;
  let streams: EventStreams;
  let port: number;
  let recent: UserState[];
  let onTick: (tick: Tick) => void;
  let onTransitions: (states: readonly UserState[]) => void;

  beforeEach(async () => {
    app = fastify();
    streams = new EventStreams();
    recent = Array.from({ length: 500 }, (_, index) => online(`user-${index}`, index + 1));
    statsRoutes(
      app,
      {
        stats: () => fullStats,
        recentTransitions: () => recent,
        onTick: (listener) => {
          onTick = listener;
          return () => {};
        },
        onTransitions: (listener) => {
          onTransitions = listener;
          return () => {};
        },
      },
      streams,
      // Nobody has to be an operator here, and so nobody stops being one.
      { holdOperator: () => () => {} } as unknown as Gate,
    );
    await app.listen({ host: '127.0.0.1', port: 0 });
    port = (app.server.address() as AddressInfo).port;
  });
  afterEach(async () => {
    streams.stop();
    await app.close();
  });

  it('begins with all that happened, after however much history', async () => {
    const reader = new EventReader(`http://127.0.0.1:${port}/v1/stats/live`);
    await waitFor('both events', () => reader.events.length >= 2);
    reader.close();
    assert.deepEqual(
      reader.events.map(({ event }) => event),
      ['stats', 'transitions'],
    );
    assert.equal((JSON.parse(reader.events[1]?.data as string) as unknown[]).length, 500);
  });

  it('tells a reader who was too slow everything again', async () => {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write('GET /v1/stats/live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n');
    await waitFor('the stream', () => streams.stats().streams === 1 && onTick !== undefined);
    for (let tick = 0; tick < 30; tick++) onTick(bigTick);
    const heldBytes = streams.stats().queuedBytes;
    onTransitions([online('missed', 1000)]);
    recent = [...recent, online('missed', 1000)];
    for (let tick = 0; tick < 100; tick++) onTick(bigTick);
    assert.ok(heldBytes < 20_000_000 && streams.stats().queuedBytes <= heldBytes, 'it holds more and more');
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      // Only names and ends of events are looked at.
      if (text.length > 3_000_000) text = text.replaceAll(/x{1000,}/g, '');
    });
    await waitFor('the second introduction', () => text.split('event: stats').length === 3, 20_000);
    await waitFor('what was missed', () => text.includes('"missed"'), 20_000);
    socket.destroy();
  });
});
