/** What is done for callers before it is known who they are: nothing that costs, on any interface. */
import assert from 'node:assert/strict';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { after, before, describe, it } from 'node:test';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { apiKeysFile, secureEnvironment, token } from './support/credentials.ts';

const service = '/presence.v1.PresenceService';
const unary = [
  'SetUserStatus',
  'SendHeartbeat',
  'GetUserStatus',
  'GetMultipleUserStatus',
  'GetConnections',
  'SetPrivacy',
  'GetPrivacy',
];

describe('callers who have not said who they are', () => {
  let server: TestServer;
  let keys: ReturnType<typeof apiKeysFile>;
  let http2: ClientHttp2Session;

  before(async () => {
    keys = apiKeysFile();
    server = await startServer({
      ...secureEnvironment(keys.file),
      REQUEST_TIMEOUT: '600ms',
      DRAIN_TIMEOUT: '0s',
    });
    http2 = connectHttp2(`http://127.0.0.1:${server.grpcPort}`);
  });
  after(async () => {
    http2.destroy();
    await server.stop();
    keys.remove();
  });

  /** A gRPC call whose request stays open, and its status once it is answered. */
  function call(path: string, headers: Record<string, string> = {}) {
    const stream = http2.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    const state = { stream, status: undefined as string | undefined };
    const note = (fields: Record<string, unknown>) => {
      state.status ??= fields['grpc-status'] as string | undefined;
    };
    stream
      .on('response', note)
      .on('trailers', note)
      .on('error', () => {});
    stream.resume();
    return state;
  }

  const framed = (message: Buffer, length = message.length) => {
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(length, 1);
    return Buffer.concat([prefix, message]);
  };

  for (const method of [...unary, 'SubscribeStatusUpdates']) {
    it(`answers ${method} over gRPC by its head`, async () => {
      for (const headers of [{}, { authorization: 'Bearer nonsense' }, { authorization: 'Bearer a.b.c' }]) {
        const { stream, status } = await answered(call(`${service}/${method}`, headers));
        assert.equal(status, '16', JSON.stringify(headers));
        stream.destroy();
      }
    });
  }

  async function answered(asked: ReturnType<typeof call>) {
    await waitFor('an answer', () => asked.status !== undefined);
    return asked;
  }

  it('takes no larger message over gRPC than a method needs', async () => {
    const authorization = `Bearer ${await token('ada')}`;
    const largest = {
      GetMultipleUserStatus: 705_000,
      SubscribeStatusUpdates: 1_410_000,
      SetPrivacy: 282_000,
    };
    for (const method of [...unary, 'SubscribeStatusUpdates'] as const) {
      const most = (largest as Record<string, number>)[method] ?? 65_536;
      const asked = call(`${service}/${method}`, { authorization });
      asked.stream.write(framed(Buffer.alloc(0), most + 1));
      assert.equal((await answered(asked)).status, '8', method);
      const fits = call(`${service}/${method}`, { authorization });
      fits.stream.write(framed(Buffer.alloc(0), most));
      await new Promise((resolve) => http2.ping(resolve));
      assert.equal(fits.status, undefined, method);
      fits.stream.destroy();
    }
  });

  it('takes nothing but a hello of 16 KiB as the first frame of a session over gRPC', async () => {
    const asked = call(`${service}/Connect`);
    asked.stream.write(framed(Buffer.alloc(0), 16 * 1024 + 1));
    assert.equal((await answered(asked)).status, '8');
  });

  it('refuses a list with too many of anything before it is decoded', async () => {
    const authorization = `Bearer ${await token('ada')}`;
    for (const method of unary) {
      const empty = Buffer.alloc(64_000);
      for (let at = 0; at < empty.length; at += 2) empty[at] = 0x0a;
      const asked = call(`${service}/${method}`, { authorization });
      asked.stream.end(framed(empty));
      assert.equal((await answered(asked)).status, '3', method);
    }
  });

  it('waits no longer than REQUEST_TIMEOUT for the rest of a message over gRPC', async () => {
    const authorization = `Bearer ${await token('ada')}`;
    const asked = [
      call(`${service}/SendHeartbeat`, { authorization }),
      call(`${service}/Connect`),
      call('/grpc.health.v1.Health/Check'),
    ];
    for (const { stream } of asked) stream.write(framed(Buffer.from([0x0a, 0x05, 0x61]), 300));
    for (const one of asked) assert.equal((await answered(one)).status, '4');
    assert.equal(server.server.stats().grpc.bufferedRequestBytes, 0);
  });

  it('keeps no name of a service that health is asked for', async () => {
    for (const method of ['Check', 'Watch']) {
      const asked = call(`/grpc.health.v1.Health/${method}`);
      asked.stream.write(framed(Buffer.alloc(0), 4 << 20));
      assert.equal((await answered(asked)).status, '8', method);
    }
  });
});
