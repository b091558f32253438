import { redisCommand } from './redis-command.ts';
import { freePort, RedisServer } from './redis-server.ts';
import { waitFor } from './wait.ts';

const slots = 16384;
const nodeTimeoutMs = 1000;

/** Three masters, and a replica of each. */
export class RedisCluster {
  readonly servers: readonly RedisServer[];

  constructor(servers: readonly RedisServer[]) {
    this.servers = servers;
  }

  static async start(): Promise<RedisCluster> {
    const busPorts = new Map<RedisServer, number>();
    const servers = await Promise.all(
      Array.from({ length: 6 }, async () => {
        const busPort = await freePort();
        const server = await RedisServer.start(clusterOptions(busPort));
        busPorts.set(server, busPort);
        return server;
      }),
    );
    const cluster = new RedisCluster(servers);
    await cluster.#join(busPorts);
    return cluster;
  }

  get url(): string {
    return `redis+cluster://${this.servers.map(({ port }) => `127.0.0.1:${port}`).join(',')}`;
  }

  /** The server that holds a slot now. */
  async masterOf(slot: number): Promise<RedisServer> {
    for (const server of this.servers) {
      if (!server.isRunning) continue;
      const ranges = await redisCommand<[number, number, [string, number, string]][]>(
        server.port,
        'CLUSTER',
        'SLOTS',
      );
      const range = ranges.find(([from, to]) => from <= slot && slot <= to);
      const holder = this.servers.find(({ port }) => port === range?.[2][1]);
      if (holder) return holder;
    }
    throw new Error(`nobody knows who holds slot ${slot}`);
  }

  /** Waits until another than `old` holds the slot, and the cluster serves. */
  async waitForFailover(slot: number, old: RedisServer): Promise<void> {
    await waitFor('the failover', async () => {
      const holder = await this.masterOf(slot).catch(() => old);
      return holder !== old && (await isOk(holder.port));
    });
  }

  /**
   * Moves a slot with its keys to another master, as an operator would while it is in use.
   *
   * @param midway called once, when the first of its keys have moved and others have not
   */
  async moveSlot(slot: number, to: RedisServer, midway: () => Promise<void> = async () => {}): Promise<void> {
    const from = await this.masterOf(slot);
    const text = String(slot);
    const [fromId, toId] = await Promise.all([from, to].map(({ port }) => idOf(port)));
    await redisCommand(to.port, 'CLUSTER', 'SETSLOT', text, 'IMPORTING', fromId as string);
    await redisCommand(from.port, 'CLUSTER', 'SETSLOT', text, 'MIGRATING', toId as string);
    for (let isFirst = true; ; isFirst = false) {
      const keys = await redisCommand<string[]>(from.port, 'CLUSTER', 'GETKEYSINSLOT', text, '50');
      if (keys.length === 0) break;
      const args = ['127.0.0.1', String(to.port), '', '0', '5000', 'KEYS', ...keys];
      await redisCommand(from.port, 'MIGRATE', ...args);
      if (isFirst) await midway();
    }
    await redisCommand(to.port, 'CLUSTER', 'SETSLOT', text, 'NODE', toId as string);
    await redisCommand(from.port, 'CLUSTER', 'SETSLOT', text, 'NODE', toId as string);
  }

  async stop(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.stop()));
  }

  async #join(busPorts: ReadonlyMap<RedisServer, number>): Promise<void> {
    const [first, ...others] = this.servers as [RedisServer, ...RedisServer[]];
    const masters = this.servers.slice(0, 3);
    for (const [index, { port }] of this.servers.entries()) {
      await redisCommand(port, 'CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1));
    }
    for (const [index, { port }] of masters.entries()) {
      const from = Math.ceil((index * slots) / masters.length);
      const to = Math.ceil(((index + 1) * slots) / masters.length) - 1;
      await redisCommand(port, 'CLUSTER', 'ADDSLOTSRANGE', String(from), String(to));
    }
    const firstBus = String(busPorts.get(first));
    for (const { port } of others) {
      await redisCommand(port, 'CLUSTER', 'MEET', '127.0.0.1', String(first.port), firstBus);
    }
    await waitFor('the cluster to form', () => this.#everyServer(isComplete));
    for (const [index, master] of masters.entries()) {
      const replica = this.servers[index + 3] as RedisServer;
      await redisCommand(replica.port, 'CLUSTER', 'REPLICATE', await idOf(master.port));
    }
    await waitFor('the cluster to be ready', () => this.#everyServer(isReady));
  }

  async #everyServer(condition: (port: number) => Promise<boolean>): Promise<boolean> {
    return (await Promise.all(this.servers.map(({ port }) => condition(port)))).every(Boolean);
  }
}

function clusterOptions(busPort: number): string[] {
  return [
    ...['--cluster-enabled', 'yes', '--cluster-port', String(busPort)],
    ...['--cluster-node-timeout', String(nodeTimeoutMs), '--cluster-replica-validity-factor', '0'],
    ...['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1'],
  ];
}

function idOf(port: number): Promise<string> {
  return redisCommand<string>(port, 'CLUSTER', 'MYID');
}

async function isOk(port: number): Promise<boolean> {
  return (await redisCommand<string>(port, 'CLUSTER', 'INFO')).includes('cluster_state:ok');
}

async function isComplete(port: number): Promise<boolean> {
  const info = await redisCommand<string>(port, 'CLUSTER', 'INFO');
  return info.includes('cluster_known_nodes:6') && info.includes('cluster_state:ok');
}

/** Everybody agrees on who is whose replica, and replicas have their first copy. */
async function isReady(port: number): Promise<boolean> {
  const nodes = await redisCommand<string>(port, 'CLUSTER', 'NODES');
  const info = await redisCommand<string>(port, 'INFO', 'replication');
  const isFit = info.includes('role:master') || info.includes('master_link_status:up');
  return nodes.split('\n').filter((line) => / (myself,)?slave /.test(line)).length === 3 && isFit;
}
