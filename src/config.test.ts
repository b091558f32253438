import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ConfigError, configOptions, parseDuration, readConfig } from './config.ts';

function problemsOf(environment: Record<string, string>): readonly string[] {
  try {
    readConfig(environment);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe('configuration', () => {
  it("has the issue's names and defaults", () => {
    const defaults = Object.fromEntries(
      Object.values(configOptions).map(({ name, default: fallback }) => [name, fallback]),
    );
    const expected = {
      REDIS_URL: '',
      USER_STATUS_TTL: '30s',
      HEARTBEAT_INTERVAL: '15s',
      DISCONNECT_GRACE: '3s',
      HOST: '127.0.0.1',
      GRPC_PORT: '50051',
      HTTP_PORT: '8080',
      PARTITIONS: '64',
      MAX_WATCHED_USERS: '10000',
      MAX_BULK_USERS: '5000',
      REDIS_TIMEOUT: '1s',
      LAST_SEEN_TTL: '30d',
      LOG_LEVEL: 'info',
    };
    assert.deepEqual({ ...defaults, ...expected }, defaults);
  });

  it('reads the environment into milliseconds, and freezes it', () => {
    const config = readConfig({ USER_STATUS_TTL: '2m', HEARTBEAT_INTERVAL: ' 500ms ', REDIS_URL: '' });
    assert.equal(config.ttlMs, 120_000);
    assert.equal(config.heartbeatIntervalMs, 500);
    assert.equal(config.redisUrl, undefined);
    assert.ok(Object.isFrozen(config));
  });

  it('reports every problem at once', () => {
    const problems = problemsOf({
      USER_STATUS_TTL: '30',
      GRPC_PORT: '65536',
      LOG_LEVEL: 'loud',
      REDIS_URL: 'http://:secret@x',
      PARTITIONS: '1e3',
    });
    assert.equal(problems.length, 5);
    assert.match(problems.join('\n'), /USER_STATUS_TTL must be a duration such as 30s/);
    assert.doesNotMatch(problems.join('\n'), /secret/, 'a Redis URL may hold a password');
  });

  it('holds intervals to one another', () => {
    assert.deepEqual(problemsOf({ USER_STATUS_TTL: '10s', HEARTBEAT_INTERVAL: '5s' }), []);
    assert.match(
      problemsOf({ USER_STATUS_TTL: '10s', HEARTBEAT_INTERVAL: '5001ms' })[0] ?? '',
      /at most half/,
    );
    assert.match(problemsOf({ GRPC_PORT: '8080' })[0] ?? '', /HTTP_PORT must differ/);
    assert.deepEqual(problemsOf({ GRPC_PORT: '0', HTTP_PORT: '0' }), []);
  });

  it('accepts every bound and refuses what lies beyond', () => {
    assert.deepEqual(problemsOf({ PARTITIONS: '1', MAX_BULK_USERS: '100000', DISCONNECT_GRACE: '0s' }), []);
    for (const [name, value] of [
      ['PARTITIONS', '0'],
      ['PARTITIONS', '1025'],
      ['MAX_WATCHED_USERS', '0'],
      ['USER_STATUS_TTL', '99ms'],
      ['REDIS_TIMEOUT', '9ms'],
      ['HTTP_PORT', '-1'],
    ] as const) {
      assert.ok(
        problemsOf({ [name]: value }).some((problem) => problem.startsWith(name)),
        `${name}=${value}`,
      );
    }
  });

  it('reads durations', () => {
    assert.equal(parseDuration('1h'), 3_600_000);
    assert.equal(parseDuration('30d'), 2_592_000_000);
    for (const bad of ['', '5', '1.5s', '-1s', '1 s', '1w', 's'])
      assert.throws(() => parseDuration(bad), bad);
  });
});
