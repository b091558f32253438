/** Signs of life of quiet subscriptions, over every transport that has them. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ConnectError, createClient, type Transport } from '@connectrpc/connect';
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from '@connectrpc/connect-node';
import { PresenceService, type StatusUpdateEvent } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { errorCode, startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';

const transports: Readonly<Record<string, (server: TestServer) => Transport>> = {
  gRPC: ({ grpcPort }) => createGrpcTransport({ baseUrl: `http://127.0.0.1:${grpcPort}` }),
  Connect: ({ httpUrl }) => createConnectTransport({ baseUrl: httpUrl, httpVersion: '1.1' }),
  'gRPC-Web': ({ httpUrl }) => createGrpcWebTransport({ baseUrl: httpUrl, httpVersion: '1.1' }),
};

describe('a quiet subscription', { concurrency: true }, () => {
  let server: TestServer;
  const aborter = new AbortController();
  before(async () => {
    server = await startServer();
  });
  after(async () => {
    aborter.abort();
    await server.stop();
  });

  /** What comes, as it comes. */
  function watch(name: string, userId: string, keepaliveIntervalMs: number): StatusUpdateEvent[] {
    const client = createClient(PresenceService, (transports[name] as (typeof transports)['gRPC'])(server));
    const events: StatusUpdateEvent[] = [];
    const request = { watchUserIds: [userId], keepaliveIntervalMs: BigInt(keepaliveIntervalMs) };
    const read = async () => {
      for await (const event of client.subscribeStatusUpdates(request, { signal: aborter.signal })) {
        events.push(event);
      }
    };
    read().catch(() => {});
    return events;
  }

  for (const name of Object.keys(transports)) {
    it(`over ${name} shows life where that is asked for, and nowhere else`, async () => {
      const userId = `${name} user`;
      const asked = watch(name, userId, 1000);
      const unasked = watch(name, userId, 0);
      await waitFor(
        'three signs of life',
        () => asked.filter(({ keepalive }) => keepalive).length >= 3,
        20_000,
      );
      const sign = asked.find(({ keepalive }) => keepalive);
      assert.deepEqual([sign?.userId, sign?.status, sign?.version], ['', 0, 0n]);
      assert.deepEqual(
        unasked.map(({ userId: id, keepalive }) => [id, keepalive]),
        [[userId, false]],
      );
    });

    it(`over ${name} is refused where the interval is out of bounds`, async () => {
      const client = createClient(PresenceService, (transports[name] as (typeof transports)['gRPC'])(server));
      for (const keepaliveIntervalMs of [-1n, 1n, 999n, 3_600_001n]) {
        const request = { watchUserIds: ['ada'], keepaliveIntervalMs };
        await assert.rejects(
          async () => {
            for await (const _ of client.subscribeStatusUpdates(request));
          },
          (error) =>
            errorCode(error) === 'INVALID_ARGUMENT' &&
            /keepalive_interval_ms/.test(ConnectError.from(error).message),
        );
      }
    });
  }
});
