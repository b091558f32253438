/** Response headers of streaming rpcs, before either side has said anything: Rust tonic and Python grpclib wait for them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type ClientHttp2Session, connect } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { SubscribeStatusUpdatesRequestSchema } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { runProcess } from '../support/child-process.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { prefixed } from './support/raw-session.ts';

const subscribe = create(SubscribeStatusUpdatesRequestSchema, { watchUserIds: ['ada'] });
/** Every streaming rpc of the server, and the request of those that take one. */
const streams: Readonly<Record<string, Uint8Array | undefined>> = {
  '/presence.v1.PresenceService/Connect': undefined,
  '/presence.v1.PresenceService/SubscribeStatusUpdates': toBinary(
    SubscribeStatusUpdatesRequestSchema,
    subscribe,
  ),
  '/grpc.health.v1.Health/Watch': new Uint8Array(),
  '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo': undefined,
  '/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo': undefined,
};

/** Python's gRPC shows the headers as soon as they are there; the request stream stays open and empty. */
const python = `
import sys, threading, grpc
channel = grpc.insecure_channel(sys.argv[1])
same = lambda message: message
hold = threading.Event()
def silent():
    hold.wait()
    return
    yield
call = channel.stream_stream(sys.argv[2], same, same)(silent(), timeout=50)
call.initial_metadata()
print('headers' if call.is_active() else 'no headers', flush=True)
hold.set()
call.cancel()
`;

describe('response headers of a stream', () => {
  let server: TestServer;
  let connection: ClientHttp2Session;
  /** A user directory that never answers, so that no subscription has an event to send. */
  const directory = createServer();
  before(async () => {
    directory.listen(0, '127.0.0.1');
    await once(directory, 'listening');
    const { port } = directory.address() as AddressInfo;
    server = await startServer({
      // Longer than the test: what waits for the hello is not ended by its absence.
      REQUEST_TIMEOUT: '1m',
      USER_DIRECTORY: 'http',
      USER_DIRECTORY_URL: `http://127.0.0.1:${port}`,
      USER_DIRECTORY_TIMEOUT: '1m',
    });
    connection = connect(`http://127.0.0.1:${server.grpcPort}`);
  });
  after(async () => {
    connection?.destroy();
    directory.closeAllConnections();
    directory.close();
    await server?.stop();
  });

  for (const [path, request] of Object.entries(streams)) {
    it(`come when it opens: ${path}`, async () => {
      const stream = connection.request(
        { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' },
        { endStream: false },
      );
      if (request) stream.end(prefixed(request));
      const [headers] = await once(stream, 'response', { signal: AbortSignal.timeout(50_000) });
      assert.equal(headers[':status'], 200);
      assert.equal(headers['grpc-status'], undefined);
      stream.close();
    });
  }

  it('come to Python before its client has said hello', async () => {
    const path = '/presence.v1.PresenceService/Connect';
    const args = ['-c', python, `127.0.0.1:${server.grpcPort}`, path];
    const { code, out, err } = await runProcess('/usr/bin/python3', args);
    assert.equal(out + err, 'headers\n');
    assert.equal(code, 0);
  });
});
