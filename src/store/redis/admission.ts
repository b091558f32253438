import { PresenceError } from '../../core/errors.ts';
import type { RedisTarget } from '../../core/redis-target.ts';
import type { Log } from '../../observe/log.ts';
import type { Keys } from './keys.ts';
import type { SendDirectly } from './redis-link.ts';
import { refusalCode, refusalTable } from './refusals.ts';
import { scripts } from './scripts.ts';

export interface AdmissionOptions {
  readonly target: RedisTarget;
  readonly partitions: number;
  readonly keys: Keys;
  readonly log: Log;
}

/** Checks a server before it is used, each time it was connected to, since another may answer there now. */
export class Admission {
  readonly #options: AdmissionOptions;
  #warnedPolicy: string | undefined;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /**
   * @param partition the first that this server holds; undefined: none as yet. Partition 0 brings the number of partitions
   * @returns what it refuses, although it serves
   * @throws PresenceError INTERNAL: too old, of another mode, or with data of other PARTITIONS
   * @throws Error anything that may pass: refusals.ts says what
   */
  async check(send: SendDirectly, partition: number | undefined): Promise<unknown[]> {
    await this.#checkServer(send);
    await this.#checkMemoryPolicy(send);
    if (partition === 0) await this.#checkPartitions(send);
    const refused = partition === undefined ? [] : await this.#checkRights(send, partition);
    // So that no call after a failover has to carry its script along.
    await Promise.all(Object.values(scripts).map(({ source }) => send(['SCRIPT', 'LOAD', source])));
    return refused;
  }

  /** Does what every call does, and changes nothing: writes that may grow and that may not, and messages. */
  async #checkRights(send: SendDirectly, partition: number): Promise<unknown[]> {
    const { keys } = this.#options;
    const results = await Promise.allSettled([
      send(growthProbe(keys, partition)),
      send(['GETEX', `${keys.startOf(partition)}user:status:`]),
      send(['SPUBLISH', `${keys.channel(partition)}:probe`, '']),
    ]);
    const refused = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
    for (const reason of refused) {
      const code = refusalCode(reason);
      // Reads are served meanwhile, and most of the rest while memory is full.
      if (code === 'NOPERM' || refusalTable[code].action !== 'refuse') throw reason;
    }
    return refused;
  }

  async #checkServer(send: SendDirectly): Promise<void> {
    const { mode } = this.#options.target;
    const info = parseInfo(await send<string>(['INFO']));
    // Valkey has its own number beside that of the Redis that it is compatible with.
    const valkey = info.get('valkey_version');
    const version = valkey ?? info.get('redis_version') ?? 'unknown';
    if (!isAtLeast(version, 7, valkey === undefined ? 0 : 2)) {
      throw refusal(`Redis 7.0 or Valkey 7.2 is needed; this server is ${version}`);
    }
    // Valkey 9 has a word of its own.
    const isCluster = (info.get('redis_mode') ?? info.get('server_mode')) === 'cluster';
    if (isCluster !== (mode === 'cluster')) {
      throw refusal(
        isCluster
          ? 'this Redis is a Cluster: REDIS_URL must begin with redis+cluster://'
          : 'this Redis is no Cluster: REDIS_URL must not begin with redis+cluster://',
      );
    }
    if (info.get('loading') === '1') throw new Error('LOADING');
    if (info.get('role') !== 'master') throw new Error('READONLY its role is no master');
    if (!isCluster) return;
    const state = parseInfo(await send<string>(['CLUSTER', 'INFO'])).get('cluster_state');
    if (state !== 'ok') throw new Error(`CLUSTERDOWN its state is ${state}`);
  }

  async #checkMemoryPolicy(send: SendDirectly): Promise<void> {
    let reply: unknown;
    try {
      reply = await send(['CONFIG', 'GET', 'maxmemory-policy']);
    } catch (error) {
      // Managed servers may forbid CONFIG.
      this.#options.log.debug({ err: error }, 'maxmemory-policy not known');
      return;
    }
    const policy = String(
      Array.isArray(reply) ? reply[1] : Object.values((reply ?? {}) as Record<string, string>)[0],
    );
    if (policy === 'noeviction' || policy === this.#warnedPolicy) return;
    this.#warnedPolicy = policy;
    this.#options.log.warn(
      { policy },
      'redis may evict leases: set maxmemory-policy to noeviction, or users go OFFLINE when memory is short',
    );
  }

  async #checkPartitions(send: SendDirectly): Promise<void> {
    const partitionsKey = this.#options.keys.partitions();
    const own = String(this.#options.partitions);
    const stored =
      (await send<string | null>(['GET', partitionsKey])) ??
      // Written only where it is not, since memory may be full.
      (await send<string | null>(['SET', partitionsKey, own, 'NX', 'GET'])) ??
      own;
    if (stored === own) return;
    throw refusal(
      `this Redis holds data in ${stored} partitions; start with PARTITIONS=${stored}, not ${own}`,
    );
  }
}

/** A write that changes nothing, and is refused where a write that grows would be. */
export function growthProbe(keys: Keys, partition: number): string[] {
  return ['SETRANGE', keys.seq(partition), '0', ''];
}

function refusal(message: string): PresenceError {
  return new PresenceError('INTERNAL', message);
}

export function parseInfo(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of text.split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1));
  }
  return fields;
}

function isAtLeast(version: string, major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.split('.').map(Number);
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}
