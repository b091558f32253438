/**
 * The server of the attack tests, run as a process of its own (`fork`), so that its memory can be told from the
 * attacker's. Options come as JSON in the first argument; every message from the parent is answered with a `Look`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Look } from './remote-server.ts';
import { bytesMethod, registerEcho, startServer } from './test-server.ts';

const SLOW_MS = 50;
let starts = 0;
let running = 0;
let mostRunning = 0;

const uncaught: string[] = [];
process.on('uncaughtException', (error) => uncaught.push(String(error.stack)));
process.on('unhandledRejection', (error) => uncaught.push(String(error)));

const test = await startServer(JSON.parse(process.argv[2] ?? '{}'), (server) => {
  registerEcho(server);
  // The worst kind of handler: slow, and deaf to cancellation.
  server.unary(bytesMethod('/test.Slow/Unary', 'unary'), async (body) => {
    starts++;
    running++;
    mostRunning = Math.max(mostRunning, running);
    await sleep(SLOW_MS);
    running--;
    return body;
  });
  // Produces without end, as fast as the transport takes it.
  server.serverStream(bytesMethod('/test.Endless/Stream', 'server-stream'), (_body, stream) => {
    const chunk = Buffer.alloc(16_000, 'endless');
    const produce = (): void => {
      while (!stream.closed && stream.send(chunk));
    };
    stream.onDrain(produce);
    produce();
  });
  // A stream that is never read.
  server.bidi(bytesMethod('/test.Unread/Bidi', 'bidi'), (stream) => stream.pause());
  // One large answer, as large as its request says in its first four bytes.
  server.unary(bytesMethod('/test.Large/Unary', 'unary'), (body) => Buffer.alloc(body.readUInt32BE()));
});

/**
 * Bytes in use after a collection, everything outside the JavaScript heap included. The least of several
 * measurements: what sockets bring meanwhile (64 KiB a read) is garbage already, and buffers are freed in the background.
 */
async function usedBytes(): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5; i++) {
    (globalThis as { gc?: () => void }).gc?.();
    await new Promise((resolve) => setImmediate(resolve)); // memory outside the heap is freed by finalizers
    const { heapUsed, external } = process.memoryUsage();
    least = Math.min(least, heapUsed + external);
  }
  return least;
}

process.on('message', async () => {
  const used = await usedBytes();
  const look: Look = {
    stats: test.server.stats(),
    usedBytes: used,
    rssBytes: process.memoryUsage().rss,
    starts,
    mostRunning,
    errors: [...test.errors.map(String), ...uncaught],
  };
  process.send?.(look);
});
process.on('disconnect', () => process.exit());
process.send?.(test.port);
