import { createClient } from 'redis';
import { partitionOf } from '../src/core/partition.ts';

/** Users of one script call. */
const chunk = 500;

/** ARGV: lease ms, now ms, then user, key of the partition's index, time of the first check of each. */
const lightAll = `
for i = 3, #ARGV, 3 do
  local user = ARGV[i]
  redis.call('SET', 'user:status:' .. user, 'online', 'PX', ARGV[1])
  redis.call('HSET', 'user:meta:' .. user, 's', 1, 'a', 1, 'c', 2, 'v', ARGV[2] .. '000', 't', ARGV[2], 'u', ARGV[2])
  redis.call('ZADD', ARGV[i + 1], ARGV[i + 2], user)
end`;

/**
 * ONLINE users as they would be in Redis long since, with leases of three TTLs to begin with: lit one by one through a
 * store, the first of a million would end before the last was lit. Their checks are spread over one TTL, and stay so when
 * the users heartbeat in turn, all of them in half a TTL.
 */
export async function seedUsers(
  url: string,
  users: { readonly count: number; readonly nameOf: (i: number) => string },
  { ttlMs, partitions }: { readonly ttlMs: number; readonly partitions: number },
): Promise<void> {
  const client = createClient({ url });
  await client.connect();
  const nowMs = Date.now();
  const { count, nameOf } = users;
  try {
    for (let from = 0; from < count; from += chunk) {
      const args = [String(3 * ttlMs), String(nowMs)];
      for (let i = from; i < Math.min(count, from + chunk); i++) {
        const checkMs = nowMs + Math.round((1 + i / count + (i % 2)) * (ttlMs / 2));
        const user = nameOf(i);
        args.push(user, `presence:${partitionOf(user, partitions)}:deadlines`, String(checkMs));
      }
      await client.eval(lightAll, { arguments: args });
    }
  } finally {
    client.destroy();
  }
}
