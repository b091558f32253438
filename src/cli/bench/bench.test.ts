import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { GrpcServer } from '@pilotlight/grpc-server';
import { runProcess } from '../../../test/support/child-process.ts';
import { startServer, type TestServer } from '../../../test/support/pilotlight.ts';
import { monoMs } from './clock.ts';
import { judge, parseExpectation } from './expect.ts';
import type { FromLoadProcess, JobResult, LoadOptions, ScenarioName, ToLoadProcess } from './job.ts';
import { runLoadProcess } from './load-process.ts';
import { paths } from './messages.ts';
import { clientLimits, mergeResults, type RunResult } from './result.ts';

const durationMs = 700;
let runs = 0;

function optionsFor(port: number, httpPort: number, more: Partial<LoadOptions>): LoadOptions {
  return {
    host: '127.0.0.1',
    port,
    httpPort,
    metadata: [],
    prefix: `test${runs++}`,
    users: 100,
    connections: 4,
    rate: 200,
    concurrency: 20,
    warmupMs: 100,
    durationMs,
    bulkSize: 50,
    kind: 'stream',
    ttlMs: 600,
    heartbeatMs: 300,
    lifeMs: 200,
    watched: 4,
    ...more,
  };
}

/** One load process' work in this process. */
async function load(scenario: ScenarioName, options: LoadOptions): Promise<RunResult> {
  let tell: (message: ToLoadProcess) => void = () => {};
  const result = await new Promise<JobResult>((resolve, reject) => {
    runLoadProcess({
      onMessage: (listener) => {
        tell = listener;
      },
      send: (message: FromLoadProcess) => {
        if (message.type === 'ready') tell({ type: 'start', startMs: monoMs() + 10 });
        else if (message.type === 'result') resolve(message.result);
        else if (message.type === 'failed') reject(new Error(message.message));
      },
    });
    tell({ type: 'job', job: { scenario, options, process: 0, processes: 1 } });
  }).finally(() => tell({ type: 'close' }));
  return mergeResults([result], durationMs);
}

const seriesOf = (result: RunResult, name: string) => {
  const series = result.series.find((it) => it.name === name);
  assert.ok(series, `a series named ${name}`);
  return series;
};
const factOf = (result: RunResult, name: string): number | undefined =>
  result.facts.find((it) => it.name === name)?.value;

describe('bench scenarios against a real server', () => {
  let server: TestServer;
  let target: (more?: Partial<LoadOptions>) => LoadOptions;

  before(async () => {
    server = await startServer();
    const httpPort = Number(new URL(server.httpUrl).port);
    target = (more = {}) => optionsFor(server.grpcPort, httpPort, more);
  });
  after(() => server.stop());

  for (const scenario of ['heartbeat', 'update', 'query', 'bulk'] as const) {
    it(`${scenario} calls at the rate it was given, without errors`, async () => {
      const { count, errors, p50, p99, max, seconds } = seriesOf(await load(scenario, target()), scenario);
      assert.equal(count, (200 * durationMs) / 1000);
      assert.equal(errors, 0);
      assert.ok(0 < p50 && p50 <= p99 && p99 <= max && max < 5000, `${p50} ${p99} ${max}`);
      assert.equal(
        seconds.reduce((sum, second) => sum + second.count, 0),
        count,
      );
    });
  }

  it('heartbeat keeps as many calls in flight as it was told, where the rate is max', async () => {
    const { count, errors } = seriesOf(await load('heartbeat', target({ rate: 0 })), 'heartbeat');
    assert.ok(count > 200, String(count));
    assert.equal(errors, 0);
  });

  for (const kind of ['stream', 'grpc', 'websocket'] as const) {
    it(`fanout shows every flip to every watcher (${kind})`, async () => {
      const result = await load('fanout', target({ kind, connections: 10, rate: 20, watched: 8 }));
      assert.equal(seriesOf(result, 'event').count, 10 * 20 * (durationMs / 1000));
      assert.equal(factOf(result, 'missed-events'), 0);
      assert.equal(factOf(result, 'lost-sessions'), 0);
    });

    it(`sessions opens and holds all (${kind})`, async () => {
      const result = await load('sessions', target({ kind, connections: 30, durationMs: 300 }));
      assert.equal(seriesOf(result, 'open').count, 30);
      assert.equal(factOf(result, 'open'), 30);
      assert.equal(factOf(result, 'lost'), 0);
    });

    it(`storm brings all back (${kind})`, async () => {
      const result = await load('storm', target({ kind, connections: 30 }));
      assert.equal(seriesOf(result, 'back').count, 30);
      assert.equal(factOf(result, 'back'), 30);
      assert.ok((factOf(result, 'all-back') as number) > 0);
    });
  }

  it('expiry sees every light go out, none before its time', async () => {
    const result = await load('expiry', target({ users: 50, durationMs: 200 }));
    const { count, p50 } = seriesOf(result, 'offline');
    assert.equal(count, 50);
    assert.ok(p50 > 0 && p50 < 5000, String(p50));
    assert.equal(factOf(result, 'early'), 0);
    assert.equal(factOf(result, 'never-told'), 0);
  });

  it('churn opens sessions that leave again', async () => {
    const result = await load('churn', target({ rate: 50 }));
    assert.equal(seriesOf(result, 'open').errors, 0);
    assert.ok(seriesOf(result, 'open').count >= 30);
    assert.equal(factOf(result, 'lost'), 0);
  });

  it('mixed has all that an app does, and friends see it', async () => {
    const result = await load('mixed', target({ users: 60, rate: 50 }));
    for (const name of ['open', 'event', 'heartbeat', 'update', 'bulk']) {
      assert.ok(seriesOf(result, name).count > 0, name);
      assert.equal(seriesOf(result, name).errors, 0, name);
    }
    assert.equal(factOf(result, 'lost'), 0);
  });

  it('says what it found, and fails where an expectation is not met', async () => {
    const address = `127.0.0.1:${server.grpcPort}`;
    const run = (expectation: string) => bench('heartbeat', '--address', address, '--expect', expectation);
    const [good, bad] = await Promise.all([run('errors=0'), run('p99<1us')]);
    assert.equal(good.code, 0, good.output);
    assert.match(good.output, /heartbeat +\d+[\s\S]+met +errors=0/);
    assert.equal(bad.code, 1, bad.output);
    assert.match(bad.output, /NOT MET +p99<1us/);
  });

  it('says where nobody answers', async () => {
    const { code, output } = await bench('heartbeat', '--address', '127.0.0.1:1');
    assert.equal(code, 1);
    assert.match(output, /ECONNREFUSED.*127\.0\.0\.1:1/);
  });
});

async function bench(...args: readonly string[]): Promise<{ code: number | null; output: string }> {
  const main = fileURLToPath(new URL('../../main.ts', import.meta.url));
  const short = ['--users', '20', '--rate', '100', '--warmup', '100ms', '--duration', '300ms'];
  const { code, out, err } = await runProcess(process.execPath, [main, 'bench', ...args, ...short]);
  return { code, output: out + err };
}

describe('a server that stalls', () => {
  it('is charged for all calls that it held up, not only for those that it had begun', async () => {
    const stallMs = 300;
    const rate = 500;
    // One call at a time: while it stalls, the others cannot even be sent.
    const server = new GrpcServer({ limits: { maxConcurrentStreams: 1 } });
    let calls = 0;
    const answer = Uint8Array.from([0x08, 1]);
    const method = { kind: 'unary', decode: () => undefined, encode: () => answer } as const;
    server.unary({ ...method, path: paths.set }, () => undefined);
    server.unary({ ...method, path: paths.heartbeat }, async () => {
      if (++calls === 150) await sleep(stallMs);
    });
    const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
    const result = await load('heartbeat', optionsFor(port, port, { connections: 1, users: 5, rate }));
    await server.close();

    const { count, percentiles } = seriesOf(result, 'heartbeat');
    assert.equal(count, (rate * durationMs) / 1000);
    const msAt = (share: number) => percentiles.find(([it]) => it === share)?.[1] as number;
    // About 150 of 350 calls were to begin during the stall; from sending to answer only one took long.
    assert.ok(msAt(99) > stallMs * 0.8, `p99 ${msAt(99)} ms`);
    assert.ok(msAt(90) > stallMs * 0.3, `p90 ${msAt(90)} ms`);
  });
});

describe('expectations', () => {
  const series = { count: 10, errors: 1, rate: 100, mean: 2, p50: 1, p90: 5, p99: 40, p999: 50, max: 60 };
  const result: RunResult = {
    series: [
      { name: 'update', ...series, seconds: [], percentiles: [] },
      { name: 'event', ...series, p99: 120, seconds: [], percentiles: [] },
    ],
    facts: [{ name: 'false-offline', value: 0, unit: 'events' }],
    health: [{ cpu: 0.95, loopDelayP99Ms: 1, latenessP99Ms: 2 }],
  };
  const isMet = (text: string) => judge(parseExpectation(text), result).isMet;

  it('hold for the first series, a named one, or a fact', () => {
    assert.deepEqual(
      ['p99<50ms', 'p99<40ms', 'event.p99<100ms', 'event.p99<=0.2s', 'rate>=0.1k', 'p99.9=50'].map(isMet),
      [true, false, false, true, true, true],
    );
    assert.deepEqual(['false-offline=0', 'false-offline>0', 'errors=0'].map(isMet), [true, false, false]);
  });

  it('are not met by what was not measured', () => {
    assert.equal(isMet('query.p99<100ms'), false);
    assert.equal(isMet('lost=0'), false);
  });

  it('are refused when they mean nothing', () => {
    for (const text of ['p99', 'p99<', '<50ms', 'p99<50 parsecs', 'P99<50ms', '']) {
      assert.throws(() => parseExpectation(text), /no expectation/, text);
    }
  });

  it('the load generator says when it was the limit', () => {
    assert.match(clientLimits(result).join(), /used 95 % of a core/);
  });
});
