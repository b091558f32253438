/** npm run hostile [way...]: the table of docs/security.md. Needs redis-server and Linux. */
import { type HostileRow, measureHostility } from './support/hostile.ts';

const print = (row: HostileRow) => {
  if (row.failures > 0) console.error(row.failure);
  console.log(
    `| ${row.title} | ${row.done} | ${row.refused} | ${row.serverPercent} % | ${row.redisPercent} % | ${row.failures} of ${row.heartbeats} | ${row.p50Ms.toFixed(1)} | ${row.p99Ms.toFixed(1)} | ${row.calmP99Ms.toFixed(1)} |`,
  );
};
console.log(
  '| what the hostile user does | answers /s | refusals /s | server CPU | Redis CPU | failed heartbeats of others | p50, ms | p99, ms | p99 in calm, ms |',
);
console.log('|---|---:|---:|---:|---:|---:|---:|---:|---:|');
const ways = process.argv.slice(2);
const hostileMs = Number(process.env.HOSTILE_MS ?? 10_000);
await measureHostility({
  calmMs: hostileMs / 2,
  warmUpMs: 2000,
  hostileMs,
  onRow: print,
  ...(ways.length > 0 && { ways }),
});
