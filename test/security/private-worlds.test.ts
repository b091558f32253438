/** Who hides and who is OFFLINE, on a Redis that is 2 ms away. RUNS sets how many histories, SEED which. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import type { UserState } from '../../src/core/presence.ts';
import { anyHistory, change, visibility } from '../support/privacy-histories.ts';
import { DistantRedis, lanes, nameIn, tellHistory } from '../support/private-worlds.ts';
import { waitFor } from '../support/wait.ts';

describe('privacy with Redis at a distance', () => {
  let redis: DistantRedis;
  before(async () => {
    redis = await DistantRedis.start();
  });
  after(() => redis.stop());

  it('lets nobody tell a hidden user from one who is OFFLINE, by any number, difference or order', async (context) => {
    const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
    const runs = Number(process.env.RUNS ?? 12);
    context.diagnostic(`SEED=${seed}`);
    const histories = fc
      .sample(fc.tuple(anyHistory, fc.tuple(visibility, visibility)), { seed, numRuns: runs })
      .entries();
    const told = Array.from({ length: lanes }, async (_, lane) => {
      for (const [index, [chapters, lastSeen]] of histories) {
        await tellHistory(redis, lane, `${seed}-${index}`, chapters, lastSeen).catch((error: Error) => {
          const history = JSON.stringify([chapters, lastSeen]);
          assert.fail(`history ${index} of SEED=${seed}: ${history}\n${error.message}`);
        });
      }
    });
    await Promise.all(told);
  });

  it('tells of a hide in its place among the transitions of the partition, without asking the engine', async () => {
    for (let round = 0; round < 5; round++) {
      const [hider, other] = [nameIn(`in order ${round} hider`, 0), nameIn(`in order ${round} other`, 0)];
      const told: UserState[] = [];
      const send = ({ state }: { state: UserState }) => told.push(state) > 0;
      const subscription = redis.hub.subscribe({ send });
      await redis.writer.setOnline(hider, null);
      await subscription.watch([hider, other]);
      await redis.writer.setPrivacy(hider, change({ invisible: true }));
      await redis.writer.setOnline(other, null);
      await waitFor('both', () => told.length === 4);
      assert.deepEqual(
        told.slice(2).map(({ userId, status }) => [userId, status]),
        [
          [hider, 'OFFLINE'],
          [other, 'ONLINE'],
        ],
      );
      subscription.close();
    }
  });
});
