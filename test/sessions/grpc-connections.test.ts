/** What GRPC_* options let one gRPC connection do. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { SubscribeStatusUpdatesRequestSchema } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { prefixed } from './support/raw-session.ts';

const subscribe = prefixed(
  toBinary(
    SubscribeStatusUpdatesRequestSchema,
    create(SubscribeStatusUpdatesRequestSchema, { watchUserIds: ['ada'] }),
  ),
);

async function withConnection(
  environment: Readonly<Record<string, string>>,
  steps: (connection: ClientHttp2Session, server: TestServer) => Promise<void>,
): Promise<void> {
  const server = await startServer(environment);
  const connection = connect(`http://127.0.0.1:${server.grpcPort}`);
  connection.on('error', () => {});
  try {
    await once(connection, 'remoteSettings');
    await steps(connection, server);
  } finally {
    connection.destroy();
    await server.stop();
  }
}

function watch(connection: ClientHttp2Session) {
  const stream = connection.request({
    ':method': 'POST',
    ':path': '/presence.v1.PresenceService/SubscribeStatusUpdates',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  stream.on('error', () => {});
  stream.end(subscribe);
  return stream;
}

function ping(connection: ClientHttp2Session): Promise<void> {
  return new Promise((resolve, reject) => {
    connection.ping((error) => (error ? reject(error) : resolve()));
  });
}

describe('a gRPC connection', () => {
  it('holds a thousand streams by default, 300 watches among them', async () => {
    await withConnection({}, async (connection) => {
      assert.equal(connection.remoteSettings.maxConcurrentStreams, 1000);
      const watches = Array.from({ length: 300 }, () => watch(connection));
      await Promise.all(
        watches.map((stream) => once(stream, 'data', { signal: AbortSignal.timeout(60_000) })),
      );
    });
  });

  it('holds GRPC_MAX_STREAMS_PER_CONNECTION streams', async () => {
    await withConnection({ GRPC_MAX_STREAMS_PER_CONNECTION: '2' }, async (connection) => {
      assert.equal(connection.remoteSettings.maxConcurrentStreams, 2);
    });
  });

  it('is closed with too_many_pings beyond GRPC_MIN_PING_INTERVAL', async () => {
    await withConnection({ GRPC_MIN_PING_INTERVAL: '1h' }, async (connection) => {
      const goaway = once(connection, 'goaway', { signal: AbortSignal.timeout(60_000) });
      for (let index = 0; index < 4; index++) ping(connection).catch(() => {});
      const [code, , text] = await goaway;
      assert.deepEqual([code, String(text)], [11, 'too_many_pings']);
    });
  });

  it('may ping as often as it likes where GRPC_MIN_PING_INTERVAL is 0s', async () => {
    await withConnection({ GRPC_MIN_PING_INTERVAL: '0s' }, async (connection) => {
      for (let index = 0; index < 20; index++) await ping(connection);
      assert.equal(connection.closed, false);
    });
  });

  it('is asked to end at GRPC_MAX_CONNECTION_AGE, and closed after the grace', async () => {
    const environment = { GRPC_MAX_CONNECTION_AGE: '300ms', GRPC_MAX_CONNECTION_AGE_GRACE: '300ms' };
    await withConnection(environment, async (connection, { server }) => {
      const closed = once(connection, 'close');
      watch(connection);
      const [, , text] = await once(connection, 'goaway', { signal: AbortSignal.timeout(60_000) });
      assert.match(String(text), /max_age/);
      await Promise.race([closed, waitFor('the end of the grace', () => connection.destroyed)]);
      await waitFor('the subscription to be gone', () => server.stats().hub.subscriptions === 0);
    });
  });
});
