import assert from 'node:assert/strict';
import { connect as connectTcp, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import {
  Code,
  continuation,
  data,
  Flag,
  headers,
  message,
  PREFACE,
  Setting,
  uint32,
  windowUpdate,
} from '../support/frames.ts';
import { encode, type Field, huffmanEncode, integer, literalIndexed, string } from '../support/hpack.ts';
import { deadline, eventually, RawClient } from '../support/raw-client.ts';
import { call, callHeaders, get, grpcFields, plainFields, post, request } from '../support/requests.ts';
import { readAnswer, UNARY, value } from '../support/test-server.ts';
import { attack, MIB } from './attack.ts';

const END = Flag.END_HEADERS | Flag.END_STREAM;
const ENDLESS = '/test.Endless/Stream';
const LARGE = '/test.Large/Unary';
const ALL_WINDOW = { settings: [[Setting.INITIAL_WINDOW_SIZE, 0x7fffffff]] } as const;

/** A header list that the server must refuse with an answer: 431 or RESOURCE_EXHAUSTED. */
async function expectTooLarge(client: RawClient, streamId: number): Promise<void> {
  const { fields } = await client.expectHeaders(streamId);
  assert.ok(
    value(fields, ':status') === '431' || value(fields, 'grpc-status') === '8',
    JSON.stringify(fields),
  );
}

attack('A10 fields with empty names are malformed and leave nothing', async ({ server }) => {
  for (let i = 0; i < 50; i++) {
    const client = await server.connect();
    const block = Buffer.concat([
      encode(plainFields()),
      ...Array.from({ length: 50 }, () => literalIndexed('', '')),
    ]);
    client.send(headers(1, block, END));
    await client.expectStreamError(1, Code.PROTOCOL_ERROR);
    client.destroy();
  }
});

attack(
  'A11 F4 large answers to clients that read nothing: bounded, and cut at the stall timeout',
  async ({ server, before }) => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => server.connect(ALL_WINDOW)));
    for (const client of clients) {
      client.send(windowUpdate(0, 0x7fffffff - 65_535));
      for (let id = 1; id < 21; id += 2) client.send(call(id, ENDLESS));
      client.pause();
    }
    await server.until(({ stats }) => stats.streams >= 200 || stats.connections <= 1, '200 streams');
    const during = await server.look();
    // 10 streams may queue 64 KiB each and the socket 256 KiB: under 1 MiB for one connection.
    assert.ok(
      during.usedBytes - before.usedBytes < 20 * 1.5 * MIB,
      `${during.usedBytes - before.usedBytes} bytes`,
    );
    await server.until(({ stats }) => stats.connections === 1, 'the stalled connections to be cut', 15_000);
    for (const client of clients) client.destroy();
  },
  { limits: { writeStallTimeoutMs: 500 } },
  16 * MIB,
);

attack('A12 HPACK bomb: a large entry, referenced sixteen thousand times', async ({ server, before }) => {
  const client = await server.connect();
  const large = literalIndexed('x-bomb', 'b'.repeat(4_000));
  client.send(headers(1, Buffer.concat([encode(plainFields()), large]), END));
  await client.expectHeaders(1);
  client.send(headers(3, Buffer.concat([encode(plainFields()), Buffer.alloc(12_000, 0xbe)]), END));
  const found = await client.next((f) => f.streamId === 3 || f.type === 7, 'an end of it');
  if (found.type === 7) assert.equal(found.payload.readUInt32BE(4), Code.ENHANCE_YOUR_CALM);
  const { usedBytes } = await server.look();
  assert.ok(usedBytes - before.usedBytes < 2 * MIB, `${usedBytes - before.usedBytes} bytes`);
  client.destroy();
  // Below the field limit but above the byte limit: refused with an answer, the connection goes on.
  const second = await server.connect();
  second.send(headers(1, Buffer.concat([encode(plainFields()), large]), END));
  second.send(headers(3, Buffer.concat([encode(plainFields()), Buffer.alloc(50, 0xbe)]), END));
  await expectTooLarge(second, 3);
  await second.expectAlive();
  await second.close();
});

attack(
  'A13 HPACK blocks that are dear to decode',
  async ({ server }) => {
    const client = await server.connect();
    const longest = huffmanEncode('\x7f'.repeat(0) + '\\'.repeat(2_000));
    const dear = Buffer.concat([
      encode(grpcFields(UNARY)),
      Buffer.from([0]),
      string('x-dear'),
      integer(longest.length, 7, 0x80),
      longest,
    ]);
    const began = performance.now();
    for (let id = 1; id <= 2 * 500; id += 2) {
      client.send(headers(id, dear), data(id, message('x'), Flag.END_STREAM));
      assert.equal((await readAnswer(client, id)).status, 0);
      client.frames.length = 0;
    }
    assert.ok(performance.now() - began < 20_000, 'a hang bound for 2.4 MB of Huffman');
    client.send(
      headers(
        2_001,
        Buffer.concat([encode(plainFields()), Buffer.from([0xff]), Buffer.alloc(12_000, 0x80)]),
        END,
      ),
    );
    await client.expectGoaway(Code.COMPRESSION_ERROR);
  },
  {},
  16 * MIB,
);

attack(
  'A14 slow prefaces and silent sockets: cut in time, and others are served meanwhile',
  async ({ server }) => {
    const sockets = Array.from({ length: 200 }, (_, i) => {
      const socket = connectTcp(server.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.resume();
      if (i % 2 === 0) socket.write(PREFACE.subarray(0, i % 20));
      return socket;
    });
    await Promise.all(
      sockets.map((socket) => deadline(ended(socket), 'a silent socket to be closed', 10_000)),
    );
  },
  { limits: { handshakeTimeoutMs: 500 } },
);

attack(
  'A14 more connections than allowed are closed, the old ones stay',
  async ({ server }) => {
    const clients = await Promise.all(Array.from({ length: 9 }, () => server.connect()));
    const extra = connectTcp(server.port, '127.0.0.1');
    extra.on('error', () => {});
    extra.resume();
    await deadline(ended(extra), 'the connection too many to be closed');
    for (const client of clients) {
      await client.expectAlive();
      await client.close();
    }
  },
  { limits: { maxConnections: 10 } },
);

function ended(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('close', () => resolve());
    socket.once('end', () => socket.end());
  });
}

attack(
  'A15 windows that never open: the stream is ended and its memory freed',
  async ({ server }) => {
    const client = await server.connect({ settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] });
    for (let id = 1; id < 41; id += 2) client.send(call(id, LARGE, uint32(200_000)));
    await server.until(({ stats }) => stats.queuedBytes > 1_000_000, '20 answers that wait');
    await server.until(
      ({ stats }) => stats.streams <= 1 && stats.queuedBytes < 1_000,
      'the stalled streams to end',
      15_000,
    );
    client.destroy();
  },
  { limits: { writeStallTimeoutMs: 3_000, sendQueueBytes: 1 << 20 } },
);

attack(
  'A15 a window opened by one byte now and then is no progress',
  async ({ server }) => {
    const client = await server.connect({ settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] });
    client.send(call(1, LARGE, uint32(200_000)));
    await client.expectHeaders(1);
    const drip = setInterval(() => client.send(windowUpdate(1, 1)), 100);
    try {
      await eventually(
        () => client.on(1).some((f) => f.type === 3) || client.goaway() !== undefined,
        'the end of it',
        15_000,
      );
    } finally {
      clearInterval(drip);
    }
    client.destroy();
  },
  { limits: { writeStallTimeoutMs: 500, sendQueueBytes: 1 << 20 } },
);

attack('A16 header lists above the limit on a hundred streams', async ({ server }) => {
  const client = await server.connect({ returnCredit: true });
  const fields = grpcFields(
    UNARY,
    [1, 2, 3, 4, 5].map((i) => [`x-${i}`, 'x'.repeat(4_000)] as const),
  );
  const block = encode(fields);
  for (let id = 1; id < 201; id += 2) {
    client.send(
      headers(id, block.subarray(0, 16_384), 0),
      continuation(id, block.subarray(16_384), Flag.END_HEADERS),
    );
    client.send(data(id, message('x'), Flag.END_STREAM));
    await expectTooLarge(client, id);
  }
  client.send(call(201, UNARY, 'x'));
  assert.equal((await readAnswer(client, 201)).status, 0);
  await client.close();
});

attack('A17 HTTP/2 bomb: one-byte references to small fields', async ({ server, before }) => {
  const client = await server.connect();
  client.send(headers(1, Buffer.concat([encode(plainFields()), literalIndexed('cookie', 'a')]), END));
  await client.expectHeaders(1);
  client.send(headers(3, Buffer.concat([encode(plainFields()), Buffer.alloc(500, 0xbe)]), END));
  await expectTooLarge(client, 3);
  for (let id = 5; id < 105; id += 2) {
    client.send(headers(id, Buffer.concat([encode(plainFields()), Buffer.alloc(150, 0xbe)]), END));
    await expectTooLarge(client, id);
  }
  const { usedBytes } = await server.look();
  assert.ok(usedBytes - before.usedBytes < MIB, `${usedBytes - before.usedBytes} bytes`);
  client.send(headers(201, Buffer.concat([encode(plainFields()), Buffer.alloc(16_000, 0xbe)]), END));
  await client.expectGoaway(Code.ENHANCE_YOUR_CALM);
});

attack('A17 pinned by shut windows: no bytes of metadata pile up', async ({ server, before }) => {
  const client = await server.connect({ settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] });
  const extra: Field[] = Array.from({ length: 80 }, (_, i) => [`x-${i}`, 'v'.repeat(100)] as const);
  for (let id = 1; id < 401; id += 2) client.send(call(id, UNARY, 'x', extra));
  await client.expectAlive();
  const { usedBytes } = await server.look();
  // 200 streams x 80 fields of about 140 bytes by the RFC's count is 2.2 MB.
  assert.ok(usedBytes - before.usedBytes < 12 * MIB, `${usedBytes - before.usedBytes} bytes`);
  client.destroy();
});

attack(
  'A20 lengths that lie: 4 MiB announced, six bytes sent, on 200 streams',
  async ({ server, before }) => {
    const client = await server.connect();
    for (let id = 1; id < 401; id += 2) {
      client.send(
        callHeaders(id, UNARY),
        data(id, Buffer.concat([Buffer.from([0]), uint32(4 << 20), Buffer.from('x')])),
      );
    }
    await client.expectAlive();
    const { usedBytes } = await server.look();
    assert.ok(usedBytes - before.usedBytes < 8 * MIB, `${usedBytes - before.usedBytes} bytes`);
    client.destroy();
  },
);

attack(
  'A20 request bytes that wait on one connection have a bound of their own',
  async ({ server, before }) => {
    const client = await server.connect();
    const chunk = data(1, Buffer.alloc(16_384));
    let sent = 0;
    for (let id = 1; id < 201 && client.goaway() === undefined && !client.closed; id += 2) {
      client.send(callHeaders(id, UNARY), data(id, Buffer.concat([Buffer.from([0]), uint32(4_000_000)])));
      chunk.writeUInt32BE(id, 5);
      for (let i = 0; i < 3 && client.connectionCredit > 16_384; i++) {
        client.send(Buffer.from(chunk));
        sent += 16_384;
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    // All of it has been read.
    await client.expectAlive();
    const { usedBytes, stats } = await server.look();
    assert.ok(stats.bufferedRequestBytes <= MIB, `${stats.bufferedRequestBytes} bytes are accounted for`);
    assert.ok(stats.bufferedRequestBytes > MIB / 2, 'the bound was reached');
    assert.ok(
      usedBytes - before.usedBytes < 4 * MIB,
      `${usedBytes - before.usedBytes} bytes for ${sent} sent`,
    );
    client.destroy();
  },
  { limits: { maxBufferedRequestBytes: 1 << 20 } },
);

attack('A20 a plain body sent byte by byte', async ({ server, before }) => {
  const client = await server.connect();
  client.send(post(1));
  const portion = Buffer.concat(Array.from({ length: 500 }, () => data(1, 'x')));
  let most = 0;
  for (let sent = 0; sent < 300_000 && !client.ended; sent += 500) {
    await eventually(() => client.connectionCredit > 500 && granted() - sent > 500, 'credit');
    client.send(portion);
    if (sent % 100_000 === 0) most = Math.max(most, (await server.look()).usedBytes);
  }
  await client.flushed();
  most = Math.max(most, (await server.look()).usedBytes);
  assert.ok(most - before.usedBytes < 8 * MIB, `${most - before.usedBytes} bytes for a body of 300,000`);
  client.destroy();
  function granted(): number {
    return 65_535 + (client.grantedOn.get(1) ?? 0);
  }
});

attack('A20 empty messages for streams that are not read', async ({ server, before }) => {
  const client = await server.connect();
  const portion = Buffer.alloc(16_380); // 3,276 messages of no bytes
  for (let id = 1; id < 401 && !client.ended; id += 2) {
    client.send(callHeaders(id, '/test.Unread/Bidi'));
    for (let i = 0; i < 4; i++) {
      await eventually(() => client.connectionCredit > portion.length || client.ended, 'credit');
      client.send(data(id, portion));
    }
  }
  await client.flushed();
  const { usedBytes } = await server.look();
  // 200 streams may hold a window of 64 KiB each: 13 MB, and not ten times that.
  assert.ok(
    usedBytes - before.usedBytes < 48 * MIB,
    `${usedBytes - before.usedBytes} bytes for 13 MB received`,
  );
  client.destroy();
});

attack('A21 a gzip bomb of 64 MB', async ({ server, before }) => {
  const bomb = gzipSync(Buffer.alloc(64 * MIB), { level: 9 });
  const client = await server.connect();
  client.send(callHeaders(1, UNARY, [['grpc-encoding', 'gzip']]));
  const body = message(bomb, 1);
  for (let at = 0; at < body.length && !client.on(1).some((f) => f.endStream); at += 16_384) {
    const part = body.subarray(at, at + 16_384);
    const granted = (): number => 65_535 + (client.grantedOn.get(1) ?? 0) - at;
    await eventually(() => Math.min(client.connectionCredit, granted()) >= part.length, 'credit');
    client.send(data(1, part, at + 16_384 >= body.length ? Flag.END_STREAM : 0));
  }
  assert.equal((await readAnswer(client, 1)).status, 8);
  const { rssBytes } = await server.look();
  assert.ok(rssBytes - before.rssBytes < 32 * MIB, `${rssBytes - before.rssBytes} bytes of RSS`);
  await client.close();
});

attack('A22 paths without a slash or with two reach no handler', async ({ server, before }) => {
  for (const path of [
    'test.Slow/Unary',
    '//test.Slow/Unary',
    '/test.Slow//Unary',
    '/./test.Slow/Unary',
    '/test.Slow/Unary/',
  ]) {
    const client = await server.connect();
    client.send(request(1, grpcFields(path), false), data(1, message('x'), Flag.END_STREAM));
    const found = await client.next(
      (f) => f.streamId === 1 && (f.fields !== undefined || f.type === 3),
      path,
    );
    if (found.fields) assert.equal(value(found.fields, 'grpc-status'), '12', path);
    else assert.ok(!path.startsWith('/'), path);
    client.destroy();
  }
  assert.equal((await server.look()).starts, before.starts);
});

attack(
  'A23 sockets reset at every point of a call: nothing is thrown, nothing is left',
  async ({ server }) => {
    const whole = Buffer.concat([
      get(1),
      call(3, UNARY, 'x'),
      call(5, ENDLESS),
      call(7, '/test.Slow/Unary', 'x'),
    ]);
    const at = Array.from({ length: 150 }, (_, i) => Math.floor((i * whole.length) / 149));
    for (let i = 0; i < at.length; i += 15) {
      await Promise.all(
        at.slice(i, i + 15).map(async (cut) => {
          const client = await RawClient.connect(server.port);
          client.sendRaw(whole.subarray(0, cut));
          await client.flushed();
          if (cut % 2 === 0) client.socket.resetAndDestroy();
          else client.destroy();
        }),
      );
    }
  },
);
