/** A node that dies is no outage of the engine: leases end when they should, whoever swept them. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { PresenceService, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { Watcher } from '../support/pilotlight.ts';
import { redisCommand } from '../support/redis-command.ts';
import { RedisServer } from '../support/redis-server.ts';
import { waitFor } from '../support/wait.ts';
import { ServerProcess } from './server-process.ts';

const ttlMs = 5000;
const partitions = 64;

it('a node that is killed gives nobody one more TTL of 5 s', async () => {
  const redis = await RedisServer.start();
  const environment = {
    REDIS_URL: redis.url,
    REDIS_TIMEOUT: '10s',
    USER_STATUS_TTL: `${ttlMs}ms`,
    HEARTBEAT_INTERVAL: '1s',
    MAX_TURN: '0s',
    MAX_CALLS: '10000',
  };
  const killed = await ServerProcess.start('killed', environment);
  const kept = await ServerProcess.start('kept', environment);
  const client = createClient(PresenceService, createGrpcTransport({ baseUrl: kept.grpcUrl }));
  const users = Array.from({ length: 200 }, (_, user) => `user-${user}`);
  const watcher = new Watcher(client, users);
  const owners = async () => {
    const names = Array.from({ length: partitions }, (_, partition) =>
      redisCommand<string | null>(redis.port, 'HGET', `presence:${partition}:sweeper`, 'owner'),
    );
    return Map.groupBy(await Promise.all(names), (owner) => owner);
  };
  try {
    await waitFor(
      'both to sweep',
      async () => [...(await owners()).values()].every((it) => it.length === partitions / 2),
      20_000,
    );
    await waitFor('the snapshot', () => watcher.events.length === users.length, 20_000);
    await Promise.all(users.map((userId) => client.setUserStatus({ userId, status: UserStatus.ONLINE })));
    await killed.kill();
    const gone = () =>
      watcher.events.filter(({ status, snapshot }) => !snapshot && status === UserStatus.OFFLINE);
    await waitFor('all to go', () => gone().length === users.length, 4 * ttlMs);
    // Both by the engine's clock: an outage would have given one more TTL.
    const latestMs = Math.max(...gone().map(({ timestamp, lastSeen }) => Number(timestamp - lastSeen)));
    assert.ok(latestMs < 1.8 * ttlMs, `the latest went OFFLINE ${latestMs} ms after its last sign of life`);
  } finally {
    await watcher.stop();
    await killed.kill();
    await kept.kill();
    await redis.stop();
  }
});
