import { setTimeout as sleep } from 'node:timers/promises';
import { redisCommand } from '../support/redis-command.ts';
import type { RedisServer } from '../support/redis-server.ts';
import type { ServerProcess } from './server-process.ts';
import type { TcpProxy } from './tcp-proxy.ts';

/** A crash: nothing is handed over. */
export async function crashNode(server: ServerProcess): Promise<void> {
  await server.kill();
  await sleep(1000);
  await server.run();
}

/** A planned stop, and a start. */
export async function restartNode(server: ServerProcess): Promise<void> {
  await server.stop();
  await server.run();
}

/** Cuts one node's feed connection, as a flaky network would; the node is not told which messages it missed. */
export async function cutFeed(redis: RedisServer): Promise<void> {
  const clients = await redisCommand<string>(redis.port, 'CLIENT', 'LIST', 'TYPE', 'pubsub');
  const id = /^id=(\d+)/.exec(clients)?.[1];
  if (id !== undefined) await redisCommand(redis.port, 'CLIENT', 'KILL', 'ID', id);
}

/** Redis stops answering, with everything in place. */
export async function freezeRedis(redis: RedisServer, ms: number): Promise<void> {
  redis.signal('SIGSTOP');
  await sleep(ms);
  redis.signal('SIGCONT');
}

/** Redis crashes, and comes back with what it saved. */
export async function crashRedis(redis: RedisServer, ms: number): Promise<void> {
  await redis.kill();
  await sleep(ms);
  await redis.run();
}

/** One node cannot reach Redis; the others can. */
export async function isolateNode(proxy: TcpProxy, ms: number): Promise<void> {
  proxy.cut();
  await sleep(ms);
  proxy.mend();
}
