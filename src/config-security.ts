/** The options of authentication, TLS and limits: a part of the table in config.ts. */
import type { BlockList } from 'node:net';
import { type ConfigOption, day, duration, integer, minute, oneOf, option, second } from './config-option.ts';
import { type ForwardedHeader, forwardedHeaders, parseNetworks } from './security/client-address.ts';
import type { LimitsOptions } from './security/limits.ts';

export const authMethods = ['jwt', 'api-keys'] as const;
export type AuthMethod = (typeof authMethods)[number];

/** What a token's signature may be; `none` is not among them. */
export const jwtAlgorithms = [
  'HS256',
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
] as const;
export type JwtAlgorithm = (typeof jwtAlgorithms)[number];

export const userDirectories = ['open', 'redis', 'http'] as const;
export type UserDirectoryKind = (typeof userDirectories)[number];

export const watchPolicies = ['all', 'claims', 'http'] as const;
export type WatchPolicyKind = (typeof watchPolicies)[number];

/** What concerns sessions too is in config.ts. */
export interface SecurityConfig extends Omit<LimitsOptions, 'maxConnectionsPerUser' | 'maxFrameBytes'> {
  /** Empty: no authentication, everybody may do everything. */
  readonly auth: readonly AuthMethod[];
  readonly authJwtSecret: string | undefined;
  readonly authJwtPublicKey: string | undefined;
  readonly authJwksUrl: string | undefined;
  readonly authJwtAlg: JwtAlgorithm | undefined;
  readonly authJwtIssuer: string | undefined;
  readonly authJwtAudience: string | undefined;
  readonly authClockToleranceMs: number;
  readonly authJwksCacheMs: number;
  readonly authJwksStaleMs: number;
  readonly authJwksTimeoutMs: number;
  readonly authApiKeysFile: string | undefined;
  readonly userDirectory: UserDirectoryKind;
  /** Of a set in the engine's Redis, after REDIS_PREFIX. */
  readonly userDirectoryKey: string;
  readonly userDirectoryUrl: string | undefined;
  readonly userDirectoryCacheMs: number;
  readonly userDirectoryStaleMs: number;
  readonly userDirectoryTimeoutMs: number;
  readonly watchPolicy: WatchPolicyKind;
  readonly watchPolicyUrl: string | undefined;
  readonly watchPolicyCacheMs: number;
  readonly watchPolicyStaleMs: number;
  readonly watchPolicyTimeoutMs: number;
  readonly allowInsecure: boolean;
  readonly tlsCert: string | undefined;
  readonly tlsKey: string | undefined;
  readonly tlsClientCa: string | undefined;
  readonly maxConnections: number;
  /** Networks of proxies that are believed; undefined: none is. */
  readonly trustedProxies: BlockList | undefined;
  readonly forwardedHeader: ForwardedHeader;
  readonly proxyProtocol: boolean;
}

type SecurityOptions = { readonly [Key in keyof SecurityConfig]: ConfigOption<SecurityConfig[Key]> };

export const securityOptions: SecurityOptions = {
  auth: option('AUTH', '', 'jwt, api-keys, or both separated by a comma; unset: no authentication', auth),
  authJwtSecret: option('AUTH_JWT_SECRET', '', 'at least 32 bytes', secret),
  authJwtPublicKey: option('AUTH_JWT_PUBLIC_KEY', '', 'a file: PEM, SubjectPublicKeyInfo', text),
  authJwksUrl: option('AUTH_JWKS_URL', '', 'an https URL; http only to this machine', backendUrl),
  authJwtAlg: option('AUTH_JWT_ALG', '', jwtAlgorithms.join(', '), algorithm),
  authJwtIssuer: option('AUTH_JWT_ISSUER', '', 'any text; required with AUTH_JWKS_URL', text),
  authJwtAudience: option('AUTH_JWT_AUDIENCE', '', 'any text; required with AUTH_JWKS_URL', text),
  authClockToleranceMs: option('AUTH_CLOCK_TOLERANCE', '30s', '0s to 5m', duration(0, 5 * minute)),
  authJwksCacheMs: option('AUTH_JWKS_CACHE', '10m', '1s to 1d', duration(second, day)),
  authJwksStaleMs: option('AUTH_JWKS_STALE', '1d', '0s to 30d', duration(0, 30 * day)),
  authJwksTimeoutMs: option('AUTH_JWKS_TIMEOUT', '5s', '50ms to 1m', duration(50, minute)),
  authApiKeysFile: option('AUTH_API_KEYS_FILE', '', 'a file: JSON, see docs/security.md', text),
  userDirectory: option('USER_DIRECTORY', 'open', userDirectories.join(', '), oneOf(userDirectories)),
  userDirectoryKey: option(
    'USER_DIRECTORY_KEY',
    'user:directory',
    '1 to 128 of A-Z a-z 0-9 : . _ -',
    redisKey,
  ),
  userDirectoryUrl: option('USER_DIRECTORY_URL', '', 'an https URL; http only to this machine', backendUrl),
  userDirectoryCacheMs: option('USER_DIRECTORY_CACHE', '1m', '1s to 1d', duration(second, day)),
  userDirectoryStaleMs: option('USER_DIRECTORY_STALE', '1h', '0s to 30d', duration(0, 30 * day)),
  userDirectoryTimeoutMs: option('USER_DIRECTORY_TIMEOUT', '1s', '50ms to 1m', duration(50, minute)),
  watchPolicy: option('WATCH_POLICY', 'all', watchPolicies.join(', '), oneOf(watchPolicies)),
  watchPolicyUrl: option('WATCH_POLICY_URL', '', 'an https URL; http only to this machine', backendUrl),
  watchPolicyCacheMs: option('WATCH_POLICY_CACHE', '1m', '1s to 1d', duration(second, day)),
  watchPolicyStaleMs: option('WATCH_POLICY_STALE', '5m', '0s to 1d', duration(0, day)),
  watchPolicyTimeoutMs: option('WATCH_POLICY_TIMEOUT', '1s', '50ms to 1m', duration(50, minute)),
  allowInsecure: option('ALLOW_INSECURE', 'false', 'true, false', boolean),
  tlsCert: option('TLS_CERT', '', 'a file: PEM; with TLS_KEY', text),
  tlsKey: option('TLS_KEY', '', 'a file: PEM; with TLS_CERT', text),
  tlsClientCa: option('TLS_CLIENT_CA', '', 'a file: PEM; needs TLS_CERT', text),
  trustedProxies: option(
    'TRUSTED_PROXIES',
    '',
    'networks separated by commas, such as 10.0.0.0/8, 2001:db8::/32',
    parseNetworks,
  ),
  forwardedHeader: option(
    'FORWARDED_HEADER',
    'x-forwarded-for',
    forwardedHeaders.join(', '),
    oneOf(forwardedHeaders),
  ),
  proxyProtocol: option('PROXY_PROTOCOL', 'false', 'true, false', boolean),
  rateLimitCalls: rate('RATE_LIMIT_CALLS', '100'),
  rateLimitReads: rate('RATE_LIMIT_READS', '5000'),
  rateLimitUpdates: rate('RATE_LIMIT_UPDATES', '20'),
  rateLimitWatchEdits: rate('RATE_LIMIT_WATCH_EDITS', '5000'),
  rateLimitConnections: rate('RATE_LIMIT_CONNECTIONS', '20'),
  rateLimitBackendFactor: rate('RATE_LIMIT_BACKEND_FACTOR', '1000'),
  rateLimitAddressCalls: rate('RATE_LIMIT_ADDRESS_CALLS', '0'),
  rateLimitAddressReads: rate('RATE_LIMIT_ADDRESS_READS', '0'),
  rateLimitAddressUpdates: rate('RATE_LIMIT_ADDRESS_UPDATES', '0'),
  rateLimitAddressWatchEdits: rate('RATE_LIMIT_ADDRESS_WATCH_EDITS', '0'),
  rateLimitAddressConnections: rate('RATE_LIMIT_ADDRESS_CONNECTIONS', '0'),
  rateLimitAuthFailures: rate('RATE_LIMIT_AUTH_FAILURES', '60'),
  maxConnections: option('MAX_CONNECTIONS', '100000', '1 to 10000000', integer(1, 10_000_000)),
  maxStreams: option('MAX_STREAMS', '100000', '0 to 10000000; 0: no limit', integer(0, 10_000_000)),
  maxWatchEdges: option(
    'MAX_WATCH_EDGES',
    '10000000',
    '0 to 1000000000; 0: no limit',
    integer(0, 1_000_000_000),
  ),
  maxMemoryBytes: option(
    'MAX_MEMORY',
    '0',
    '0 to 1000000000000 bytes; 0: no limit',
    integer(0, 1_000_000_000_000),
  ),
  maxCalls: option('MAX_CALLS', '20000', '0 to 10000000; 0: no limit', integer(0, 10_000_000)),
  maxTurnMs: option('MAX_TURN', '40ms', '0s to 10s; 0s: no limit', duration(0, 10 * second)),
};

/** What is wrong among options that are fine one by one. */
export function securityProblems(
  config: SecurityConfig & { readonly host: string; readonly redisUrl: string | undefined },
): string[] {
  return [
    ...jwtProblems(config),
    ...apiKeyProblems(config),
    ...lookupProblems(config),
    ...exposureProblems(config),
  ];
}

/** Whether only programs of this machine can reach the address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

function exposureProblems(config: SecurityConfig & { readonly host: string }): string[] {
  const { auth, host, allowInsecure, tlsCert, tlsKey, tlsClientCa } = config;
  const problems: string[] = [];
  if (auth?.length === 0 && host !== undefined && !isLoopback(host) && allowInsecure === false) {
    problems.push(
      'HOST must be this machine alone (127.0.0.1, ::1, localhost) while AUTH is unset: everybody could change everything. ALLOW_INSECURE=true allows it',
    );
  }
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    problems.push('TLS_CERT and TLS_KEY must be set together');
  }
  if (tlsClientCa !== undefined && tlsCert === undefined) problems.push('TLS_CLIENT_CA needs TLS_CERT');
  if (config.proxyProtocol && config.trustedProxies === undefined) {
    problems.push('PROXY_PROTOCOL needs TRUSTED_PROXIES: a preamble is believed from nobody else');
  }
  if (config.proxyProtocol && host === 'localhost') {
    problems.push('PROXY_PROTOCOL needs an address as HOST, not localhost, which may be several');
  }
  return problems;
}

function jwtProblems(config: SecurityConfig): string[] {
  const { authJwtSecret, authJwtPublicKey, authJwksUrl, authJwtAlg } = config;
  const sources = [authJwtSecret, authJwtPublicKey, authJwksUrl].filter((it) => it !== undefined);
  // Keys without AUTH would look like protection and be none.
  if (config.auth === undefined) return [];
  if (!config.auth.includes('jwt')) {
    return sources.length > 0 ? ['AUTH must have jwt where a key for tokens is set'] : [];
  }
  if (sources.length !== 1) {
    return ['AUTH=jwt needs exactly one of AUTH_JWT_SECRET, AUTH_JWT_PUBLIC_KEY and AUTH_JWKS_URL'];
  }
  const problems: string[] = [];
  const isHmac = authJwtAlg === undefined ? authJwtSecret !== undefined : authJwtAlg === 'HS256';
  if (isHmac !== (authJwtSecret !== undefined)) {
    problems.push('AUTH_JWT_ALG must be HS256 with AUTH_JWT_SECRET, and must not be without it');
  }
  const isNamed = config.authJwtIssuer !== undefined && config.authJwtAudience !== undefined;
  if (authJwksUrl !== undefined && !isNamed) {
    problems.push(
      'AUTH_JWKS_URL needs AUTH_JWT_ISSUER and AUTH_JWT_AUDIENCE: its keys sign tokens for others too',
    );
  }
  return problems;
}

function apiKeyProblems({ auth, authApiKeysFile }: SecurityConfig): string[] {
  if (auth === undefined) return [];
  if (auth.includes('api-keys') === (authApiKeysFile !== undefined)) return [];
  return ['AUTH=api-keys and AUTH_API_KEYS_FILE must be set together'];
}

/** Who cannot be asked would refuse everybody, or look as if it were asked. */
function lookupProblems(config: SecurityConfig & { readonly redisUrl: string | undefined }): string[] {
  const { auth, redisUrl, userDirectory, userDirectoryUrl, watchPolicy, watchPolicyUrl } = config;
  const problems: string[] = [];
  if (userDirectory === 'redis' && redisUrl === undefined) {
    problems.push('USER_DIRECTORY=redis needs REDIS_URL');
  }
  if ((userDirectory === 'http') !== (userDirectoryUrl !== undefined)) {
    problems.push('USER_DIRECTORY=http and USER_DIRECTORY_URL must be set together');
  }
  if ((watchPolicy === 'http') !== (watchPolicyUrl !== undefined)) {
    problems.push('WATCH_POLICY=http and WATCH_POLICY_URL must be set together');
  }
  if (watchPolicy !== 'all' && auth?.length === 0) {
    problems.push('WATCH_POLICY needs AUTH: without it nobody is known who watches');
  }
  return problems;
}

function rate(name: string, fallback: string): ConfigOption<number> {
  return option(name, fallback, '0 to 1000000; 0: no limit', integer(0, 1_000_000));
}

function auth(value: string): readonly AuthMethod[] {
  if (value === '') return [];
  return value.split(',').map((part) => {
    const method = authMethods.find((known) => known === part.trim());
    if (!method) throw new Error(`must be ${authMethods.join(', ')}, or both`);
    return method;
  });
}

function redisKey(value: string): string {
  if (!/^[A-Za-z0-9:._-]{1,128}$/.test(value)) throw new Error('must be 1 to 128 of A-Z a-z 0-9 : . _ -');
  return value;
}

function boolean(value: string): boolean {
  if (value !== 'true' && value !== 'false') throw new Error('must be true or false');
  return value === 'true';
}

function text(value: string): string | undefined {
  return value === '' ? undefined : value;
}

function secret(value: string): string | undefined {
  if (value === '') return undefined;
  if (Buffer.byteLength(value) < 32) throw new Error('must have at least 32 bytes');
  return value;
}

function algorithm(value: string): JwtAlgorithm | undefined {
  return value === '' ? undefined : oneOf(jwtAlgorithms)(value);
}

/** A service that this server asks: over TLS, unless it is on this machine. */
function backendUrl(value: string): string | undefined {
  if (value === '') return undefined;
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const isLocal = url !== undefined && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
  if (url?.protocol === 'https:' || (url?.protocol === 'http:' && isLocal)) return value;
  throw new Error('must be an https URL; http only to this machine');
}
