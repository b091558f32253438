/** Input that is wrong, and clients that vanish: the right error, and nothing left behind. */
import assert from 'node:assert/strict';
import { connect } from 'node:http2';
import { after, before, describe, it } from 'node:test';
import { Code, ConnectError } from '@connectrpc/connect';
import { type Activity, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { errorCode, startServer, type TestServer, Watcher } from './support/pilotlight.ts';
import { waitFor } from './support/wait.ts';

describe('bad input', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
  });
  after(() => server.stop());

  const badIds = {
    empty: '',
    '129 bytes': 'a'.repeat(129),
    '129 bytes in 43 characters': '漢'.repeat(43),
    'a newline': 'a\nb',
    'a zero': 'a\u0000b',
    DEL: 'a\u007f',
  };

  async function refuses(call: Promise<unknown>, reason: string, message: RegExp): Promise<void> {
    await assert.rejects(call, (error) => {
      assert.equal(errorCode(error), reason);
      assert.equal(ConnectError.from(error).code, Code.InvalidArgument);
      assert.match(ConnectError.from(error).rawMessage, message);
      return true;
    });
  }

  for (const [name, userId] of Object.entries(badIds)) {
    it(`a user id that is ${name} is refused everywhere`, async () => {
      const { client } = server;
      await refuses(
        client.setUserStatus({ userId, status: UserStatus.ONLINE }),
        'INVALID_ARGUMENT',
        /^user_id /,
      );
      await refuses(client.getUserStatus({ userId }), 'INVALID_ARGUMENT', /^user_id /);
      await refuses(client.sendHeartbeat({ userId }), 'INVALID_ARGUMENT', /^user_id /);
      await refuses(
        client.getMultipleUserStatus({ userIds: ['a', userId] }),
        'INVALID_ARGUMENT',
        /^user_ids\[1\] /,
      );
      await refuses(
        new Watcher(client, ['a', userId]).ended.then((error) => Promise.reject(error)),
        'INVALID_ARGUMENT',
        /^watch_user_ids\[1\] /,
      );
      if (userId !== '') {
        await refuses(
          new Watcher(client, ['a'], userId).ended.then((error) => Promise.reject(error)),
          'INVALID_ARGUMENT',
          /^user_id /,
        );
      }
    });
  }

  it('invalid UTF-8 is refused, not mended', async () => {
    const headers = await rawUnary(server.grpcPort, 'SendHeartbeat', Uint8Array.of(10, 2, 0xff, 0xfe));
    assert.equal(headers['grpc-status'], String(Code.InvalidArgument));
  });

  it('a status that is neither ONLINE nor OFFLINE is INVALID_STATUS', async () => {
    for (const status of [UserStatus.USER_STATUS_UNSPECIFIED, 3 as UserStatus, 99 as UserStatus]) {
      await refuses(
        server.client.setUserStatus({ userId: 'u', status }),
        'INVALID_STATUS',
        /ONLINE or OFFLINE/,
      );
    }
  });

  it('an unknown activity, or one with OFFLINE, is refused', async () => {
    const { client } = server;
    await refuses(
      client.setUserStatus({ userId: 'u', status: UserStatus.ONLINE, activity: 77 as Activity }),
      'INVALID_ARGUMENT',
      /^activity /,
    );
    await refuses(
      client.setUserStatus({ userId: 'u', status: UserStatus.OFFLINE, activity: 1 }),
      'INVALID_ARGUMENT',
      /^activity /,
    );
  });

  it('5,000 users are queried at once, 5,001 are not', async () => {
    const userIds = Array.from({ length: 5001 }, (_, i) => `many-${i}`);
    assert.equal(
      (await server.client.getMultipleUserStatus({ userIds: userIds.slice(1) })).data.length,
      5000,
    );
    await refuses(server.client.getMultipleUserStatus({ userIds }), 'INVALID_ARGUMENT', /^user_ids .*5000/);
  });

  it('10,000 users are watched by one, 10,001 are not, and none is not', async () => {
    const userIds = Array.from({ length: 10_001 }, (_, i) => `watched-${i}`);
    const watcher = new Watcher(server.client, userIds.slice(1));
    await watcher.has(10_000, 20_000);
    await watcher.stop();
    await refuses(
      new Watcher(server.client, userIds).ended.then((error) => Promise.reject(error)),
      'INVALID_ARGUMENT',
      /^watch_user_ids .*10000/,
    );
    await refuses(
      new Watcher(server.client, []).ended.then((error) => Promise.reject(error)),
      'INVALID_ARGUMENT',
      /^watch_user_ids /,
    );
  });

  it('a message of 5 MB is refused with RESOURCE_EXHAUSTED', async () => {
    const userIds = Array.from({ length: 50_000 }, () => 'x'.repeat(100));
    await assert.rejects(
      server.client.getMultipleUserStatus({ userIds }),
      (error) => ConnectError.from(error).code === Code.ResourceExhausted,
    );
  });

  it('a method that does not exist is UNIMPLEMENTED', async () => {
    const headers = await rawUnary(server.grpcPort, 'LightACandle', new Uint8Array());
    assert.equal(headers['grpc-status'], String(Code.Unimplemented));
  });

  it('a cancelled call and a client that vanishes leave nothing behind', async () => {
    const aborter = new AbortController();
    const cancelled = server.client.getUserStatus({ userId: 'u' }, { signal: aborter.signal });
    aborter.abort();
    await assert.rejects(cancelled, (error) => ConnectError.from(error).code === Code.Canceled);

    const session = connect(`http://127.0.0.1:${server.grpcPort}`);
    session.on('error', () => {});
    const stream = subscribeRaw(session, 'a', 'b');
    await new Promise((resolve) => stream.once('data', resolve));
    assert.equal(server.server.stats().hub.watches, 2);
    session.destroy();
    await waitFor(
      () => `nothing to be left: ${JSON.stringify(server.server.stats())}`,
      () => {
        const { grpc, hub } = server.server.stats();
        return grpc.streams === 0 && hub.watches === 0 && hub.users === 0 && hub.partitions === 0;
      },
    );
  });

  it('a watcher that reads nothing is bounded, and gets the truth when it reads again', async () => {
    const session = connect(`http://127.0.0.1:${server.grpcPort}`, { settings: { initialWindowSize: 200 } });
    const stream = subscribeRaw(session, 'busy', 'still');
    stream.pause();
    await waitFor('the watch', () => server.server.stats().hub.watches === 2);
    for (let i = 0; i < 3000; i++) {
      await server.client.setUserStatus({
        userId: 'busy',
        status: i % 2 === 0 ? UserStatus.ONLINE : UserStatus.OFFLINE,
      });
    }
    const { grpc, hub } = server.server.stats();
    assert.ok(
      grpc.queuedBytes < 256 * 1024,
      `${grpc.queuedBytes} bytes wait for a watcher that does not read`,
    );
    assert.ok(hub.conflated > 0, 'states were conflated');
    let received = Buffer.alloc(0);
    stream.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
    });
    stream.resume();
    await server.client.setUserStatus({ userId: 'still', status: UserStatus.ONLINE });
    await waitFor(
      'the last change of the still user',
      () => received.lastIndexOf('still') > received.indexOf('still'),
    );
    await waitFor('the queue to be empty', () => server.server.stats().grpc.queuedBytes === 0);
    session.destroy();
  });
});

const grpcHeaders = (method: string) => ({
  ':method': 'POST',
  ':path': `/presence.v1.PresenceService/${method}`,
  'content-type': 'application/grpc',
  te: 'trailers',
});

function frame(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** Opens a subscription with bytes of the test's own. */
function subscribeRaw(session: ReturnType<typeof connect>, ...users: string[]) {
  const message = Buffer.concat(
    users.map((user) => Buffer.concat([Buffer.from([18, user.length]), Buffer.from(user)])),
  );
  const stream = session.request(grpcHeaders('SubscribeStatusUpdates'));
  stream.on('error', () => {});
  stream.end(frame(message));
  return stream;
}

/** A unary call with bytes of the test's own; answers headers and trailers together. */
function rawUnary(port: number, method: string, message: Uint8Array): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const session = connect(`http://127.0.0.1:${port}`);
    session.on('error', reject);
    const stream = session.request(grpcHeaders(method));
    let all: Record<string, unknown> = {};
    stream.on('response', (headers) => {
      all = { ...all, ...headers };
    });
    stream.on('trailers', (trailers) => {
      all = { ...all, ...trailers };
    });
    stream.on('error', reject);
    stream.on('close', () => {
      session.close();
      resolve(all);
    });
    stream.resume();
    stream.end(frame(message));
  });
}
