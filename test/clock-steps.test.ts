/** A clock that steps by an hour expires nobody early, and leases end on time: on both engines, by real processes. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { PresenceService, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { ServerProcess } from './faults/server-process.ts';
import { FakeTime } from './support/fake-time.ts';
import { Watcher } from './support/pilotlight.ts';
import { RedisServer } from './support/redis-server.ts';
import { waitFor } from './support/wait.ts';

const ttlMs = 3000;
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
          ...(redis ? { REDIS_URL: redis.url } : time.environment),
        });
        const client = createClient(PresenceService, createGrpcTransport({ baseUrl: server.grpcUrl }));
        const watcher = new Watcher(client, ['kept', 'left']);
        const leaves = (userId: string) =>
          watcher.events.filter((event) => event.userId === userId && event.status === UserStatus.OFFLINE);
        try {
          for (const userId of ['kept', 'left'])
            await client.setUserStatus({ userId, status: UserStatus.ONLINE });
          await waitFor('all to be ONLINE', () => watcher.events.length >= 4);
          const before = watcher.events.length;
          await client.sendHeartbeat({ userId: 'left' });
          const renewedMs = performance.now();
          let isBeating = true;
          const beating = (async () => {
            while (isBeating) {
              assert.ok((await client.sendHeartbeat({ userId: 'kept' })).success);
              await sleep(200);
            }
          })();
          await sleep(500);
          time.set(stepMs);
          const goneEarly = () =>
            watcher.events.slice(before).some(({ status }) => status === UserStatus.OFFLINE);
          await sleep(Math.max(0, renewedMs + ttlMs - 200 - performance.now()));
          assert.ok(!goneEarly(), JSON.stringify(watcher.events.slice(before), bigintText));
          const isGone = () => leaves('left').some((event) => watcher.events.indexOf(event) >= before);
          // After a step forward every lease gets one more TTL.
          await waitFor('the lease to end', isGone, 2 * ttlMs + slackMs);
          await sleep(ttlMs);
          isBeating = false;
          await beating;
          assert.ok(
            watcher.events
              .slice(before)
              .every(({ userId, status }) => userId !== 'kept' || status === UserStatus.ONLINE),
          );
          assert.equal((await client.getUserStatus({ userId: 'kept' })).data?.status, UserStatus.ONLINE);
        } finally {
          await watcher.stop();
          await server.kill();
          await redis?.stop();
          time.stop();
        }
      });
    }
  });
}

function bigintText(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
