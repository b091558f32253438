/** What others call themselves, on the terminal of who asks for them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startProcess } from '../support/child-process.ts';
import { startServer } from '../support/pilotlight.ts';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

async function run(...args: string[]): Promise<string> {
  const child = startProcess(process.execPath, [main, ...args]);
  let out = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (out += chunk));
  await once(child, 'close');
  return out;
}

describe('commands on hostile text', () => {
  it('show ids and the errors of a server with nothing hidden or turned round', async () => {
    const server = await startServer();
    const address = ['--address', `127.0.0.1:${server.grpcPort}`];
    try {
      const id = 'ada\u202egnp\u200b';
      for (const args of [
        ['get', id],
        ['get', id, '--json'],
        ['set', id, 'online'],
        ['heartbeat', id],
      ]) {
        const out = await run(...args, ...address);
        assert.match(out, /ada\\u202egnp\\u200b/, String(args[0]));
        assert.doesNotMatch(out, /[\u202e\u200b]/, String(args[0]));
      }
    } finally {
      await server.stop();
    }
  });
});
