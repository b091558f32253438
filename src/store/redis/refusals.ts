import { ErrorReply } from 'redis';

/** One row of the table: a way in which Redis, or the way to it, says no. */
export interface RefusalRow {
  /** What it means, for the log, for callers and for /readyz. */
  readonly reason: string;
  /**
   * `connect anew`: drops the connection and looks the host up again, until a server serves; `check again`: keeps the
   * connection out of service until a check passes; `retry`: sends the command again, elsewhere where told so; `refuse`:
   * the call fails with REDIS_ERROR, and the connection stays.
   */
  readonly action: 'connect anew' | 'check again' | 'retry' | 'refuse';
  /** Whether /readyz says ready meanwhile: what is not refused is served. */
  readonly isReady: boolean;
  /** Whether the log has a line when it begins and one when it is over. What is part of normal work is only counted. */
  readonly isLogged: boolean;
}

function row(reason: string, action: RefusalRow['action'], marks = ''): RefusalRow {
  const has = (mark: string) => marks.split(' ').includes(mark);
  return { reason, action, isReady: has('ready'), isLogged: !has('unlogged') };
}

/** Every class of refusal, by the first word of Redis' answer, or by ours for what is no answer. docs/redis.md is held to it. */
export const refusalTable = {
  READONLY: row('this Redis is a replica, or was made one', 'connect anew'),
  MASTERDOWN: row('this Redis is a replica that lost its master', 'connect anew'),
  LOADING: row('Redis is loading its data', 'check again'),
  OOM: row("Redis' memory is full (maxmemory): only what grows is refused", 'refuse', 'ready'),
  NOREPLICAS: row('Redis refuses writes: too few replicas keep up (min-replicas-to-write)', 'refuse'),
  MISCONF: row('Redis refuses writes: it cannot save to its disk', 'refuse'),
  NOPERM: row(
    "the Redis user lacks a right to a command, a key or a channel: see 'ACL' in docs/redis.md",
    'refuse',
  ),
  NOAUTH: row('Redis wants a password', 'connect anew'),
  WRONGPASS: row('Redis does not take this user and password', 'connect anew'),
  PASSWORD_FILE: row('REDIS_PASSWORD_FILE cannot be read', 'connect anew'),
  CLUSTERDOWN: row('the Cluster does not serve all slots', 'refuse'),
  BUSY: row('Redis is busy with a long script', 'refuse'),
  MAXCLIENTS: row('Redis has too many connections (maxclients)', 'connect anew'),
  DENIED: row('Redis is in protected mode', 'connect anew'),
  MOVED: row('the keys are on another server of the Cluster', 'retry', 'ready unlogged'),
  ASK: row('the keys are moving to another server of the Cluster', 'retry', 'ready unlogged'),
  TRYAGAIN: row('the keys are moving to another server of the Cluster', 'retry', 'ready unlogged'),
  NOSCRIPT: row('Redis does not have the script yet', 'retry', 'ready unlogged'),
  WRONGTYPE: row('another program made something else of one of our keys', 'refuse', 'ready'),
  DNS: row("Redis' host name is not found", 'connect anew'),
  CONNECTION_REFUSED: row("nobody listens at Redis' address", 'connect anew'),
  UNREACHABLE: row("no network leads to Redis' address", 'connect anew'),
  TLS: row("Redis' certificate is not accepted, or ours is wanted", 'connect anew'),
  PROTOCOL: row(
    'what answers speaks no Redis: rediss:// is for a TLS port, redis:// for one without',
    'connect anew',
  ),
  HANGUP: row(
    'what answers hangs up at once: rediss:// is for a TLS port, redis:// for one without',
    'connect anew',
  ),
  TLS_TIMEOUT: row(
    'no TLS handshake in time: nobody is there, or the port speaks no TLS and wants redis://',
    'connect anew',
  ),
  TIMEOUT: row('Redis does not answer in time', 'check again'),
  CLOSED: row('Redis closed the connection', 'connect anew', 'unlogged'),
  UNFIT: row('this Redis must not be used: its version, mode or PARTITIONS', 'check again', 'unlogged'),
  RESTORING: row('Redis lost its data, and servers write back what they know', 'refuse', 'ready'),
  OTHER: row('Redis answered with an error', 'refuse', 'ready'),
} as const satisfies Record<string, RefusalRow>;

export type RefusalCode = keyof typeof refusalTable;

/** Codes of Node's that need no pattern. */
const systemCodes: Readonly<Record<string, RefusalCode>> = {
  ECONNREFUSED: 'CONNECTION_REFUSED',
  EHOSTUNREACH: 'UNREACHABLE',
  ENETUNREACH: 'UNREACHABLE',
  EADDRNOTAVAIL: 'UNREACHABLE',
  ETIMEDOUT: 'TIMEOUT',
  ECONNRESET: 'CLOSED',
  EPIPE: 'CLOSED',
  ENOTFOUND: 'DNS',
  EPROTO: 'PROTOCOL',
  ERR_SSL_WRONG_VERSION_NUMBER: 'PROTOCOL',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'PROTOCOL',
  ENOENT: 'PASSWORD_FILE',
  EACCES: 'PASSWORD_FILE',
  EISDIR: 'PASSWORD_FILE',
};

const patterns: readonly (readonly [RegExp, RefusalCode])[] = [
  [/max number of clients/, 'MAXCLIENTS'],
  [/^ERR (AUTH|invalid password|Client sent AUTH)/, 'WRONGPASS'],
  [/^ERR Protocol error|Unknown RESP type|Parse Error|Expected HTTP/, 'PROTOCOL'],
  [/[Tt]imeout|did not answer/, 'TIMEOUT'],
  [/closed|Disconnects|socket disconnected/i, 'CLOSED'],
];

/** Which row an error belongs to. */
export function refusalCode(error: unknown): RefusalCode {
  const {
    message = '',
    code,
    cause,
    errors,
  } = error as Error & {
    code?: unknown;
    errors?: readonly unknown[];
  };
  const word = message.split(' ', 1)[0] as string;
  if (Object.hasOwn(refusalTable, word)) return word as RefusalCode;
  if (code === 'INTERNAL') return 'UNFIT';
  if (typeof code === 'string') {
    const known = systemCodes[code];
    if (known) return known;
    if (code.startsWith('EAI_')) return 'DNS';
    if (/^ERR_(TLS|SSL|OSSL)|CERT|SIGNATURE|ISSUER/.test(code)) return 'TLS';
  }
  for (const [pattern, found] of patterns) if (pattern.test(message)) return found;
  // Node tries several addresses of a host, and tells of all at once.
  if (errors?.length) return refusalCode(errors[0]);
  return cause === undefined ? 'OTHER' : refusalCode(cause);
}

/** Whether Redis said it, rather than the connection. */
export function isReply(error: unknown): boolean {
  return error instanceof ErrorReply;
}

/** A sentence for callers and operators. */
export function refusalText(code: RefusalCode): string {
  return `${code}: ${refusalTable[code].reason}`;
}
