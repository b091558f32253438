/** What nodes write back into a Redis that lost it: before anybody is set online, and the newest wins. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { redisCommand } from '../../../test/support/redis-command.ts';
import { RedisServer } from '../../../test/support/redis-server.ts';
import { startStore } from '../../../test/support/redis-store.ts';
import { waitFor } from '../../../test/support/wait.ts';
import type { PrivacyChange } from '../../core/privacy.ts';
import type { RedisStore } from './redis-store.ts';

const nothing = { invisible: null, lastSeen: null, addBlocked: [], removeBlocked: [], maxBlockedUsers: 9 };
const invisible = (isOn: boolean): PrivacyChange => ({ ...nothing, invisible: isOn });

describe('a Redis that lost data', () => {
  let redis: RedisServer;
  let one: RedisStore;
  let two: RedisStore;
  const ask = <Reply>(...args: string[]) => redisCommand<Reply>(redis.port, ...args);

  before(async () => {
    redis = await RedisServer.start();
    const policy = { ttlMs: 60_000, partitions: 1, restoreMs: 1500 };
    one = await startStore(redis, policy);
    two = await startStore(redis, policy);
    // Both have claimed, and so know the data that goes.
    await waitFor('both nodes', async () => (await ask('ZCARD', 'presence:nodes')) === 2);
    for (const store of [one, two]) await store.setOnline('anybody', null);
  });
  after(async () => {
    await Promise.all([one.stop(), two.stop()]);
    await redis.stop();
  });

  async function lose(): Promise<void> {
    const gone = one.stats().dataGone;
    await ask('FLUSHALL');
    await waitFor('both to see it', () => [one, two].every((it) => it.stats().dataGone > gone));
  }

  it('sets nobody online before every node had time, though the calling one has nothing left to write', async () => {
    await lose();
    const opens = Number(await ask('HGET', 'presence:0:sweeper', 'opens'));
    let refused = 0;
    await waitFor('the gate to open', async () => {
      try {
        await two.setOnline('anybody', null);
        return true;
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'REDIS_ERROR');
        refused++;
        return false;
      }
    });
    const [seconds, micros] = await ask<[string, string]>('TIME');
    assert.ok(opens > 0 && Number(seconds) * 1000 + Number(micros) / 1000 >= opens, 'not before');
    assert.ok(refused > 0);
  });

  it('has the newest privacy and sign-out, whoever writes first', async () => {
    await one.setPrivacy('hides', invisible(true));
    await one.setPrivacy('shows', invisible(true));
    await two.setPrivacy('shows', invisible(false));
    await one.setOffline('back');
    await sleep(5);
    await two.setOnline('back', null);
    await two.setOnline('gone', null);
    await one.setOffline('gone');
    await lose();
    const states = await two.read(['hides', 'shows']);
    assert.deepEqual(
      states.map(({ privacy }) => privacy !== undefined),
      [true, false],
    );
    await waitFor('the gate to open', () => two.setOnline('anybody', null).then(Boolean, () => false));
    assert.equal(await two.heartbeat('back'), true);
    assert.equal(await two.heartbeat('gone'), false);
  });

  it('has back what only the newest writes lost, as after a failover or from a backup', async () => {
    await one.setPrivacy('moved', invisible(true));
    await ask('DEL', 'user:privacy:moved', 'user:meta:moved');
    // Nothing says so but a connection that is made anew.
    await ask('CLIENT', 'KILL', 'TYPE', 'normal');
    await waitFor('its privacy', async () => {
      const [state] = await two.read(['moved']).catch(() => []);
      return state?.privacy?.invisible != null;
    });
  });
});
