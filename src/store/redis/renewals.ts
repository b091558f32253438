import type { ConnectionRenewal } from '../../core/store.ts';
import type { Keys } from './keys.ts';
import { pieces } from './pieces.ts';
import type { RedisEngine } from './redis-engine.ts';
import { scripts } from './scripts.ts';
import { activityNumber, kindNumber } from './state-line.ts';

export interface RenewalsOptions {
  readonly engine: RedisEngine;
  readonly keys: Keys;
  readonly partitionOf: (userId: string) => number;
  readonly nodeId: string;
  readonly ttlMs: number;
  readonly maxConnectionsPerUser: number;
  /** The epoch of the data that this node knows; empty: none. */
  readonly epochOf: (partition: number) => string;
  /** What the engine knows of a user with a connection here: 0 = did not sign out; 0 = no privacy, by a clock of so many ms. */
  readonly learn: (userId: string, signedOutMs: number, privacyVersion: number, nowMs: number) => void;
}

/** Connections renewed by one script call, about 40 us of Redis each: nobody else waits for longer than 2 ms. */
const batchConnections = 50;

/** Renews connections, and the leases of sessions' users. */
export class Renewals {
  readonly #options: RenewalsOptions;

  constructor(options: RenewalsOptions) {
    this.#options = options;
  }

  /** Resolves to the ids of connections that lost their place. Rejects with REDIS_ERROR. */
  async renew(renewals: readonly ConnectionRenewal[]): Promise<string[]> {
    const { partitionOf } = this.#options;
    const byPartition = Map.groupBy(renewals, ({ userId }) => partitionOf(userId));
    const lost = await Promise.all([...byPartition].map(([partition, some]) => this.#renew(partition, some)));
    return lost.flat();
  }

  async #renew(partition: number, renewals: readonly ConnectionRenewal[]): Promise<string[]> {
    const lost: string[] = [];
    for (const batch of pieces(renewals, batchConnections)) {
      lost.push(...(await this.#renewBatch(partition, batch)));
    }
    return lost;
  }

  async #renewBatch(partition: number, renewals: readonly ConnectionRenewal[]): Promise<string[]> {
    const { engine, keys, nodeId, ttlMs, maxConnectionsPerUser, epochOf, learn } = this.#options;
    const [lost, marked, now] = await engine.run<[string[], [string, string, string][], string]>(
      partition,
      scripts.renew,
      [
        keys.deadlines(partition),
        keys.log(partition),
        keys.seq(partition),
        keys.sweeper(partition),
        ...renewals.flatMap(({ userId }) => [
          keys.status(userId),
          keys.meta(userId),
          keys.connections(userId),
          keys.details(userId),
        ]),
      ],
      [
        keys.channel(partition),
        String(ttlMs),
        String(maxConnectionsPerUser),
        epochOf(partition),
        ...renewals.flatMap(({ userId, connection }) => [
          userId,
          connection.connectionId,
          kindNumber(connection.kind),
          connection.device,
          activityNumber(connection.activity),
          String(connection.sinceMs),
          nodeId,
        ]),
      ],
    );
    const users = new Map(marked.map(([userId, ...marks]) => [userId, marks]));
    for (const { userId } of renewals) {
      const [signedOut, privacyVersion] = users.get(userId) ?? [];
      learn(userId, Number(signedOut ?? 0), Number(privacyVersion ?? 0), Number(now));
    }
    return lost;
  }
}
