import assert from 'node:assert/strict';
import {
  Code,
  continuation,
  data,
  Flag,
  frame,
  headers,
  message,
  ping,
  priority,
  rstStream,
  Setting,
  settings,
  Type,
  windowUpdate,
} from '../support/frames.ts';
import { encode } from '../support/hpack.ts';
import type { RawClient } from '../support/raw-client.ts';
import type { RemoteServer } from '../support/remote-server.ts';
import { call, callHeaders, grpcFields, plainFields } from '../support/requests.ts';
import { BIDI, HANG, UNARY } from '../support/test-server.ts';
import { attack, flood, MIB } from './attack.ts';

const BLOCK = encode(plainFields());

function repeat(bytes: Uint8Array, times: number): Buffer {
  return Buffer.concat(Array.from({ length: times }, () => bytes));
}

/** GOAWAY(ENHANCE_YOUR_CALM) has come, or comes; a reset after it is as good as a FIN while the flood is under way. */
async function expectCalm(client: RawClient): Promise<void> {
  client.resume();
  const found = client.goaway() ?? (await nextGoaway(client));
  assert.equal(found.code, Code.ENHANCE_YOUR_CALM);
  await client.expectClosedWithin(5_000);
}

async function nextGoaway(client: RawClient): Promise<{ code: number }> {
  const found = await client.next((f) => f.type === Type.GOAWAY, 'GOAWAY(ENHANCE_YOUR_CALM)');
  return { code: found.payload.readUInt32BE(4) };
}

/** After a flood whose answers nobody reads: the queue is bounded and the server has stopped reading or closed. */
async function expectBounded(
  server: RemoteServer,
  client: RawClient,
  sent: number,
  portions: number,
): Promise<void> {
  const { stats } = await server.look();
  assert.ok(stats.controlQueueItems <= 1_000, `${stats.controlQueueItems} control frames queued`);
  const ended = await Promise.race([
    client.expectClosedWithin(1_000).then(() => true),
    new Promise<boolean>((resolve) => setTimeout(() => resolve(client.ended || client.closed), 300)),
  ]).catch(() => false);
  assert.ok(ended || sent < portions, 'the server took the whole flood without an end');
  client.destroy();
}

attack('A3 CONTINUATION without an end: the ninth frame ends the connection', async ({ server }) => {
  const client = await server.connect();
  client.send(headers(1, BLOCK, Flag.END_STREAM));
  for (let i = 0; i < 8; i++) client.send(continuation(1, encode([[`x-${i}`, 'v']])));
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(client.goaway(), undefined, 'eight are allowed');
  client.send(continuation(1, encode([['x-9', 'v']])));
  await client.expectGoaway(Code.ENHANCE_YOUR_CALM);
});

attack('A3 CONTINUATION of full frames: cut at twice the list limit', async ({ server }) => {
  const client = await server.connect();
  client.send(headers(1, BLOCK, Flag.END_STREAM));
  for (let i = 0; i < 4; i++) client.send(continuation(1, Buffer.alloc(16_384, 0x82)));
  await client.expectGoaway(Code.ENHANCE_YOUR_CALM);
});

attack('A4 PING flood, answers not read', async ({ server }) => {
  const client = await server.connect();
  client.pause();
  const portion = repeat(ping('overload'), 1_000);
  const sent = await flood(client, 2_000, () => portion);
  await expectBounded(server, client, sent, 2_000);
});

attack(
  'A4 PING flood against the strikes: too_many_pings',
  async ({ server }) => {
    const client = await server.connect();
    await flood(client, 20, () => repeat(ping('overload'), 100));
    await expectCalm(client);
    assert.equal(client.goaway()?.debug, 'too_many_pings');
  },
  { keepalive: { timeMs: 7_200_000, timeoutMs: 20_000, minClientPingMs: 20_000, permitWithoutCalls: true } },
);

attack('A5 SETTINGS flood, answers not read', async ({ server }) => {
  const client = await server.connect();
  client.pause();
  const portion = repeat(settings(), 1_000);
  const sent = await flood(client, 2_000, () => portion);
  await expectBounded(server, client, sent, 2_000);
});

attack('A5 SETTINGS that change windows and tables, with open streams', async ({ server }) => {
  const client = await server.connect();
  for (let id = 1; id < 401; id += 2) client.send(call(id, HANG, 'x'));
  await client.expectData(399);
  const portion = Buffer.concat(
    Array.from({ length: 50 }, (_, i) =>
      settings([
        [Setting.INITIAL_WINDOW_SIZE, 65_535 + i],
        [Setting.HEADER_TABLE_SIZE, (i % 2) * 4096],
      ]),
    ),
  );
  const sent = await flood(client, 400, () => portion);
  await expectBounded(server, client, sent, 400);
});

for (const [what, open, empty] of [
  ['DATA', callHeaders(1, BIDI), data(1)],
  ['CONTINUATION', headers(1, BLOCK, Flag.END_STREAM), continuation(1, Buffer.alloc(0))],
  ['HEADERS and CONTINUATION', headers(1, Buffer.alloc(0), 0), continuation(1, Buffer.alloc(0))],
] as const) {
  attack(`A7 empty ${what} frames`, async ({ server }) => {
    const client = await server.connect();
    client.send(open);
    const sent = await flood(client, 1_000, () => repeat(empty, 100));
    await expectCalm(client);
    assert.ok(sent < 1_000, 'cut before the end of the flood');
  });
}

attack('A7 unknown frames without end', async ({ server }) => {
  const client = await server.connect();
  await flood(client, 1_000, () => repeat(frame(0x42, 0, 0), 100));
  await expectCalm(client);
});

attack('A8 windows opened byte by byte', async ({ server }) => {
  const client = await server.connect({ settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] });
  const size = Buffer.alloc(4);
  size.writeUInt32BE(200_000);
  client.send(call(1, '/test.Large/Unary', size));
  await client.expectHeaders(1);
  await flood(client, 400, () => repeat(windowUpdate(1, 1), 50));
  await client.expectAlive().catch(() => {});
  const frames = client.on(1).filter((f) => f.type === Type.DATA);
  const bytes = frames.reduce((sum, f) => sum + f.payload.length, 0);
  const cut = client.goaway()?.code === Code.ENHANCE_YOUR_CALM;
  assert.ok(cut || frames.length < 2_000, `${frames.length} DATA frames for ${bytes} bytes`);
  client.destroy();
});

attack('A8 WINDOW_UPDATE for nothing', async ({ server }) => {
  const client = await server.connect();
  client.send(call(1, HANG, 'x'));
  await client.expectData(1);
  await flood(client, 1_000, () => repeat(windowUpdate(1, 1), 100));
  await expectCalm(client);
});

attack('A9 PRIORITY without end, in a cycle of dependencies', async ({ server }) => {
  const client = await server.connect();
  client.send(callHeaders(1, BIDI), callHeaders(3, BIDI));
  await flood(client, 1_000, () => repeat(Buffer.concat([priority(1, 3, 1), priority(3, 1, 255, true)]), 50));
  await expectCalm(client);
});

attack('A19 calls, PINGs, refused and reset calls mixed, answers not read', async ({ server }) => {
  const client = await server.connect();
  client.pause();
  let id = -1;
  const sent = await flood(client, 3_000, () => {
    const parts: Buffer[] = [];
    for (let i = 0; i < 20; i++) {
      id += 2;
      parts.push(call(id, UNARY, 'x'), ping('overload'), windowUpdate(0, 1));
      parts.push(callHeaders(id + 2, '/no.Such/Method'), rstStream(id + 2, Code.CANCEL));
      id += 2;
    }
    return Buffer.concat(parts);
  });
  await expectBounded(server, client, sent, 3_000);
});

attack(
  'A4 A5 A19 a hundred connections that never read',
  async ({ server, before }) => {
    const clients = await Promise.all(Array.from({ length: 100 }, () => server.connect()));
    for (const client of clients) client.pause();
    const portion = Buffer.concat([repeat(ping('overload'), 200), repeat(settings(), 200)]);
    for (let round = 0; round < 20; round++) {
      for (const client of clients)
        if (!client.closed && !client.socket.writableNeedDrain) client.send(portion);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const during = await server.look();
    assert.ok(during.usedBytes - before.usedBytes < 64 * MIB, `${during.usedBytes - before.usedBytes} bytes`);
    for (const client of clients) client.destroy();
  },
  {},
  16 * MIB,
);

attack(
  'A3 A14 a header block that never ends is cut off in time',
  async ({ server }) => {
    const client = await server.connect();
    client.send(headers(1, encode(grpcFields(UNARY)), Flag.END_STREAM));
    await client.expectClosedWithin(5_000);
    await client.close();
  },
  { limits: { headerBlockTimeoutMs: 300 } },
);

attack('A7 messages of zero bytes are messages, not empty frames', async ({ server }) => {
  const client = await server.connect({ returnCredit: true });
  client.send(callHeaders(1, BIDI));
  for (let i = 0; i < 500; i++) client.send(data(1, message('')));
  client.send(data(1, '', Flag.END_STREAM));
  await client.expectEndStream(1);
  await client.expectAlive();
  await client.close();
});
