import { createClient } from 'redis';

/** Sends one command to a Redis server of the test's own, on a connection that ends with it. */
export async function redisCommand<Reply>(port: number, ...args: readonly string[]): Promise<Reply> {
  const client = createClient({
    socket: { host: '127.0.0.1', port, connectTimeout: 30_000, reconnectStrategy: false },
  });
  // What fails is told by the command.
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.sendCommand(args as string[])) as Reply;
  } finally {
    client.destroy();
  }
}
