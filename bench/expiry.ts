/**
 * How late a watcher learns that a lease ended: `node bench/expiry.ts [--live 200000] [--ending 20000] [--ttl 30]`.
 *
 * Live users heartbeat twice in a TTL (seconds). Beside it, in the same run, the expired-key notification of a second Redis with as many keys.
 */
import { parseArgs } from 'node:util';
import { type Lateness, measureExpiry } from './expiry-run.ts';

const { values } = parseArgs({
  options: {
    live: { type: 'string', default: '200000' },
    ending: { type: 'string', default: '20000' },
    ttl: { type: 'string', default: '30' },
    patience: { type: 'string', default: '30' },
  },
});

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

function at(lateMs: readonly number[], share: number, total: number): string {
  const value = lateMs[Math.ceil(share * total) - 1];
  return value === undefined ? 'never' : `${value} ms`;
}

function describe(name: string, { lateMs, early, missing }: Lateness): void {
  const total = lateMs.length + missing;
  const row = [0.5, 0.9, 0.99, 1].map((share) => at(lateMs, share, total)).join(' / ');
  print(`${name}: p50 / p90 / p99 / max ${row}; ${early} early, ${missing} of ${total} missing`);
}

const result = await measureExpiry({
  live: Number(values.live),
  ending: Number(values.ending),
  spreadMs: 5000,
  ttlMs: Number(values.ttl) * 1000,
  patienceMs: Number(values.patience) * 1000,
  compare: true,
  say: print,
});
describe('watcher of a Pilotlight server', result.watcher);
if (result.notification) {
  describe('expired-key notification', result.notification);
  const median = (lateness: Lateness) =>
    lateness.lateMs[Math.ceil((lateness.lateMs.length + lateness.missing) / 2) - 1];
  const [ours, theirs] = [median(result.watcher), median(result.notification)];
  print(
    `ratio of the medians: ${ours === undefined || theirs === undefined ? 'the notification never got there' : (theirs / ours).toFixed(1)}`,
  );
}
print(`live users said to be OFFLINE: ${result.falselyEnded}`);
print(`Redis used ${(result.redisCpu * 100).toFixed(0)} % of a core`);
