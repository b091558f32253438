/** Where Redis is, read from REDIS_URL. */
export interface RedisTarget {
  readonly mode: 'standalone' | 'sentinel' | 'cluster';
  readonly tls: boolean;
  /** PEM of the authorities that certificates are signed by; undefined = those that Node trusts. */
  readonly ca: string | undefined;
  /** `host:port` of the server, of the Sentinels, or of some servers of the Cluster. At least one. */
  readonly seeds: readonly string[];
  /** The name that the Sentinels know the master by; empty in other modes. */
  readonly masterName: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
  /** A file that holds the password instead; read for every connection. */
  readonly passwordFile: string | undefined;
  readonly database: number;
}

const urlForm = /^(redis|rediss)(?:\+(sentinel|cluster))?:\/\/(?:([^@/]*)@)?([^@/?#]+)(?:\/([^?#]*))?$/;
const defaultPorts = { standalone: 6379, cluster: 6379, sentinel: 26379 } as const;

/**
 * Reads `redis://`, `rediss://` (TLS), and with `+sentinel` or `+cluster` after the scheme a list of hosts. User name
 * and password go to Redis and to the Sentinels alike.
 *
 * @throws Error whose message follows the name in a sentence: "must be ..."
 */
export function parseRedisTarget(text: string): RedisTarget {
  const match = urlForm.exec(text);
  if (!match) throw new Error('must be a URL such as redis://localhost:6379');
  const [, scheme, kind, credentials, hosts, path = ''] = match;
  const mode = (kind as 'sentinel' | 'cluster' | undefined) ?? 'standalone';
  const seeds = (hosts as string).split(',').map((host) => seed(host, defaultPorts[mode]));
  if (mode === 'standalone' && seeds.length > 1) {
    throw new Error('must name one host; several need redis+sentinel:// or redis+cluster://');
  }
  const separator = credentials?.indexOf(':') ?? -1;
  const username = separator === -1 ? credentials : credentials?.slice(0, separator);
  const password = separator === -1 ? undefined : credentials?.slice(separator + 1);
  const [masterName, database] = mode === 'sentinel' ? sentinelPath(path) : ['', path];
  if (mode === 'cluster' && path !== '') throw new Error('must have no database in redis+cluster://');
  return {
    mode,
    tls: scheme === 'rediss',
    ca: undefined,
    seeds,
    masterName,
    username: username ? decode(username) : undefined,
    password: password ? decode(password) : undefined,
    passwordFile: undefined,
    database: databaseNumber(database),
  };
}

function sentinelPath(path: string): [masterName: string, database: string] {
  const [masterName = '', database = ''] = path.split('/');
  if (masterName === '') throw new Error("must end with the master's name: redis+sentinel://host:port/name");
  return [decode(masterName), database];
}

function seed(host: string, defaultPort: number): string {
  const match = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/.exec(host);
  const port = Number(match?.[2] ?? defaultPort);
  if (!match || port < 1 || port > 65_535) throw new Error('must name hosts as host:port');
  return `${match[1]}:${port}`;
}

function databaseNumber(text: string): number {
  if (text === '') return 0;
  if (!/^\d{1,4}$/.test(text)) throw new Error('must end with the number of a database, or without one');
  return Number(text);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw new Error('must have user and password percent-encoded', { cause: error });
  }
}

/** Splits `host:port`, with the brackets of an IPv6 address taken off. */
export function splitAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) };
}

export function joinAddress(host: string, port: number | string): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
