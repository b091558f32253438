/**
 * Micro-benchmarks of the hot modules (every *.bench.ts beside them), as ratios to a fixed loop in the same process, so
 * that a slower or busier machine changes them little:
 *
 *   node bench/micro.ts            show
 *   node bench/micro.ts --update   keep as the baseline (bench/micro-baseline.json)
 *   node bench/micro.ts --check    fail where a ratio is more than 15 % over the baseline
 */
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createClient } from 'redis';
import { RedisServer } from '../test/support/redis-server.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const baselineFile = fileURLToPath(new URL('micro-baseline.json', import.meta.url));
const mostRegression = 0.15;
const rounds = 15;
/** A suspect is measured again so often: noise goes, a regression stays. */
const secondLooks = 3;
const roundMs = 20;

type Work = (iterations: number) => void;

let kept = 0;

/** The fixed loop: hashing, a little memory, a little text, as servers do. One iteration takes some microseconds. */
function referenceLoop(iterations: number): void {
  const bytes = new Uint8Array(256);
  for (let i = 0; i < iterations; i++) {
    let hash = 2_166_136_261;
    for (let at = 0; at < bytes.length; at++) {
      hash = Math.imul(hash ^ (bytes[at] as number), 16_777_619);
      bytes[at] = hash;
    }
    const names = new Map<string, { hash: number }>();
    for (let name = 0; name < 16; name++) names.set(`name-${(hash + name) & 63}`, { hash });
    kept += names.size;
  }
}

function timeOf(work: Work, iterations: number): number {
  const start = performance.now();
  work(iterations);
  return (performance.now() - start) / iterations;
}

/** Iterations that take about one round. */
function calibrate(work: Work): number {
  let iterations = 1;
  while (timeOf(work, iterations) * iterations < roundMs / 4) iterations *= 2;
  return Math.max(1, Math.round(roundMs / timeOf(work, iterations)));
}

/** Time of one iteration as a multiple of the reference's; the least of many rounds, since noise only ever adds. */
function ratioOf(work: Work): number {
  const count = calibrate(work);
  const referenceCount = calibrate(referenceLoop);
  let least = Number.POSITIVE_INFINITY;
  let leastReference = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round++) {
    leastReference = Math.min(leastReference, timeOf(referenceLoop, referenceCount));
    least = Math.min(least, timeOf(work, count));
  }
  return least / leastReference;
}

type Measure = () => number | Promise<number>;
const measures = new Map<string, Measure>();

const folders = ['src/**/*.bench.ts', 'grpc-server/src/**/*.bench.ts'];
const modules = folders.flatMap((pattern) => globSync(pattern, { cwd: root })).sort();
for (const file of modules) {
  const { benchmarks } = (await import(new URL(`../${file}`, import.meta.url).href)) as {
    benchmarks?: Record<string, Work>;
  };
  for (const [name, work] of Object.entries(benchmarks ?? {})) measures.set(name, () => ratioOf(work));
}

const redis = await RedisServer.start();
const client = createClient({ url: redis.url });
await client.connect();
const { redisBenchmarks } = await import('../src/store/redis/scripts.bench.ts');
const inRedis = await redisBenchmarks((args) => client.sendCommand(args as string[]));

/** Redis' own microseconds in scripts so far. */
async function scriptUs(): Promise<number> {
  const stats = await client.info('commandstats');
  return Number(/cmdstat_evalsha:calls=\d+,usec=(\d+)/.exec(stats)?.[1] ?? 0);
}

for (const [name, work] of Object.entries(inRedis)) {
  measures.set(name, async () => {
    const referenceCount = calibrate(referenceLoop);
    let least = Number.POSITIVE_INFINITY;
    let leastReference = Number.POSITIVE_INFINITY;
    for (let round = 0; round < rounds; round++) {
      leastReference = Math.min(leastReference, timeOf(referenceLoop, referenceCount));
      const before = await scriptUs();
      for (let call = 0; call < 5; call++) await work();
      least = Math.min(least, ((await scriptUs()) - before) / 5 / 1000);
    }
    return least / leastReference;
  });
}

const baseline = readBaseline();
const found: Record<string, number> = {};
let failures = 0;
for (const [name, measure] of measures) {
  let ratio = await measure();
  const before = baseline[name];
  const isOver = (): boolean => before !== undefined && ratio > before * (1 + mostRegression);
  for (let look = 0; look < secondLooks && isOver(); look++) {
    await sleep(200);
    ratio = Math.min(ratio, await measure());
  }
  found[name] = Number(ratio.toPrecision(4));
  const change =
    before === undefined ? 'new' : `${ratio >= before ? '+' : ''}${Math.round((ratio / before - 1) * 100)} %`;
  const isFailure = process.argv.includes('--check') && (isOver() || before === undefined);
  if (isFailure) failures++;
  console.log(
    `${isFailure ? 'FAIL' : '    '}  ${name.padEnd(50)} ${ratio.toFixed(3).padStart(10)}  ${change}`,
  );
}
for (const name of Object.keys(baseline)) {
  if (name in found) continue;
  console.log(`      ${name}: in the baseline, and gone`);
  if (process.argv.includes('--check')) failures++;
}
client.destroy();
await redis.stop();
if (process.argv.includes('--update')) writeFileSync(baselineFile, `${JSON.stringify(found, null, 2)}\n`);
if (failures > 0) {
  console.error(
    `${failures} of ${measures.size} are over ${mostRegression * 100} % slower than bench/micro-baseline.json, new or gone`,
  );
}
if (kept === 0) throw new Error('the reference loop did nothing');
process.exitCode = failures > 0 ? 1 : 0;

function readBaseline(): Record<string, number> {
  try {
    return JSON.parse(readFileSync(baselineFile, 'utf8')) as Record<string, number>;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
}
