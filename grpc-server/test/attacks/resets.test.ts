import assert from 'node:assert/strict';
import {
  Code,
  data,
  Flag,
  frame,
  headers,
  message,
  priority,
  rstStream,
  Type,
  windowUpdate,
} from '../support/frames.ts';
import { encode } from '../support/hpack.ts';
import type { RawClient } from '../support/raw-client.ts';
import { call, callHeaders, grpcFields, request } from '../support/requests.ts';
import { HANG, UNARY } from '../support/test-server.ts';
import { attack, flood } from './attack.ts';

const SLOW = '/test.Slow/Unary';

attack('A1 rapid reset: HEADERS and RST_STREAM in a loop', async ({ server, before }) => {
  const client = await server.connect();
  const pairs = 100_000;
  await flood(client, pairs / 100, (portion) => {
    const parts: Buffer[] = [];
    for (let i = 0; i < 100; i++) {
      const id = (portion * 100 + i) * 2 + 1;
      parts.push(call(id, SLOW, 'x'), rstStream(id, Code.CANCEL));
    }
    return Buffer.concat(parts);
  });
  await client.expectCut(Code.ENHANCE_YOUR_CALM);
  const { starts, mostRunning } = await server.look();
  assert.ok(mostRunning <= 256, `${mostRunning} handlers ran at one time`);
  assert.ok(starts - before.starts <= 1_024, `${starts - before.starts} handlers were started`);
  await client.close();
});

attack(
  'A1 rapid reset of calls whose request never ends, so that no handler holds a slot',
  async ({ server }) => {
    const client = await server.connect();
    await flood(client, 200, (portion) => {
      const ids = Array.from({ length: 100 }, (_, i) => (portion * 100 + i) * 2 + 1);
      return Buffer.concat(
        ids.map((id) => Buffer.concat([callHeaders(id, UNARY), rstStream(id, Code.CANCEL)])),
      );
    });
    await client.expectCut(Code.ENHANCE_YOUR_CALM);
  },
);

attack('A1 a stream that was reset holds its slot until its handler has finished', async ({ server }) => {
  const client = await server.connect();
  for (let id = 1; id <= 2 * 400; id += 2) client.send(call(id, SLOW, 'x'), rstStream(id, Code.CANCEL));
  await client.expectAlive();
  const { mostRunning } = await server.look();
  assert.ok(mostRunning <= 256, `${mostRunning} handlers ran at one time`);
  await client.close();
});

attack('A1 a client that cancels 5,000 watches that had answers is not cut', async ({ server }) => {
  const client = await server.connect({ returnCredit: true });
  for (let id = 1; id <= 2 * 5_000; id += 2) {
    client.send(call(id, HANG, 'x'));
    if (id % 100 !== 99) continue;
    for (let watched = id - 98; watched <= id; watched += 2) {
      await client.expectData(watched);
      client.send(rstStream(watched, Code.CANCEL));
    }
    client.frames.length = 0;
  }
  await client.expectAlive();
  await client.close();
});

/** Each makes a server reset a stream of a valid request (MadeYouReset). */
const PRIMITIVES: readonly [string, (id: number) => Uint8Array][] = [
  ['WINDOW_UPDATE of 0', (id) => windowUpdate(id, 0)],
  ['PRIORITY of four bytes', (id) => frame(Type.PRIORITY, 0, id, Buffer.alloc(4))],
  ['PRIORITY on itself', (id) => priority(id, id, 1)],
  ['a window above 2^31-1', (id) => windowUpdate(id, 0x7fffffff)],
  ['HEADERS after END_STREAM', (id) => request(id, grpcFields(SLOW))],
  ['DATA after END_STREAM', (id) => data(id, message('x'))],
];

for (const [what, primitive] of PRIMITIVES) {
  attack(`A2 MadeYouReset by ${what} ends in GOAWAY`, async ({ server, before }) => {
    const client = await server.connect();
    for (let id = 1; id <= 2 * 40; id += 2) client.send(call(id, SLOW, 'x'), primitive(id));
    const found = await client.next((f) => f.type === Type.GOAWAY, 'GOAWAY');
    assert.notEqual(found.payload.readUInt32BE(4), Code.NO_ERROR);
    await client.expectClosedWithin(5_000);
    const { starts } = await server.look();
    assert.ok(starts - before.starts <= 40, `${starts - before.starts} handlers`);
    await client.close();
  });
}

attack('A6 malformed requests in a loop, answers not read', async ({ server }) => {
  const client = await server.connect();
  client.pause();
  await flood(client, 500, (portion) => {
    const ids = Array.from({ length: 40 }, (_, i) => (portion * 40 + i) * 2 + 1);
    return Buffer.concat(ids.map((id) => request(id, grpcFields(UNARY, [['X-Bad', 'v']]))));
  });
  const { stats } = await server.look();
  assert.ok(stats.controlQueueItems <= 1_000, `${stats.controlQueueItems} control frames queued`);
  client.resume();
  await client.expectCut(Code.ENHANCE_YOUR_CALM);
  client.destroy();
});

attack('A6 calls of unknown methods in a loop are answered, not counted as an attack', async ({ server }) => {
  const client = await server.connect({ returnCredit: true });
  for (let id = 1; id <= 2 * 2_000; id += 2) {
    client.send(call(id, '/no.Such/Method', 'x'));
    await client.expectEndStream(id);
  }
  await client.expectAlive();
  await client.close();
});

attack('A18 windows above 2^31-1 on 300 connections leave nothing behind', async ({ server }) => {
  await manyConnections(
    300,
    20,
    () => server.connect(),
    async (client) => {
      client.send(
        callHeaders(1, HANG),
        data(1, message('x')),
        windowUpdate(0, 0x7fffffff),
        windowUpdate(0, 0x7fffffff),
      );
      await client.expectGoaway(Code.FLOW_CONTROL_ERROR);
    },
  );
});

attack('A3 sockets dropped inside a header block leave nothing behind', async ({ server }) => {
  await manyConnections(
    300,
    20,
    () => server.connect(),
    async (client) => {
      client.send(headers(1, encode(grpcFields(UNARY)), Flag.END_STREAM));
      await client.flushed();
      client.socket.resetAndDestroy();
    },
  );
});

async function manyConnections(
  total: number,
  atOnce: number,
  connect: () => Promise<RawClient>,
  steps: (client: RawClient) => Promise<void>,
): Promise<void> {
  let started = 0;
  const worker = async (): Promise<void> => {
    while (started++ < total) {
      const client = await connect();
      await steps(client);
      client.destroy();
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
