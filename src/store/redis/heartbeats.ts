import type { Keys } from './keys.ts';
import { pieces } from './pieces.ts';
import type { RedisEngine } from './redis-engine.ts';
import { scripts } from './scripts.ts';

export interface HeartbeatsOptions {
  readonly engine: RedisEngine;
  readonly keys: Keys;
  readonly partitionOf: (userId: string) => number;
  readonly ttlMs: number;
}

/** Fewer than this go as single commands: a script costs Redis a little more, and the server far less. */
const fewestForScript = 8;
/** Most of one script call: less than 1 ms of Redis. */
const batchUsers = 500;

interface Waiting {
  readonly userId: string;
  readonly resolve: (isOn: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/** Renews leases, those that one turn of the event loop brings together: the server's own cost of each is then small. */
export class Heartbeats {
  readonly #options: HeartbeatsOptions;
  readonly #ttl: string;
  #pending: Waiting[] = [];

  constructor(options: HeartbeatsOptions) {
    this.#options = options;
    this.#ttl = String(options.ttlMs);
  }

  /** Resolves to whether the light is on and was renewed; false decides nothing. Rejects with REDIS_ERROR. */
  renew(userId: string): Promise<boolean> {
    return new Promise((resolve, reject) => {
      if (this.#pending.length === 0) setImmediate(() => this.#flush());
      this.#pending.push({ userId, resolve, reject });
    });
  }

  #flush(): void {
    const { engine, partitionOf } = this.#options;
    const pending = this.#pending;
    this.#pending = [];
    const places = engine.isSplit
      ? Map.groupBy(pending, ({ userId }) => partitionOf(userId)).values()
      : [pending];
    for (const place of places) {
      if (place.length < fewestForScript) for (const waiting of place) this.#renewOne(waiting);
      else for (const batch of pieces(place, batchUsers)) this.#renewMany(batch);
    }
  }

  #renewOne({ userId, resolve, reject }: Waiting): void {
    const { engine, keys, partitionOf } = this.#options;
    engine
      .command<string | null>(partitionOf(userId), ['GETEX', keys.status(userId), 'PX', this.#ttl])
      .then((status) => resolve(status === 'online'), reject);
  }

  #renewMany(batch: readonly Waiting[]): void {
    const { engine, keys, partitionOf } = this.#options;
    const first = (batch[0] as Waiting).userId;
    const partition = partitionOf(first);
    const users = batch.map(({ userId }) => userId).join('\n');
    const args = [this.#ttl, keys.startOf(partition), users];
    engine.run<number[]>(partition, scripts.heartbeats, [keys.status(first)], args).then(
      (others) => {
        // Ascending, and mostly empty.
        let next = 0;
        for (const [index, waiting] of batch.entries()) {
          const isOn = others[next] !== index + 1;
          if (!isOn) next++;
          // A slot on its way: the script ran where the first key is, and the others may still be on the other server.
          if (!isOn && engine.isSplit) this.#renewOne(waiting);
          else waiting.resolve(isOn);
        }
      },
      (error: unknown) => {
        // A slot on its way has its keys on two servers, which Redis cannot see by the one that the script declares, and
        // says so: each is found alone. Where Redis is away, this fails at once.
        if (engine.isSplit) for (const waiting of batch) this.#renewOne(waiting);
        else for (const { reject } of batch) reject(error);
      },
    );
  }
}
