/** A server that tells what it costs. Started with --expose-gc by sessions.ts. */
import { readConfig } from '../../src/config.ts';
import { createLog } from '../../src/observe/log.ts';
import { Server } from '../../src/server.ts';

export interface Cost {
  readonly rssBytes: number;
  readonly heapBytes: number;
  readonly cpuMs: number;
}

const server = new Server(readConfig(process.env), createLog('warn'));
const { grpc, http } = await server.start();
process.send?.({ grpcPort: grpc.port, httpPort: http.port });

process.once('SIGTERM', () => void server.stop().then(() => process.exit(0)));
process.on('message', (message) => {
  if (message === 'collect') for (let round = 0; round < 3; round++) globalThis.gc?.();
  const { rss, heapUsed, external } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const cost: Cost = { rssBytes: rss, heapBytes: heapUsed + external, cpuMs: (user + system) / 1000 };
  process.send?.({ cost });
});
