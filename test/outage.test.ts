/** Redis away at the start, and stopped while serving: calls fail fast, streams stay, service resumes by itself. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Code, ConnectError } from '@connectrpc/connect';
import { UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { errorCode, startServer, Watcher } from './support/pilotlight.ts';
import { keepsData, RedisServer } from './support/redis-server.ts';
import { waitFor } from './support/wait.ts';

describe('Redis away', () => {
  it('at the start: the server serves REDIS_ERROR, is not ready, and resumes by itself', async () => {
    const redis = await RedisServer.start();
    await redis.kill();
    const server = await startServer({ REDIS_URL: redis.url, REDIS_TIMEOUT: '1s' });
    const startMs = performance.now();
    await assert.rejects(server.client.getUserStatus({ userId: 'u' }), (error) => {
      assert.equal(errorCode(error), 'REDIS_ERROR');
      assert.equal(ConnectError.from(error).code, Code.Unavailable);
      return true;
    });
    assert.ok(performance.now() - startMs < 10_000, 'ten times the timeout');
    assert.equal((await fetch(`${server.httpUrl}/livez`)).status, 200);
    const readiness = await fetch(`${server.httpUrl}/readyz`);
    assert.equal(readiness.status, 503);
    await redis.run();
    await waitFor('readiness', async () => (await fetch(`${server.httpUrl}/readyz`)).ok);
    const { data } = await server.client.setUserStatus({ userId: 'u', status: UserStatus.ONLINE });
    assert.equal(data?.status, UserStatus.ONLINE);
    await server.stop();
    await redis.stop();
  });

  it('while serving: streams stay open and are brought up to date', async () => {
    const redis = await RedisServer.start(keepsData);
    const server = await startServer({ REDIS_URL: redis.url, USER_STATUS_TTL: '1m' });
    const watcher = new Watcher(server.client, ['ada', 'bea']);
    await watcher.has(2);
    await server.client.setUserStatus({ userId: 'ada', status: UserStatus.ONLINE });
    await watcher.sees('ada', '[OFFLINE] ONLINE');
    await redis.kill();
    await waitFor('calls to fail', async () => {
      try {
        await server.client.sendHeartbeat({ userId: 'ada' });
        return false;
      } catch (error) {
        return errorCode(error) === 'REDIS_ERROR';
      }
    });
    await redis.run();
    await waitFor('calls to succeed', async () => {
      try {
        return (await server.client.sendHeartbeat({ userId: 'ada' })).success;
      } catch {
        return false;
      }
    });
    await server.client.setUserStatus({ userId: 'bea', status: UserStatus.ONLINE });
    await watcher.sees('bea', '[OFFLINE] ONLINE');
    assert.equal(watcher.story('ada'), '[OFFLINE] ONLINE', 'the outage put nobody out');
    await server.client.setUserStatus({ userId: 'ada', status: UserStatus.OFFLINE });
    await watcher.sees('ada', '[OFFLINE] ONLINE OFFLINE');
    await watcher.stop();
    await server.stop();
    await redis.stop();
  });
});
