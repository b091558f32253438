import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { monoMs } from './clock.ts';
import type { FromLoadProcess, Job, ProcessHealth, ScenarioName, ToLoadProcess } from './job.ts';
import { mixed } from './mixed-scenario.ts';
import { Recorder } from './recorder.ts';
import { LoadContext, type Scenario } from './scenario.ts';
import { churn, sessions, storm } from './session-scenarios.ts';
import { bulk, heartbeat, query, update } from './unary-scenarios.ts';
import { expiry, fanout } from './watch-scenarios.ts';

export type ScenarioTable = Readonly<Partial<Record<ScenarioName, (context: LoadContext) => Scenario>>>;

const ownScenarios: ScenarioTable = {
  heartbeat,
  update,
  query,
  bulk,
  fanout,
  expiry,
  sessions,
  churn,
  storm,
  mixed,
};

const progressIntervalMs = 250;

/** How a load process hears from its coordinator, and answers. */
export interface ParentChannel {
  send(message: FromLoadProcess): void;
  onMessage(listener: (message: ToLoadProcess) => void): void;
}

/**
 * One load process: takes a job, prepares, begins when told, reports, and closes when told.
 *
 * @param scenarios what it can do; default: everything, against Pilotlight
 */
export function runLoadProcess(parent: ParentChannel, scenarios: ScenarioTable = ownScenarios): void {
  let scenario: Scenario | undefined;
  let context: LoadContext | undefined;
  let progress: NodeJS.Timeout | undefined;
  const failed = (error: unknown): void => parent.send({ type: 'failed', message: (error as Error).message });
  const prepare = async (job: Job): Promise<void> => {
    context = new LoadContext(job, new Recorder());
    scenario = scenarios[job.scenario]?.(context);
    if (!scenario) throw new Error(`no such scenario: ${job.scenario}`);
    progress = setInterval(() => sendProgress(parent, context as LoadContext), progressIntervalMs);
    await scenario.prepare();
    parent.send({ type: 'ready' });
  };
  const run = async (startMs: number): Promise<void> => {
    const { recorder, pacer } = context as LoadContext;
    const health = observeHealth();
    await sleep(Math.max(0, startMs - monoMs()));
    await (scenario as Scenario).run(startMs);
    const latenessP99Ms = pacer.lateness.getValueAtPercentile(99) / 1000;
    parent.send({ type: 'result', result: { ...recorder.report(), health: health(latenessP99Ms) } });
  };
  parent.onMessage((message) => {
    if (message.type === 'job') prepare(message.job).catch(failed);
    else if (message.type === 'start') run(message.startMs).catch(failed);
    else {
      clearInterval(progress);
      scenario?.close();
    }
  });
}

function sendProgress(parent: ParentChannel, { recorder, note }: LoadContext): void {
  parent.send({ type: 'progress', done: recorder.done, errors: recorder.errors, note });
}

function observeHealth(): (latenessP99Ms: number) => ProcessHealth {
  const resolutionMs = 5;
  const delay = monitorEventLoopDelay({ resolution: resolutionMs });
  delay.enable();
  const beganMs = monoMs();
  const before = process.cpuUsage();
  return (latenessP99Ms) => {
    const { user, system } = process.cpuUsage(before);
    delay.disable();
    return {
      cpu: (user + system) / 1000 / (monoMs() - beganMs),
      // The histogram holds whole intervals: what is over the resolution is delay.
      loopDelayP99Ms: Math.max(0, delay.percentile(99) / 1e6 - resolutionMs),
      latenessP99Ms,
    };
  };
}
