/** A clock that steps by an hour expires nobody early, and leases end on time: on both engines, by real processes. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { Cause, PresenceService, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { ServerProcess } from './faults/server-process.ts';
import { FakeTime } from './support/fake-time.ts';
import { Watcher } from './support/pilotlight.ts';
import { RedisServer } from './support/redis-server.ts';
import { waitFor } from './support/wait.ts';

const { ONLINE, OFFLINE } = UserStatus;
const ttlMs = 4000;
const hourMs = 3_600_000;

/** On a busy machine a lease is noticed late; an hour late is what this is about. */
const slackMs = 10_000;

for (const engine of ['memory', 'redis'] as const) {
  describe(`the clock of the ${engine} engine`, { concurrency: true }, () => {
    for (const stepMs of [hourMs, -hourMs]) {
      it(`steps by ${stepMs / hourMs} h: nobody goes OFFLINE early, leases end on time`, async () => {
        const time = new FakeTime();
        const redis =
          engine === 'redis' ? await RedisServer.start([], undefined, time.environment) : undefined;
        const server = await ServerProcess.start('server', {
          USER_STATUS_TTL: `${ttlMs}ms`,
          HEARTBEAT_INTERVAL: '200ms',
          MAX_TURN: '0s',
          REDIS_TIMEOUT: '10s',
          ...(redis ? { REDIS_URL: redis.url } : time.environment),
        });
        const client = createClient(PresenceService, createGrpcTransport({ baseUrl: server.grpcUrl }));
        const watcher = new Watcher(client, ['kept', 'left']);
        let isBeating = true;
        const beating = (async () => {
          for (; isBeating; await sleep(200)) await client.sendHeartbeat({ userId: 'kept' });
        })();
        beating.catch(() => {});
        try {
          await waitFor('the one who stays', () => watcher.events.some(({ status }) => status === ONLINE));
          await client.setUserStatus({ userId: 'left', status: ONLINE });
          const renewedMs = performance.now();
          await waitFor('both', () =>
            watcher.events.some(({ userId, status }) => userId === 'left' && status === ONLINE),
          );
          const before = watcher.events.length;
          const gone = () => watcher.events.slice(before).filter(({ status }) => status === OFFLINE);
          time.set(stepMs);
          await sleep(Math.max(0, renewedMs + ttlMs - 200 - performance.now()));
          assert.equal(gone().length, 0, 'nobody goes OFFLINE early');
          // After a step forward every lease gets one more TTL.
          await waitFor('the lease to end', () => gone().length > 0, 2 * ttlMs + slackMs);
          isBeating = false;
          await beating;
          assert.deepEqual(
            gone().map(({ userId, cause }) => [userId, cause]),
            [['left', Cause.EXPIRED]],
          );
          assert.equal((await client.getUserStatus({ userId: 'kept' })).data?.status, ONLINE);
        } finally {
          isBeating = false;
          await beating.catch(() => {});
          await watcher.stop();
          await server.kill();
          await redis?.stop();
          time.stop();
        }
      });
    }
  });
}
