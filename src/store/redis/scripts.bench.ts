import { scripts } from './scripts.ts';

const users = Array.from({ length: 500 }, (_, number) => `user-${number}`);
const firstKey = 'user:status:user-0';
const ttl = '600000';
const channel = 'presence:0';

type Send = (args: readonly string[]) => Promise<unknown>;

/**
 * Lua scripts, each as calls to a Redis of the benchmark's own, loaded before. What counts is Redis' own time for them
 * (`cmdstat_evalsha`), so that neither client nor network is in it.
 */
export async function redisBenchmarks(send: Send): Promise<Record<string, () => Promise<unknown>>> {
  for (const { source } of Object.values(scripts)) await send(['SCRIPT', 'LOAD', source]);
  const run = (sha1: string, keys: readonly string[], args: readonly string[]) =>
    send(['EVALSHA', sha1, String(keys.length), ...keys, ...args]);
  const userKeys = (user: string) => [
    `user:status:${user}`,
    `user:meta:${user}`,
    'presence:0:deadlines',
    'presence:0:log',
    'presence:0:seq',
    `user:connections:${user}`,
    `user:details:${user}`,
  ];
  const light = (user: string) => run(scripts.light.sha1, userKeys(user), [user, channel, ttl, '0', '1']);
  await Promise.all(users.map(light));
  return {
    'script: renew 500 by heartbeats': () =>
      run(scripts.heartbeats.sha1, [firstKey], [ttl, '', users.join('\n')]),
    'script: read 500 users': () => run(scripts.readMany.sha1, [firstKey], [ttl, '', users.join('\n')]),
    'script: light 500 who are lit': () => Promise.all(users.map(light)),
  };
}
