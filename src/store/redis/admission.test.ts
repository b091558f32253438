import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseRedisTarget } from '../../core/redis-target.ts';
import { type Log, silentLog } from '../../observe/log.ts';
import { Admission } from './admission.ts';
import { Keys } from './keys.ts';
import type { SendDirectly } from './redis-link.ts';

const redis70 = { redis_version: '7.0.15', redis_mode: 'standalone', loading: '0', role: 'master' };
/** As Valkey 8.1 words it, in Redis' place. */
const valkey81 = {
  redis_version: '7.2.4',
  server_name: 'valkey',
  valkey_version: '8.1.1',
  valkey_release_stage: 'ga',
  server_mode: 'standalone',
  redis_mode: 'standalone',
  loading: '0',
  role: 'master',
};

interface Answers {
  readonly info: Readonly<Record<string, string>>;
  readonly policy?: string | Error;
  readonly clusterState?: string;
  readonly storedPartitions?: string;
}

/** Checks a server that answers so. Answers what was warned of. */
async function check(url: string, answers: Answers): Promise<string[]> {
  const warned: string[] = [];
  const log = { ...silentLog, warn: (_: object, text: string) => warned.push(text) } as unknown as Log;
  const admission = new Admission({
    target: parseRedisTarget(url),
    partitions: 64,
    keys: new Keys({ prefix: '', tagged: false, partitions: 64, partitionOf: () => 0 }),
    log,
  });
  const send = async (args: readonly string[]): Promise<unknown> => {
    const { info, policy = 'noeviction', clusterState = 'ok', storedPartitions = '64' } = answers;
    const [name, what] = args;
    if (name === 'INFO') {
      return `# Server\r\n${Object.entries(info)
        .map((line) => line.join(':'))
        .join('\r\n')}\r\n`;
    }
    if (name === 'CLUSTER') return `cluster_state:${clusterState}\r\ncluster_slots_assigned:16384\r\n`;
    if (name === 'GET' && what === 'presence:partitions') return storedPartitions;
    if (name !== 'CONFIG') return 'OK';
    if (policy instanceof Error) throw policy;
    return { 'maxmemory-policy': policy };
  };
  await admission.check(send as SendDirectly, 0);
  return warned;
}

describe('admission of a Redis server', () => {
  const refused = (message: RegExp) => ({ code: 'INTERNAL', message });
  const passing = (message: RegExp) => ({ name: 'Error', message });

  it('takes Redis 7.0 and Valkey 7.2 and newer', async () => {
    const takes = (info: Record<string, string>) => check('redis://x', { info });
    await takes(redis70);
    await takes({ ...redis70, redis_version: '8.2.1' });
    await takes(valkey81);
    await takes({ ...valkey81, valkey_version: '7.2.5' });
    await takes({ ...valkey81, valkey_version: '10.0.0' });
    await assert.rejects(takes({ ...redis70, redis_version: '6.2.14' }), refused(/this server is 6\.2\.14$/));
    await assert.rejects(takes({ ...valkey81, valkey_version: '7.0.0' }), refused(/this server is 7\.0\.0$/));
    await assert.rejects(takes({ redis_mode: 'standalone' }), refused(/this server is unknown$/));
  });

  it('takes a Cluster exactly where the URL says so, and once it serves', async () => {
    const cluster = { ...redis70, redis_mode: 'cluster' };
    await check('redis+cluster://x', { info: cluster });
    await assert.rejects(check('redis://x', { info: cluster }), refused(/must begin with redis\+cluster/));
    await assert.rejects(check('redis+cluster://x', { info: redis70 }), refused(/is no Cluster/));
    await assert.rejects(
      check('redis+cluster://x', { info: cluster, clusterState: 'fail' }),
      passing(/its state is fail/),
    );
  });

  it('waits for a server that loads or is a replica', async () => {
    await assert.rejects(check('redis://x', { info: { ...redis70, loading: '1' } }), passing(/LOADING/));
    await assert.rejects(check('redis://x', { info: { ...redis70, role: 'slave' } }), passing(/READONLY/));
  });

  it('refuses data of other PARTITIONS', async () => {
    await assert.rejects(
      check('redis://x', { info: redis70, storedPartitions: '256' }),
      refused(/start with PARTITIONS=256, not 64/),
    );
  });

  it('warns of a policy that evicts, where it may know it', async () => {
    assert.deepEqual(await check('redis://x', { info: redis70 }), []);
    assert.match((await check('redis://x', { info: redis70, policy: 'allkeys-lru' }))[0] ?? '', /noeviction/);
    assert.deepEqual(await check('redis://x', { info: redis70, policy: new Error('NOPERM') }), []);
  });
});
