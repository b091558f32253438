import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { RawClient } from '../support/raw-client.ts';
import { type Look, RemoteServer } from '../support/remote-server.ts';
import { Bystander, type ServerOptions } from '../support/test-server.ts';

export const MIB = 1 << 20;

export interface Battle {
  readonly server: RemoteServer;
  /** Memory in use before the attack, after a collection. */
  readonly before: Look;
}

/**
 * An attack, with a good client on a connection of its own that keeps making calls meanwhile and may see no error.
 * Afterwards the server process must be alive, without a reported or uncaught error, without a stream or a queued
 * byte, and its memory within `growthBytes` of what it was.
 */
export function attack(
  title: string,
  steps: (battle: Battle) => Promise<void>,
  options: ServerOptions = {},
  growthBytes = 8 * MIB,
): void {
  test(title, async () => {
    const alone = Object.keys(options).length > 0;
    const server = alone ? await RemoteServer.start(options) : await sharedServer();
    let survived = false;
    try {
      const bystander = await Bystander.start(server);
      await warmUp(bystander);
      const before = await server.look();
      await steps({ server, before });
      await bystander.stop();
      await assertNothingLeft(server, before, growthBytes);
      await server.assertHealthy();
      survived = true;
    } finally {
      if (alone || !survived) await server.kill();
      if (!alone && !survived) shared = undefined;
    }
  });
}

/** The server process for attacks with default options: one for a file, a new one after an attack that won. */
let shared: Promise<RemoteServer> | undefined;

function sharedServer(): Promise<RemoteServer> {
  shared ??= RemoteServer.start();
  return shared;
}

after(async () => (await shared)?.kill());

async function assertNothingLeft(server: RemoteServer, before: Look, growthBytes: number): Promise<void> {
  const after = await server.until(
    ({ stats }) => stats.connections === 0 && stats.streams === 0 && stats.queuedBytes === 0,
    'the end of every connection, stream and queue',
  );
  assert.equal(after.stats.bufferedRequestBytes, 0, 'request bytes that nobody holds are accounted for');
  assert.equal(after.stats.controlQueueItems, 0);
  const growth = after.usedBytes - before.usedBytes;
  assert.ok(growth < growthBytes, `memory grew by ${growth} bytes`);
}

async function warmUp(bystander: Bystander): Promise<void> {
  const end = performance.now() + 10_000;
  while (bystander.calls < 20) {
    if (performance.now() > end) throw new Error('the good client is not served');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Sends in portions until everything is out or the connection has ended. Returns how many portions went out. */
export async function flood(
  client: RawClient,
  portions: number,
  portion: (i: number) => Uint8Array,
): Promise<number> {
  let sent = 0;
  for (; sent < portions && !client.ended && !client.closed; sent++) {
    client.send(portion(sent));
    if (client.socket.writableNeedDrain) {
      const drained = client.flushed();
      const stuck = new Promise<'stuck'>((resolve) => setTimeout(() => resolve('stuck'), 500));
      if ((await Promise.race([drained, stuck])) === 'stuck') break; // the server has stopped reading: a bound
    } else if (sent % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  return sent;
}
