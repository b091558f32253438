/** A server that tells what it costs. Started with --expose-gc by sessions.ts. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { readConfig } from '../../src/config.ts';
import { createLog } from '../../src/observe/log.ts';
import { Server } from '../../src/server.ts';

export interface Cost {
  /** Longest that the event loop did not come round since the last look, ms. */
  readonly loopDelayMs: number;
  readonly rssBytes: number;
  readonly heapBytes: number;
  readonly cpuMs: number;
}

const loopDelay = monitorEventLoopDelay({ resolution: 5 });
loopDelay.enable();
const server = new Server(readConfig(process.env), createLog('warn'));
const { grpc, http } = await server.start();
process.send?.({ grpcPort: grpc.port, httpPort: http.port });

process.once('SIGTERM', () => void server.stop().then(() => process.exit(0)));
process.on('message', (message) => {
  if (message === 'collect') for (let round = 0; round < 3; round++) globalThis.gc?.();
  const { rss, heapUsed, external } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const loopDelayMs = loopDelay.max / 1e6;
  loopDelay.reset();
  const cost: Cost = {
    loopDelayMs,
    rssBytes: rss,
    heapBytes: heapUsed + external,
    cpuMs: (user + system) / 1000,
  };
  process.send?.({ cost });
});
