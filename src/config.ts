import { type ConfigOption, day, duration, integer, minute, oneOf, option, second } from './config-option.ts';
import { type SecurityConfig, securityOptions, securityProblems } from './config-security.ts';
import { parseRedisTarget } from './core/redis-target.ts';
import { type LogLevel, logLevels } from './observe/log.ts';
import { type AllowedHost, parseAllowedHosts } from './security/allowed-hosts.ts';

/** What the server runs on. Made once from the environment, then frozen. Durations are milliseconds. */
export interface Config extends SecurityConfig {
  readonly redisUrl: string | undefined;
  readonly redisTlsCa: string | undefined;
  readonly redisPasswordFile: string | undefined;
  readonly redisPrefix: string;
  readonly ttlMs: number;
  readonly heartbeatIntervalMs: number;
  readonly disconnectGraceMs: number;
  readonly host: string;
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly partitions: number;
  readonly maxWatchedUsers: number;
  readonly maxBulkUsers: number;
  readonly maxBlockedUsers: number;
  readonly redisTimeoutMs: number;
  readonly lastSeenTtlMs: number;
  /** How long entries of the event log are kept, ms. */
  readonly eventLogMaxAgeMs: number;
  readonly pingIntervalMs: number;
  readonly pongTimeoutMs: number;
  readonly grpcMinPingIntervalMs: number;
  readonly grpcMaxConnectionAgeMs: number;
  readonly grpcMaxConnectionAgeGraceMs: number;
  readonly grpcMaxStreamsPerConnection: number;
  readonly idleAfterMs: number;
  readonly maxConnectionsPerUser: number;
  readonly maxSessions: number;
  readonly maxSessionsWithoutHello: number;
  readonly maxFrameBytes: number;
  readonly maxFramesPerSecond: number;
  readonly requestTimeoutMs: number;
  readonly drainTimeoutMs: number;
  /** Origins of other hosts whose pages may use this server. */
  readonly allowedOrigins: readonly string[];
  /** Names by which the HTTP port may be reached besides loopback ones. */
  readonly allowedHosts: readonly AllowedHost[];
  readonly logLevel: LogLevel;
}

export { type ConfigOption, parseDuration } from './config-option.ts';

type Options = { readonly [Key in keyof Config]: ConfigOption<Config[Key]> };

export const configOptions: Options = {
  redisUrl: option(
    'REDIS_URL',
    '',
    'redis://, redis+sentinel:// or redis+cluster:// URL, rediss for TLS; unset: the memory engine',
    redisUrl,
  ),
  redisTlsCa: option('REDIS_TLS_CA', '', 'a file: PEM; needs a rediss URL', path),
  redisPasswordFile: option(
    'REDIS_PASSWORD_FILE',
    '',
    'a file: the password; needs a REDIS_URL without one',
    path,
  ),
  redisPrefix: option('REDIS_PREFIX', '', 'at most 64 of A-Z a-z 0-9 : . _ -; before every key', redisPrefix),
  ttlMs: option('USER_STATUS_TTL', '30s', '100ms to 1d', duration(100, day)),
  heartbeatIntervalMs: option(
    'HEARTBEAT_INTERVAL',
    '15s',
    '50ms to 12h, at most half of USER_STATUS_TTL',
    duration(50, day / 2),
  ),
  disconnectGraceMs: option('DISCONNECT_GRACE', '3s', '0s to 1h', duration(0, 60 * minute)),
  host: option('HOST', '127.0.0.1', 'an address of this machine', host),
  grpcPort: option('GRPC_PORT', '50051', '0 to 65535; 0: any free port', integer(0, 65_535)),
  httpPort: option('HTTP_PORT', '8080', '0 to 65535; 0: any free port', integer(0, 65_535)),
  partitions: option(
    'PARTITIONS',
    '64',
    '1 to 1024; the same for all servers of one Redis, for good',
    integer(1, 1024),
  ),
  maxWatchedUsers: option('MAX_WATCHED_USERS', '10000', '1 to 1000000', integer(1, 1_000_000)),
  maxBulkUsers: option('MAX_BULK_USERS', '5000', '1 to 100000', integer(1, 100_000)),
  maxBlockedUsers: option('MAX_BLOCKED_USERS', '1000', '0 to 10000', integer(0, 10_000)),
  redisTimeoutMs: option('REDIS_TIMEOUT', '1s', '10ms to 1m', duration(10, minute)),
  lastSeenTtlMs: option('LAST_SEEN_TTL', '30d', '1s to 3650d', duration(second, 3650 * day)),
  eventLogMaxAgeMs: option('EVENT_LOG_MAX_AGE', '1d', '1m to 365d', duration(minute, 365 * day)),
  pingIntervalMs: option('PING_INTERVAL', '15s', '50ms to 1h', duration(50, 60 * minute)),
  pongTimeoutMs: option('PONG_TIMEOUT', '8s', '50ms to 10m', duration(50, 10 * minute)),
  grpcMinPingIntervalMs: option(
    'GRPC_MIN_PING_INTERVAL',
    '5s',
    '0s to 1h; 0s: no limit',
    duration(0, 60 * minute),
  ),
  grpcMaxConnectionAgeMs: option(
    'GRPC_MAX_CONNECTION_AGE',
    '0s',
    '0s to 7d; 0s: no limit',
    duration(0, 7 * day),
  ),
  grpcMaxConnectionAgeGraceMs: option(
    'GRPC_MAX_CONNECTION_AGE_GRACE',
    '30s',
    '0s to 1d; 0s: no limit',
    duration(0, day),
  ),
  grpcMaxStreamsPerConnection: option(
    'GRPC_MAX_STREAMS_PER_CONNECTION',
    '1000',
    '1 to 1000000',
    integer(1, 1_000_000),
  ),
  idleAfterMs: option('IDLE_AFTER', '5m', '0s to 1d', duration(0, day)),
  maxConnectionsPerUser: option('MAX_CONNECTIONS_PER_USER', '20', '1 to 1000', integer(1, 1000)),
  maxSessions: option('MAX_SESSIONS', '100000', '1 to 10000000', integer(1, 10_000_000)),
  maxSessionsWithoutHello: option(
    'MAX_SESSIONS_WITHOUT_HELLO',
    '2000',
    '1 to 1000000',
    integer(1, 1_000_000),
  ),
  maxFrameBytes: option('MAX_FRAME_BYTES', '262144', '1024 to 16777216', integer(1024, 16_777_216)),
  maxFramesPerSecond: option('MAX_FRAMES_PER_SECOND', '50', '1 to 100000', integer(1, 100_000)),
  requestTimeoutMs: option('REQUEST_TIMEOUT', '10s', '100ms to 10m', duration(100, 10 * minute)),
  drainTimeoutMs: option('DRAIN_TIMEOUT', '20s', '0s to 1h', duration(0, 60 * minute)),
  allowedOrigins: option(
    'ALLOWED_ORIGINS',
    '',
    'origins separated by commas, such as https://app.example.com; empty: only pages of the server itself',
    origins,
  ),
  allowedHosts: option(
    'ALLOWED_HOSTS',
    '',
    'names separated by commas, such as presence.example.com, *.internal, pilotlight:8080; empty: without AUTH only loopback names',
    parseAllowedHosts,
  ),
  ...securityOptions,
  logLevel: option('LOG_LEVEL', 'info', logLevels.join(', '), oneOf(logLevels)),
};

/** Never shown: URLs may hold a password. */
const secretKeys: ReadonlySet<string> = new Set([
  'redisUrl',
  'authJwtSecret',
  'authJwksUrl',
  'userDirectoryUrl',
  'watchPolicyUrl',
]);

/** Every problem of the environment at once. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(
      `the configuration has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${problems.map((problem) => `  ${problem}`).join('\n')}`,
    );
    this.problems = problems;
  }
}

/** @throws ConfigError naming every problem */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [key, { name, default: fallback, parse }] of Object.entries(configOptions)) {
    const text = environment[name]?.trim();
    try {
      values[key] = parse(text === undefined || text === '' ? fallback : text);
    } catch (error) {
      const shown = secretKeys.has(key) ? '' : `; it is "${text}"`;
      problems.push(`${name} ${(error as Error).message}${shown}`);
    }
  }
  const config = values as unknown as Config;
  if (config.heartbeatIntervalMs * 2 > config.ttlMs) {
    problems.push(
      'HEARTBEAT_INTERVAL must be at most half of USER_STATUS_TTL, so that one lost heartbeat does no harm',
    );
  }
  if (config.grpcPort !== 0 && config.grpcPort === config.httpPort) {
    problems.push('HTTP_PORT must differ from GRPC_PORT');
  }
  if (config.redisTlsCa !== undefined && !config.redisUrl?.startsWith('rediss')) {
    problems.push('REDIS_TLS_CA needs a REDIS_URL that begins with rediss');
  }
  if (config.redisPasswordFile !== undefined) {
    const isFree = config.redisUrl !== undefined && parseRedisTarget(config.redisUrl).password === undefined;
    if (!isFree) problems.push('REDIS_PASSWORD_FILE needs a REDIS_URL without a password');
  }
  problems.push(...securityProblems(config));
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze(config);
}

function redisUrl(text: string): string | undefined {
  if (text === '') return undefined;
  parseRedisTarget(text);
  return text;
}

function path(text: string): string | undefined {
  return text === '' ? undefined : text;
}

function redisPrefix(text: string): string {
  if (!/^[A-Za-z0-9:._-]{0,64}$/.test(text)) throw new Error('must be at most 64 of A-Z a-z 0-9 : . _ -');
  return text;
}

function host(text: string): string {
  if (!/^[A-Za-z0-9.:_-]+$/.test(text)) throw new Error('must be an address or a host name');
  return text;
}

function origins(text: string): readonly string[] {
  if (text === '') return [];
  return text.split(',').map((part) => {
    const origin = part.trim();
    if (!URL.canParse(origin) || new URL(origin).origin !== origin) {
      throw new Error('must name origins such as https://app.example.com, without a path');
    }
    return origin;
  });
}
