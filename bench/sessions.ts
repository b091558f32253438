/**
 * What sessions cost, and how fast they see and recover: `node bench/sessions.ts [--sessions 10000] [--recovery 5000]`.
 *
 * Starts its own Redis, two servers (each in its own process, so that 20,000 sockets fit under a file-descriptor limit of
 * 20,000) and several load processes, all on loopback. The figures are those of the machine with all of that on it.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { RedisServer } from '../test/support/redis-server.ts';
import { runRecovery } from './sessions/recovery.ts';
import { runSteady } from './sessions/steady.ts';

const { values } = parseArgs({
  options: {
    sessions: { type: 'string', default: '10000' },
    watched: { type: 'string', default: '50' },
    changes: { type: 'string', default: '40' },
    seconds: { type: 'string', default: '20' },
    recovery: { type: 'string', default: '5000' },
  },
});

const print = (line: string) => process.stdout.write(`${line}\n`);
const kilobytes = (bytes: number) => `${(bytes / 1024).toFixed(1)} KB`;

const redis = await RedisServer.start();
try {
  const sessions = Number(values.sessions);
  print(`# Sessions: ${cpus().length} x ${cpus()[0]?.model.trim()}, Node ${process.version}`);
  if (sessions > 0) {
    const figures = await runSteady({
      redisUrl: redis.url,
      webSockets: sessions,
      grpcStreams: sessions,
      watched: Number(values.watched),
      loadProcesses: 4,
      changesPerSecond: Number(values.changes),
      settleMs: 2000,
      onProgress: (what) => process.stderr.write(`${what} ...\n`),
      durationMs: Number(values.seconds) * 1000,
    });
    print('| wire | sessions | idle: RSS, heap | watching: RSS | CPU of a session | longest loop delay |');
    print('|---|---|---|---|---|---|');
    for (const side of figures.sides) {
      print(
        `| ${side.wire} | ${side.sessions} | ${kilobytes(side.idleBytes)}, ${kilobytes(side.idleHeapBytes)} | ${kilobytes(side.watchingBytes)} | ${side.cpuUs.toFixed(1)} us/s | ${side.loopDelayMs.toFixed(0)} ms |`,
      );
    }
    const { changes, events, lost, p50Ms, p99Ms, maxMs } = figures;
    print(
      `${changes} changes, each to ${values.watched} watchers: ${events} events, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms, max ${maxMs.toFixed(1)} ms; ${lost} sessions lost; longest loop delay of the load ${figures.loadLoopDelayMs.toFixed(0)} ms`,
    );
  }
  const recovery = Number(values.recovery);
  for (const signal of recovery > 0 ? (['SIGKILL', 'SIGTERM'] as const) : []) {
    const figures = await runRecovery({ redisUrl: redis.url, sessions: recovery, loadProcesses: 2, signal });
    print(
      `${signal} to a server of ${recovery} sessions: all back after ${(figures.recoveredMs / 1000).toFixed(1)} s, ${figures.falseOfflines} false OFFLINE, ${figures.events} events`,
    );
  }
} finally {
  await redis.stop();
}
