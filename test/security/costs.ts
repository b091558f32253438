/** npm run costs: the cost table of docs/security.md. Needs redis-server and Linux. */
import { type Cost, measureCosts } from './support/costs.ts';

const print = (row: Cost) =>
  console.log(
    `| ${row.name} | ${Math.round(row.sentKb)} | ${row.cpuMsPerKb.toFixed(2)} | ${row.heldKbPerKb.toFixed(1)} | ${row.keptKbPerKb.toFixed(1)} | ${row.failures} | ${row.p99Ms.toFixed(1)} |`,
  );
console.log(
  '| input without a token | kB | CPU, ms per kB | held, KB per kB | after the time-out | failures beside it | p99 beside it, ms |',
);
console.log('|---|---:|---:|---:|---:|---:|---:|');
const share = Number(process.env.COST_SHARE ?? 1);
const { calmP99Ms } = await measureCosts({ share, waitsForRelease: true, onRow: print });
console.log(`\np99 in calm: ${calmP99Ms.toFixed(1)} ms`);
process.exit(0);
