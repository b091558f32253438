/** /readyz through the life of a server. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { grpcHealth } from '../support/grpc-health.ts';
import { request } from '../support/http.ts';
import { startServer, Watcher } from '../support/pilotlight.ts';
import { RedisServer } from '../support/redis-server.ts';
import { waitFor } from '../support/wait.ts';

describe('readiness', () => {
  it('is there with Redis, goes with it, and comes back, watchers and all', async () => {
    const redis = await RedisServer.start();
    const server = await startServer({ REDIS_URL: redis.url });
    const ready = () => request(`${server.httpUrl}/readyz`);
    try {
      // On a busy machine it may take longer than the start waits for.
      await waitFor('ready', async () => (await ready()).status === 200);
      assert.deepEqual((await ready()).body, { status: 'ready' });
      await waitFor('gRPC health to be in step', async () => (await grpcHealth(server.grpcPort)) === 1);
      const watcher = new Watcher(server.client, ['ada']);
      await watcher.sees('ada', '[OFFLINE]');
      await redis.kill();
      await waitFor('not ready', async () => (await ready()).status === 503);
      assert.deepEqual((await ready()).body, {
        status: 'not ready',
        reasons: ['the engine does not answer'],
      });
      await waitFor('gRPC health to be in step', async () => (await grpcHealth(server.grpcPort)) === 2);
      assert.equal((await request(`${server.httpUrl}/livez`)).status, 200);
      await redis.run();
      await waitFor('ready again', async () => (await ready()).status === 200);
      // Ready means caught up: what happens from now on is seen.
      await server.client.setUserStatus({ userId: 'ada', status: 1 });
      await watcher.sees('ada', '[OFFLINE] ONLINE');
      await watcher.stop();
    } finally {
      await server.stop();
      await redis.stop();
    }
  });

  it('ends before the server does', async () => {
    const server = await startServer({ DRAIN_TIMEOUT: '1s' });
    const watcher = new Watcher(server.client, ['ada']);
    await watcher.sees('ada', '[OFFLINE]');
    const stopped = server.server.stop();
    const answer = await request(`${server.httpUrl}/readyz`);
    assert.equal(answer.status, 503);
    assert.deepEqual(answer.body, { status: 'not ready', reasons: ['the server is stopping'] });
    await stopped;
    await watcher.stop();
  });
});
