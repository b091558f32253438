/** Every alert, with series that make it fire and series that do not, judged by Prometheus' own rules. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runProcess, temporaryFolder } from '../support/child-process.ts';

const alertsFile = fileURLToPath(new URL('../../deploy/prometheus/alerts.yml', import.meta.url));
const job = 'job="pilotlight",instance="a"';
const other = 'job="pilotlight",instance="b"';

/** Values of a series in promtool's notation, one each 15 s. */
type Series = Readonly<Record<string, string>>;

const always = (value: number) => `${value}x120`;
const growing = (perStep: number) => `0+${perStep}x120`;

/** All observations between two bounds: most of them after `slow`, or before it. */
function buckets(metric: string, bounds: readonly [fast: string, slow: string], isSlow: boolean): Series {
  return {
    [`${metric}_bucket{${job},le="${bounds[0]}"}`]: growing(isSlow ? 0 : 10),
    [`${metric}_bucket{${job},le="${bounds[1]}"}`]: growing(10),
    [`${metric}_bucket{${job},le="+Inf"}`]: growing(10),
  };
}

const node: Series = {
  [`up{${job}}`]: always(1),
  [`pilotlight_info{${job},engine="redis"}`]: always(1),
  [`pilotlight_ready{${job}}`]: always(1),
  [`pilotlight_partitions{${job}}`]: always(64),
  [`pilotlight_sweeper_partitions{${job}}`]: always(64),
  [`pilotlight_redis_up{${job}}`]: always(1),
};
const without = (name: string): Series =>
  Object.fromEntries(Object.entries(node).filter(([series]) => !series.startsWith(name)));
const internal = `pilotlight_rpc_duration_seconds_count{${job},transport="grpc",method="SetUserStatus",code="INTERNAL"}`;

interface Case {
  readonly firing: readonly Series[];
  readonly silent: readonly Series[];
}

const cases: Readonly<Record<string, Case>> = {
  PilotlightDown: { firing: [{ ...node, [`up{${other}}`]: always(0) }], silent: [node] },
  PilotlightMissing: { firing: [{}, { 'up{job="else",instance="a"}': always(1) }], silent: [node] },
  PilotlightMetricsMissing: {
    firing: ['pilotlight_info', 'pilotlight_ready', 'pilotlight_partitions', 'pilotlight_sweeper'].map(
      without,
    ),
    // One that does not answer at all is the matter of another alert.
    silent: [node, { [`up{${job}}`]: always(0) }],
  },
  PilotlightRedisMetricsMissing: {
    firing: [without('pilotlight_redis_up')],
    silent: [node, { ...without('pilotlight_info'), [`pilotlight_info{${job},engine="memory"}`]: always(1) }],
  },
  PilotlightNotReady: { firing: [{ [`pilotlight_ready{${job}}`]: always(0) }], silent: [node] },
  PilotlightRedisAway: { firing: [{ [`pilotlight_redis_up{${job}}`]: always(0) }], silent: [node] },
  PilotlightRedisErrors: {
    firing: [{ [`pilotlight_redis_errors_total{${job}}`]: growing(30) }],
    silent: [{ [`pilotlight_redis_errors_total{${job}}`]: growing(1) }],
  },
  PilotlightRedisSlow: {
    firing: [buckets('pilotlight_redis_command_duration_seconds', ['0.05', '0.1'], true)],
    silent: [buckets('pilotlight_redis_command_duration_seconds', ['0.05', '0.1'], false)],
  },
  PilotlightEngineMemory: {
    firing: [
      {
        [`pilotlight_engine_memory_bytes{${job}}`]: always(95),
        [`pilotlight_engine_memory_limit_bytes{${job}}`]: always(100),
      },
    ],
    silent: [
      {
        [`pilotlight_engine_memory_bytes{${job}}`]: always(80),
        [`pilotlight_engine_memory_limit_bytes{${job}}`]: always(100),
      },
      { [`pilotlight_engine_memory_bytes{${job}}`]: always(95) },
    ],
  },
  PilotlightPartitionsUnswept: {
    firing: [
      { ...node, [`pilotlight_sweeper_partitions{${job}}`]: always(0) },
      { ...node, [`pilotlight_sweeper_partitions{${job}}`]: always(63) },
      // A node is gone, and nobody took over what it swept.
      {
        ...node,
        [`pilotlight_sweeper_partitions{${job}}`]: always(32),
        [`pilotlight_sweeper_partitions{${other}}`]: '32x20 _x100',
      },
      without('pilotlight_sweeper_partitions'),
      {},
    ],
    silent: [
      node,
      {
        ...node,
        [`pilotlight_partitions{${other}}`]: always(64),
        [`pilotlight_sweeper_partitions{${job}}`]: always(30),
        [`pilotlight_sweeper_partitions{${other}}`]: always(34),
      },
    ],
  },
  PilotlightExpiryLate: {
    firing: [buckets('pilotlight_expiry_lateness_seconds', ['0.5', '1'], true)],
    silent: [buckets('pilotlight_expiry_lateness_seconds', ['0.25', '1'], false)],
  },
  PilotlightFeedBehind: {
    firing: [{ [`pilotlight_feed_lagging_partitions{${job}}`]: always(1) }],
    silent: [{ [`pilotlight_feed_lagging_partitions{${job}}`]: always(0) }],
  },
  PilotlightFeedLosses: {
    firing: [{ [`pilotlight_feed_losses_total{${job}}`]: '0x78 1x42' }],
    silent: [{ [`pilotlight_feed_losses_total{${job}}`]: always(7) }],
  },
  PilotlightFanOutSlow: {
    firing: [buckets('pilotlight_fanout_duration_seconds', ['0.05', '0.1'], true)],
    silent: [buckets('pilotlight_fanout_duration_seconds', ['0.05', '0.1'], false)],
  },
  PilotlightSlowWatchers: {
    firing: [{ [`pilotlight_conflated_events_total{${job}}`]: growing(3000) }],
    silent: [{ [`pilotlight_conflated_events_total{${job}}`]: growing(30) }],
  },
  PilotlightEventLoopBlocked: {
    firing: [buckets('pilotlight_event_loop_lag_seconds', ['0.1', '0.25'], true)],
    silent: [buckets('pilotlight_event_loop_lag_seconds', ['0.1', '0.25'], false)],
  },
  PilotlightLookupsFail: {
    firing: [{ [`pilotlight_lookup_asks_total{${job},service="policy",outcome="failed"}`]: growing(10) }],
    silent: [{ [`pilotlight_lookup_asks_total{${job},service="policy",outcome="failed"}`]: always(9) }],
  },
  PilotlightInternalErrors: {
    // The first one makes the series.
    firing: [{ [internal]: '_x78 1x42' }, { [internal]: '1x78 2x42' }],
    silent: [{ [internal]: always(5) }, {}],
  },
};

describe('alerts', () => {
  let folder: string;
  before(() => {
    folder = temporaryFolder('alerts');
  });
  after(() => rmSync(folder, { recursive: true }));

  it('are all of them tested', () => {
    const alerts = [...readFileSync(alertsFile, 'utf8').matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
    assert.deepEqual(Object.keys(cases).sort(), alerts.sort());
    for (const { firing, silent } of Object.values(cases)) assert.ok(firing.length > 0 && silent.length > 0);
  });

  it('fire when they should, and only then', async () => {
    const tests = Object.entries(cases).flatMap(([alert, { firing, silent }]) =>
      [
        ...firing.map((series) => ({ series, fires: true })),
        ...silent.map((series) => ({ series, fires: false })),
      ].map(({ series, fires }, index) => ({
        name: `${alert} ${fires ? 'fires' : 'is silent'} (${index})`,
        interval: '15s',
        input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
        promql_expr_test: [
          {
            expr: `max(ALERTS{alertname="${alert}",alertstate="firing"})`,
            eval_time: '20m',
            exp_samples: fires ? [{ labels: '{}', value: 1 }] : [],
          },
        ],
      })),
    );
    const file = join(folder, 'tests.yml');
    // JSON is YAML.
    writeFileSync(file, JSON.stringify({ rule_files: [alertsFile], evaluation_interval: '15s', tests }));
    const { code, out, err } = await runProcess('promtool', ['test', 'rules', file]);
    assert.equal(code, 0, out + err);
  });
});
