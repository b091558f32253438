/** /readyz through the life of a server. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { grpcHealth } from '../support/grpc-health.ts';
import { request } from '../support/http.ts';
import { startServer, Watcher } from '../support/pilotlight.ts';
import { redisCommand } from '../support/redis-command.ts';
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
      const { status, reasons } = (await ready()).body as { status: string; reasons: string[] };
      assert.equal(status, 'not ready');
      assert.equal(reasons[0], 'the engine does not answer');
      assert.match(reasons[1] ?? '', /^(CLOSED|HANGUP|CONNECTION_REFUSED): /);
      await waitFor('gRPC health to be in step', async () => (await grpcHealth(server.grpcPort)) === 2);
      assert.equal((await request(`${server.httpUrl}/livez`)).status, 200);
      await redis.run();
      await waitFor('ready again', async () => (await ready()).status === 200);
      // Ready means caught up: what happens from now on is seen.
      // Redis lost its data: nobody comes online until what servers know is back.
      await waitFor('ada to be taken', () =>
        server.client.setUserStatus({ userId: 'ada', status: 1 }).then(
          () => true,
          (error: unknown) => {
            assert.match(String(error), /RESTORING/);
            return false;
          },
        ),
      );
      await watcher.sees('ada', '[OFFLINE] ONLINE');
      await watcher.stop();
    } finally {
      await server.stop();
      await redis.stop();
    }
  });

  it('says what Redis refuses: all of it, or only what grows', async () => {
    const redis = await RedisServer.start();
    const server = await startServer({ REDIS_URL: redis.url, USER_STATUS_TTL: '1m' });
    const set = (...args: string[]) => redisCommand(redis.port, ...args);
    const ready = async () => {
      const { status, body } = await request(`${server.httpUrl}/readyz`);
      return `${status} ${JSON.stringify(body)}`;
    };
    try {
      await waitFor('ready', async () => (await ready()) === '200 {"status":"ready"}', 15_000);
      await set('CONFIG', 'SET', 'maxmemory', '1');
      await assert.rejects(server.client.setUserStatus({ userId: 'ada', status: 1 }), /OOM/);
      await waitFor('the refusal', async () => /^200 .*"refused":\["OOM: /.test(await ready()));
      const metrics = (await request(`${server.httpUrl}/metrics`)).text;
      assert.match(metrics, /pilotlight_redis_refusals_total\{code="OOM"\} \d/);
      await set('CONFIG', 'SET', 'maxmemory', '0');
      await waitFor('its end', async () => (await ready()) === '200 {"status":"ready"}', 15_000);
      await set('REPLICAOF', '127.0.0.1', '1');
      await waitFor('the refusal', async () => /^503 .*"READONLY: /.test(await ready()), 15_000);
      await waitFor('gRPC health to be in step', async () => (await grpcHealth(server.grpcPort)) === 2);
      await set('REPLICAOF', 'NO', 'ONE');
      await waitFor('its end', async () => (await ready()) === '200 {"status":"ready"}', 15_000);
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
