/** Metrics: the table, the documentation, the board, the alerts, and what is served, against each other. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { metricTable } from '../../src/observe/metrics.ts';
import { EventReader, request } from '../support/http.ts';
import { startServer, type TestServer, Watcher } from '../support/pilotlight.ts';
import { redisCommand } from '../support/redis-command.ts';
import { RedisServer } from '../support/redis-server.ts';
import { waitFor } from '../support/wait.ts';

const file = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const read = (path: string) => readFileSync(file(path), 'utf8');
const histogramSuffix = /_(bucket|sum|count)$/;

/** Runs promtool of the Debian package prometheus. */
function promtool(args: readonly string[], input = ''): void {
  const { error, status, stdout, stderr } = spawnSync('promtool', args, { input, encoding: 'utf8' });
  assert.ok(!error, 'promtool does not start; install the Debian package prometheus');
  assert.equal(status, 0, stdout + stderr);
}

/** Names, types and labels in Prometheus' text format. */
function parse(text: string): Map<string, { type: string; labels: Set<string> }> {
  const metrics = new Map<string, { type: string; labels: Set<string> }>();
  for (const line of text.split('\n')) {
    const [, typed, type] = /^# TYPE (\w+) (\w+)$/.exec(line) ?? [];
    if (typed && type) metrics.set(typed, { type, labels: new Set() });
    const [, sample, labels] = /^(\w+)(?:\{(.*)\})? \S+$/.exec(line) ?? [];
    if (!sample) continue;
    const metric = metrics.get(sample) ?? metrics.get(sample.replace(histogramSuffix, ''));
    assert.ok(metric, `${sample} has no type`);
    for (const [, label] of (labels ?? '').matchAll(/(\w+)="/g)) metric.labels.add(label as string);
  }
  return metrics;
}

describe('metrics', () => {
  let redis: RedisServer;
  let server: TestServer;
  let text: string;

  before(async () => {
    redis = await RedisServer.start();
    const users = ['secret-ada', 'secret-bob', 'secret-cat', 'secret-eve'];
    await redisCommand(redis.port, 'SADD', 'user:directory', ...users);
    server = await startServer({ REDIS_URL: redis.url, USER_DIRECTORY: 'redis' });
    const watcher = new Watcher(server.client, ['secret-ada', 'secret-bob'], 'secret-eve');
    const reader = new EventReader(`${server.httpUrl}/v1/events?watch=secret-ada`);
    await server.client.setUserStatus({ userId: 'secret-ada', status: 1 });
    await server.client.sendHeartbeat({ userId: 'secret-bob' });
    await request(`${server.httpUrl}/v1/users/secret-cat/status`);
    await request(`${server.httpUrl}/v1/users/%00/status`);
    await waitFor('two expiries and a sample after them', async () => {
      ({ text } = await request(`${server.httpUrl}/metrics`));
      return (
        /^pilotlight_transitions_total\{cause="EXPIRED"\} 2$/m.test(text) &&
        /^pilotlight_online_users 0$/m.test(text) &&
        /^pilotlight_engine_memory_bytes \d/m.test(text)
      );
    });
    await watcher.stop();
    reader.close();
  });
  after(async () => {
    await server.stop();
    await redis.stop();
  });

  it('are those of the table, with its types and labels, and no other', () => {
    const served = Object.fromEntries(
      [...parse(text)].map(([name, { type, labels }]) => [
        name,
        [type, ...[...labels].filter((it) => it !== 'le').sort()],
      ]),
    );
    const table = Object.fromEntries(
      Object.entries(metricTable).map(([name, { type, labels }]) => [name, [type, ...[...labels].sort()]]),
    );
    assert.deepEqual(served, table);
  });

  it('have a value each, after some life', () => {
    // Without a bound of memory there is none to tell.
    const silent = new Set(['pilotlight_engine_memory_limit_bytes']);
    const seen = new Set(
      [...text.matchAll(/^(\w+?)(?:_bucket|_sum|_count)?(?:\{.*\})? \S+$/gm)].map(([, name]) => name),
    );
    for (const name of Object.keys(metricTable)) if (!silent.has(name)) assert.ok(seen.has(name), name);
  });

  it('count what happened', () => {
    assert.match(text, /^pilotlight_transitions_total\{cause="SET"\} 1$/m);
    assert.match(text, /^pilotlight_transitions_total\{cause="HEARTBEAT"\} 1$/m);
    assert.match(text, /^pilotlight_transitions_total\{cause="EXPIRED"\} 2$/m);
    assert.match(text, /^pilotlight_heartbeats_total\{outcome="renewed"\} 1$/m);
    assert.match(
      text,
      /^pilotlight_rpc_duration_seconds_count\{transport="grpc",method="SetUserStatus",code="OK"\} 1$/m,
    );
    assert.match(
      text,
      /^pilotlight_rpc_duration_seconds_count\{transport="http",method="GetUserStatus",code="INVALID_ARGUMENT"\} 1$/m,
    );
    assert.match(text, /^pilotlight_watch_edges 3$/m);
    assert.match(text, /^pilotlight_lookup_answers_total\{service="directory",source="asked"\} 4$/m);
    assert.match(text, /^pilotlight_lookup_asks_total\{service="directory",outcome="failed"\} 0$/m);
    assert.match(text, /^pilotlight_lookup_remembered\{service="directory"\} 4$/m);
    assert.match(text, /^pilotlight_sweeper_partitions 64$/m);
    assert.match(text, /^pilotlight_expiry_lateness_seconds_count 2$/m);
  });

  it('name no user', () => {
    assert.doesNotMatch(text, /secret/);
  });

  it('satisfy promtool', () => {
    assert.ok(text.length > 1000);
    promtool(['check', 'metrics'], text);
  });

  it('are documented, all of them, as they are', () => {
    const rows = read('docs/metrics.md')
      .split('\n')
      .filter((line) => /^\| `\w+` \|/.test(line))
      .map((line) =>
        line
          .split('|')
          .slice(1, -1)
          .map((cell) => cell.trim().replaceAll('`', '')),
      );
    const table = Object.entries(metricTable).map(([name, { type, labels, help }]) => [
      name,
      type,
      labels.join(', ') || 'none',
      help,
    ]);
    assert.deepEqual(rows, table);
  });

  it('are all that the board and the alerts ask for', () => {
    promtool(['check', 'rules', file('deploy/prometheus/alerts.yml')]);
    const board = read('deploy/grafana/pilotlight.json');
    const asked = `${board}${read('deploy/prometheus/alerts.yml')}`.matchAll(
      /\b(?:pilotlight|process|nodejs)_\w+/g,
    );
    for (const [name] of asked) {
      const known = name in metricTable || name.replace(histogramSuffix, '') in metricTable;
      assert.ok(known, `${name} is not a metric`);
    }
    for (const name of Object.keys(metricTable))
      assert.ok(board.includes(name), `the board does not show ${name}`);
  });
});
