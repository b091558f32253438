/** More calls than the server can do: some are refused and told when to come back, nobody inside is hurt, and it passes. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectError } from '@connectrpc/connect';
import { RetryInfoSchema } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import { UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { RawSession } from '../sessions/support/raw-session.ts';
import { errorCode, startServer, type TestServer } from '../support/pilotlight.ts';
import { RedisServer } from '../support/redis-server.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';

/** What became of calls that begin at once. */
async function callAtOnce(server: TestServer, calls: number): Promise<{ done: number; refused: number }> {
  const outcomes = await Promise.allSettled(
    Array.from({ length: calls }, (_, user) => server.client.sendHeartbeat({ userId: `user-${user}` })),
  );
  let refused = 0;
  for (const outcome of outcomes) {
    if (outcome.status === 'fulfilled') continue;
    assert.equal(errorCode(outcome.reason), 'RATE_LIMITED', String(outcome.reason));
    const [retry] = ConnectError.from(outcome.reason).findDetails(RetryInfoSchema);
    assert.equal(retry?.retryDelay?.seconds, 1n);
    refused++;
  }
  return { done: calls - refused, refused };
}

async function refusals(server: TestServer, limit: string): Promise<number> {
  const text = await (await fetch(`${server.httpUrl}/metrics`)).text();
  return Number(new RegExp(`refusals_total\\{limit="${limit}"\\} (\\d+)`).exec(text)?.[1]);
}

describe('overload', () => {
  it('bounds the calls that wait for a slow engine, on every transport', async () => {
    const redis = await RedisServer.start();
    const way = await TcpProxy.start(redis.port);
    const server = await startServer({
      REDIS_URL: `redis://127.0.0.1:${way.port}`,
      REDIS_TIMEOUT: '20s',
      MAX_CALLS: '3',
      USER_STATUS_TTL: '1h',
      DRAIN_TIMEOUT: '0s',
    });
    try {
      await waitFor('the engine', async () => (await fetch(`${server.httpUrl}/readyz`)).status === 200);
      way.pause();
      const waiting = callAtOnce(server, 3);
      await waitFor('the bound', async () => {
        const response = await fetch(`${server.httpUrl}/v1/users/ada/heartbeat`, {
          method: 'POST',
          signal: AbortSignal.timeout(300),
        }).catch(() => undefined);
        return response?.status === 429 && response.headers.get('retry-after') === '1';
      });
      assert.deepEqual(await callAtOnce(server, 5), { done: 0, refused: 5 });
      assert.equal((await fetch(`${server.httpUrl}/livez`)).status, 200);
      way.resume();
      await waiting;
      await waitFor('room', async () => (await callAtOnce(server, 1)).done === 1);
      assert.ok((await refusals(server, 'calls-under-way')) >= 6);
    } finally {
      await server.stop();
      way.stop();
      await redis.stop();
    }
  });

  it('refuses calls of turns that are too long, spares whoever is inside, and passes', async () => {
    const server = await startServer({
      // Any turn with more than a call or two is too long.
      MAX_TURN: '1ms',
      USER_STATUS_TTL: '1h',
      DRAIN_TIMEOUT: '200ms',
      MAX_FRAMES_PER_SECOND: '1000',
    });
    try {
      const inside = await RawSession.open('WebSocket JSON', server, { userId: 'inside' });
      let isOver = false;
      const asking = (async () => {
        while (!isOver) {
          const answer = await inside.ask({ case: 'query', value: { userIds: ['inside'] } });
          assert.equal(answer.case === 'states' && answer.value.states[0]?.status, UserStatus.ONLINE);
          await sleep(10);
        }
      })();
      let refused = 0;
      let done = 0;
      await waitFor('refusals', async () => {
        const outcome = await callAtOnce(server, 500);
        refused += outcome.refused;
        done += outcome.done;
        return refused > 500;
      });
      assert.ok(done > 0, 'some are served all along');
      assert.equal(await refusals(server, 'overload'), refused);
      isOver = true;
      await asking;
      await waitFor('everybody to be served again', async () => (await callAtOnce(server, 1)).done === 1);
      const late = await RawSession.open('WebSocket JSON', server, { userId: 'late' });
      await late.goodbye();
      await inside.goodbye();
    } finally {
      await server.stop();
    }
  });
});
