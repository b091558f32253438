/**
 * The long form of the two-worlds tests of privacy: RUNS histories (default 10,000) in memory, then REDIS_RUNS (default as many) on
 * a Redis that is 2 ms away, about 5 a second. SEED repeats a run.
 */
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';

const runs = process.env.RUNS ?? '10000';
const tests = [
  { file: '../../src/presence/privacy.test.ts', runs },
  { file: './private-worlds.test.ts', runs: process.env.REDIS_RUNS ?? runs },
];
for (const { file, runs } of tests) {
  process.env.RUNS = runs;
  console.log(`${runs} histories: ${file}`);
  const stream = run({ files: [fileURLToPath(new URL(file, import.meta.url))] });
  stream.on('test:fail', () => {
    process.exitCode = 1;
  });
  for await (const line of stream.compose(new spec())) process.stdout.write(line);
}
