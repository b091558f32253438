import type { Overview } from '../../core/overview.ts';
import type { Keys } from './keys.ts';
import type { RedisEngine } from './redis-engine.ts';
import { scripts } from './scripts.ts';

export interface RedisOverviewOptions {
  readonly engine: RedisEngine;
  readonly keys: Keys;
  readonly nodeId: string;
  readonly partitions: number;
}

/** How long a node's report is believed, ms: a few rounds of a second each. */
const reportLifeMs = 5000;

/** What operators want to know of Redis, and of the nodes that share it. */
export class RedisOverview implements Overview {
  readonly #options: RedisOverviewOptions;

  constructor(options: RedisOverviewOptions) {
    this.#options = options;
  }

  /** The index of deadlines holds exactly the users that are ONLINE. */
  async countOnline(): Promise<number> {
    const { engine, keys, partitions } = this.#options;
    const counts = await Promise.all(
      Array.from({ length: partitions }, (_, partition) =>
        engine.command<number>(partition, ['ZCARD', keys.deadlines(partition)]),
      ),
    );
    return counts.reduce((sum, count) => sum + Number(count), 0);
  }

  async exchangeReports(report: string): Promise<readonly string[]> {
    const { engine, keys, nodeId } = this.#options;
    const [, nodes] = await Promise.all([
      engine.run(0, scripts.report, [keys.report(nodeId)], [report, String(reportLifeMs)]),
      engine.command<string[]>(0, ['ZRANGE', keys.nodes(), '0', '-1']),
    ]);
    const reports = await Promise.all(
      nodes.map((node) => engine.command<string | null>(0, ['GET', keys.report(node)])),
    );
    return reports.filter((found) => found !== null);
  }

  async memory(): Promise<{ usedBytes: number; maxBytes: number | null }> {
    const { engine, partitions } = this.#options;
    const servers = new Map<string, number>();
    for (let partition = 0; partition < partitions; partition++) {
      const address = engine.homeOf(partition);
      if (address !== undefined) servers.set(address, partition);
    }
    const infos = await Promise.all(
      [...servers.values()].map((partition) => engine.command<string>(partition, ['INFO', 'memory'])),
    );
    const sum = (field: string) => infos.reduce((total, info) => total + numberIn(info, field), 0);
    const maxBytes = sum('maxmemory');
    return { usedBytes: sum('used_memory'), maxBytes: maxBytes === 0 ? null : maxBytes };
  }
}

function numberIn(info: string, field: string): number {
  return Number(new RegExp(`^${field}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
}
