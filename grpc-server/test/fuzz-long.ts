/**
 * node grpc-server/test/fuzz-long.ts
 *
 * 1,000,000 mutated sessions through memory and 20,000 through sockets. FUZZ_SEED chooses the first seed (session n
 * has seed FUZZ_SEED + n), FUZZ_SESSIONS and FUZZ_SOCKETS the numbers. Ends with code 1 and the seed of what failed.
 */
import { fuzzInMemory, fuzzSockets } from './support/fuzz.ts';

const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 1e9));
const sessions = Number(process.env.FUZZ_SESSIONS ?? 1_000_000);
const sockets = Number(process.env.FUZZ_SOCKETS ?? 20_000);
const durationMs = 24 * 3_600_000;

console.log(`FUZZ_SEED=${seed}`);
const began = performance.now();
const memory = await fuzzInMemory({
  seed,
  sessions,
  durationMs,
  onProgress: (done) => {
    if (done % 100_000 === 0)
      console.log(`${done} sessions, ${Math.round((performance.now() - began) / 1000)} s`);
  },
});
console.log(`memory: ${memory.sessions} sessions, ${memory.answeredFrames} frames in answer, no error`);
const tcp = await fuzzSockets({ seed, sessions: sockets, durationMs });
console.log(`sockets: ${tcp.sessions} sessions, ${tcp.answeredFrames} bytes in answer, no error`);
console.log(`${Math.round((performance.now() - began) / 1000)} s`);
