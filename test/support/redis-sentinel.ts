import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { redisCommand } from './redis-command.ts';
import { RedisServer } from './redis-server.ts';
import { waitFor } from './wait.ts';

const masterName = 'main';
const downAfterMs = 500;

/** A master, a replica, and three Sentinels that fail over after half a second. */
export class RedisSentinelTrio {
  readonly servers: readonly [RedisServer, RedisServer];
  readonly sentinels: readonly RedisServer[];

  constructor(servers: readonly [RedisServer, RedisServer], sentinels: readonly RedisServer[]) {
    this.servers = servers;
    this.sentinels = sentinels;
  }

  static async start(): Promise<RedisSentinelTrio> {
    const fast = ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1'];
    const master = await RedisServer.start(fast);
    const replica = await RedisServer.start([...fast, '--replicaof', '127.0.0.1', String(master.port)]);
    const sentinels = await Promise.all([1, 2, 3].map(() => startSentinel(master.port)));
    const trio = new RedisSentinelTrio([master, replica], sentinels);
    await waitFor('the Sentinels to know the replica and each other', async () => {
      const seen = await Promise.all(
        sentinels.map(({ port }) => redisCommand<unknown>(port, 'SENTINEL', 'MASTER', masterName)),
      );
      return seen.every((reply) => {
        const fields = asRecord(reply);
        return fields['num-slaves'] === '1' && fields['num-other-sentinels'] === '2';
      });
    });
    return trio;
  }

  get url(): string {
    return `redis+sentinel://${this.sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}/${masterName}`;
  }

  /** The server that the Sentinels call the master. */
  async master(): Promise<RedisServer> {
    const { port } = this.sentinels[0] as RedisServer;
    const [, masterPort] = await redisCommand<[string, string]>(
      port,
      'SENTINEL',
      'GET-MASTER-ADDR-BY-NAME',
      masterName,
    );
    return this.servers.find((server) => server.port === Number(masterPort)) as RedisServer;
  }

  /** Waits until another than `old` is the master. */
  async waitForFailover(old: RedisServer): Promise<void> {
    await waitFor('the failover', async () => (await this.master()) !== old);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.sentinels, ...this.servers].map((server) => server.stop()));
  }
}

function startSentinel(masterPort: number): Promise<RedisServer> {
  return RedisServer.start([], async (folder) => {
    const file = join(folder, 'sentinel.conf');
    const lines = [
      `sentinel monitor ${masterName} 127.0.0.1 ${masterPort} 2`,
      `sentinel down-after-milliseconds ${masterName} ${downAfterMs}`,
      `sentinel failover-timeout ${masterName} 5000`,
    ];
    await writeFile(file, `${lines.join('\n')}\n`);
    return [file, '--sentinel'];
  });
}

function asRecord(reply: unknown): Record<string, string> {
  if (!Array.isArray(reply)) return reply as Record<string, string>;
  const record: Record<string, string> = {};
  for (let i = 0; i < reply.length; i += 2) record[reply[i]] = reply[i + 1];
  return record;
}
