import { createClient } from 'redis';
import { partitionOf } from '../src/core/partition.ts';

const chunk = 5000;

/**
 * ONLINE users as they would be in Redis long since, with leases of three TTLs to begin with: lit one by one through a
 * store, the first of a million would end before the last was lit. Their checks are spread over one TTL, as those of users
 * who came one by one.
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
      const commands: Promise<unknown>[] = [];
      for (let i = from; i < Math.min(count, from + chunk); i++) {
        const user = nameOf(i);
        const checkMs = nowMs + Math.round((0.5 + i / count) * ttlMs);
        commands.push(
          client.set(`user:status:${user}`, 'online', { PX: 3 * ttlMs }),
          client.hSet(`user:meta:${user}`, { s: 1, a: 1, c: 2, v: nowMs * 1000, t: nowMs, u: nowMs }),
          client.zAdd(`presence:${partitionOf(user, partitions)}:deadlines`, { score: checkMs, value: user }),
        );
      }
      await Promise.all(commands);
    }
  } finally {
    client.destroy();
  }
}
