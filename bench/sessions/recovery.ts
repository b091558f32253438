import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { PresenceService, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { ServerProcess, TaskProcess } from './processes.ts';

export interface RecoveryLoad {
  /** HTTP ports: the first is where everybody begins; whoever loses it tries the next. */
  readonly ports: readonly number[];
  readonly first: number;
  readonly count: number;
}

export interface RecoveryOptions {
  readonly redisUrl: string;
  readonly sessions: number;
  readonly loadProcesses: number;
  /** `SIGKILL`: a crash. `SIGTERM`: a hand-over. */
  readonly signal: 'SIGKILL' | 'SIGTERM';
}

export interface RecoveryFigures {
  /** From the signal until the last session was open again on the other server. */
  readonly recoveredMs: number;
  /** OFFLINE events that a watcher on the other server saw. */
  readonly falseOfflines: number;
  /** Events of any kind that it saw after the first states. */
  readonly events: number;
}

/** A server full of sessions goes; all of them go to the other one. */
export async function runRecovery(options: RecoveryOptions): Promise<RecoveryFigures> {
  const environment = { REDIS_URL: options.redisUrl, IDLE_AFTER: '0s', DRAIN_TIMEOUT: '10s' };
  const servers = [await ServerProcess.start(environment), await ServerProcess.start(environment)] as const;
  const loads: TaskProcess[] = [];
  const aborter = new AbortController();
  try {
    for (let index = 0; index < options.loadProcesses; index++) {
      const first = Math.floor((index * options.sessions) / options.loadProcesses);
      const end = Math.floor(((index + 1) * options.sessions) / options.loadProcesses);
      const ports = servers.map(({ httpPort }) => httpPort);
      const load: RecoveryLoad = { ports, first, count: end - first };
      loads.push(await TaskProcess.start('../../client/bench/recovery-process.ts', load));
    }
    await Promise.all(loads.map((load) => load.run('open')));

    const baseUrl = `http://127.0.0.1:${servers[1].grpcPort}`;
    const client = createClient(PresenceService, createGrpcTransport({ baseUrl }));
    const watchUserIds = Array.from({ length: options.sessions }, (_, index) => `user ${index}`);
    let snapshots = 0;
    let events = 0;
    let falseOfflines = 0;
    const isIntroduced = Promise.withResolvers<void>();
    const watching = (async () => {
      const subscription = client.subscribeStatusUpdates({ watchUserIds }, { signal: aborter.signal });
      for await (const { snapshot, status } of subscription) {
        if (status === UserStatus.OFFLINE) falseOfflines++;
        if (!snapshot) events++;
        else if (++snapshots === options.sessions) isIntroduced.resolve();
      }
    })().catch((error: unknown) => {
      if (!aborter.signal.aborted) throw error;
    });
    await isIntroduced.promise;

    const recovered = Promise.all(loads.map((load) => load.run('recover')));
    const beganMs = performance.now();
    const gone = servers[0].end(options.signal);
    await recovered;
    const recoveredMs = performance.now() - beganMs;
    await gone;
    aborter.abort();
    await watching;
    return { recoveredMs, falseOfflines, events };
  } finally {
    await Promise.all(loads.map((load) => load.end()));
    await Promise.all(servers.map((server) => server.end('SIGKILL')));
  }
}
