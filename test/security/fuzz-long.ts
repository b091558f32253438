/**
 * node test/security/fuzz-long.ts
 *
 * 1,000,000 random and mutated inputs, by surface. FUZZ_SEED chooses the seed, FUZZ_SHARE a part of the whole (0.1: a
 * tenth). Most go through memory into the real parser, router, sessions and authenticator; `sockets` through TCP. Ends with
 * code 1 at what must not happen.
 */
import { checkGrowth, Fuzz, heapBytes, type Surface, surfaces } from './support/fuzz.ts';

const counts: Readonly<Record<Surface, number>> = {
  tokens: 250_000,
  'JSON frames': 250_000,
  'protobuf frames': 250_000,
  'HTTP requests': 100_000,
  'raw HTTP': 60_000,
  handshakes: 30_000,
  'raw frames': 50_000,
  sockets: 10_000,
};

const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 1e9));
const share = Number(process.env.FUZZ_SHARE ?? 1);
console.log(`FUZZ_SEED=${seed}`);
const fuzz = new Fuzz(seed);
try {
  await run();
  process.exit(0);
} catch (error) {
  console.log(error);
  process.exit(1);
}
async function run(): Promise<void> {
  await fuzz.start();
  let beforeBytes = 0;
  const began = performance.now();
  for (const surface of surfaces) {
    const count = Math.round(counts[surface] * share);
    const beganMs = performance.now();
    await fuzz.run(surface, count);
    console.log(`${surface}: ${count}, ${Math.round((performance.now() - beganMs) / 1000)} s`);
    beforeBytes ||= heapBytes();
  }
  await fuzz.stop();
  checkGrowth(beforeBytes);
  console.log(
    `the bystander was answered ${fuzz.answered} times; ${Math.round((performance.now() - began) / 1000)} s, heap ${Math.round(heapBytes() / 1e6)} MB`,
  );
}
