import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CloseReason, encodeMessage, type ServerDuplex, type ServerStream } from '../../src/index.ts';
import { data, Flag, message, ping, Setting, Type, uint32, windowUpdate } from '../support/frames.ts';
import { eventually, type RawClient } from '../support/raw-client.ts';
import { call, callHeaders } from '../support/requests.ts';
import { useClient, useServer } from '../support/suite.ts';
import {
  BIDI,
  bytesMethod,
  readAnswer,
  SERVER_STREAM,
  type TestServer,
  UNARY,
} from '../support/test-server.ts';

const HELD = '/test.Held/Stream';
const DUPLEX = '/test.Held/Duplex';
const heldMethod = bytesMethod(HELD, 'server-stream');

/** A server whose handlers hand their stream to the test and do nothing by themselves. */
async function useHeld(
  steps: (
    server: TestServer,
    streams: ServerStream<Buffer>[],
    duplexes: ServerDuplex<Buffer, Buffer>[],
    received: Buffer[],
  ) => Promise<void>,
  options: Parameters<typeof useServer>[0] = {},
): Promise<void> {
  const streams: ServerStream<Buffer>[] = [];
  const duplexes: ServerDuplex<Buffer, Buffer>[] = [];
  const received: Buffer[] = [];
  await useServer(
    options,
    (server) => steps(server, streams, duplexes, received),
    (server) => {
      server.unary(bytesMethod(UNARY, 'unary'), (body) => body);
      server.serverStream(heldMethod, (_body, stream) => {
        streams.push(stream);
      });
      server.bidi(bytesMethod(DUPLEX, 'bidi'), (stream) => {
        stream.onMessage((body) => received.push(body));
        duplexes.push(stream);
      });
    },
  );
}

function dataBytes(client: RawClient, streamId: number): number {
  return client.on(streamId).reduce((sum, f) => sum + (f.type === Type.DATA ? f.payload.length : 0), 0);
}

/** Sends a request body as fast as the server's windows allow; fails when they stay shut. */
async function sendBody(client: RawClient, streamId: number, body: Buffer): Promise<void> {
  const window = client.serverSettings.get(Setting.INITIAL_WINDOW_SIZE) ?? 65_535;
  for (let at = 0; at < body.length; ) {
    const room = (): number =>
      Math.min(client.connectionCredit, window + (client.grantedOn.get(streamId) ?? 0) - at, 16_384);
    await eventually(() => room() > 0, `credit after ${at} of ${body.length} bytes`);
    const part = body.subarray(at, at + room());
    at += part.length;
    client.send(data(streamId, part, at === body.length ? Flag.END_STREAM : 0));
  }
}

test('F1 a stream that reads nothing does not stop the others on its connection', async () => {
  await useHeld(async (server, _streams, duplexes) => {
    await useClient(
      server,
      async (client) => {
        client.send(callHeaders(1, DUPLEX));
        await client.expectAlive();
        duplexes[0]?.pause();
        const window = client.serverSettings.get(Setting.INITIAL_WINDOW_SIZE) ?? 65_535;
        for (let sent = 0; sent + 1_024 <= window; sent += 1_024)
          client.send(data(1, message(Buffer.alloc(1_019))));
        for (let id = 3; id < 103; id += 2) {
          client.send(callHeaders(id, UNARY));
          await sendBody(client, id, message(Buffer.alloc(30_000)));
          assert.equal((await readAnswer(client, id)).status, 0);
        }
      },
      { returnCredit: true },
    );
  });
});

test('F1 pause() holds messages back and resume() delivers them all', async () => {
  await useHeld(async (server, _streams, duplexes, received) => {
    await useClient(server, async (client) => {
      client.send(callHeaders(1, DUPLEX));
      await client.expectAlive();
      duplexes[0]?.pause();
      for (let i = 0; i < 20; i++) client.send(data(1, message(Buffer.alloc(1_000, i))));
      await client.expectAlive();
      assert.ok(received.length <= 1, `${received.length} messages while paused`);
      assert.equal(client.grantedOn.get(1) ?? 0, 0, 'no window is returned while paused');
      duplexes[0]?.resume();
      await eventually(() => received.length === 20, '20 messages');
      assert.deepEqual(
        received.map((one) => one[0]),
        Array.from({ length: 20 }, (_, i) => i),
      );
    });
  });
});

test('F2 a message larger than every window arrives', async () => {
  await useHeld(async (server) => {
    await useClient(
      server,
      async (client) => {
        const body = Buffer.alloc(3_000_000, 7);
        client.send(callHeaders(1, UNARY));
        await sendBody(client, 1, message(body));
        const answer = await readAnswer(client, 1);
        assert.equal(answer.status, 0, `${answer.message}`);
        assert.deepEqual(answer.messages[0]?.bytes, body);
      },
      { returnCredit: true },
    );
  });
});

test('F2 F4 64 large messages both ways on one connection with small windows', async () => {
  await useServer({}, async (server) => {
    await useClient(
      server,
      async (client) => {
        const body = message(Buffer.alloc(271_828, 'x'));
        const bodies = Array.from({ length: 16 }, async (_, i) => {
          client.send(callHeaders(i * 2 + 1, UNARY));
          await sendBody(client, i * 2 + 1, body);
          const answer = await readAnswer(client, i * 2 + 1);
          assert.equal(answer.messages[0]?.bytes.length, 271_828);
        });
        await Promise.all(bodies);
      },
      { returnCredit: true, settings: [[Setting.INITIAL_WINDOW_SIZE, 1_000]] },
    );
  });
});

test('F4 DATA stops at the stream window, at the connection window, and goes on with credit', async () => {
  await useHeld(async (server, streams) => {
    await useClient(server, async (client) => {
      client.sendSettings([[Setting.INITIAL_WINDOW_SIZE, 20_000]]);
      for (const id of [1, 3, 5, 7]) client.send(call(id, HELD));
      await eventually(() => streams.length === 4, 'four streams');
      for (const stream of streams) stream.send(Buffer.alloc(29_995));
      const total = (): number => [1, 3, 5, 7].reduce((sum, id) => sum + dataBytes(client, id), 0);
      await eventually(() => total() === 65_535, 'the whole connection window');
      await client.expectAlive();
      assert.equal(total(), 65_535, 'the connection window is used up exactly');
      client.send(windowUpdate(0, 1_000_000));
      await eventually(
        () => [1, 3, 5, 7].every((id) => dataBytes(client, id) === 20_000),
        'four stream windows',
      );
      for (const id of [1, 3, 5, 7]) client.send(windowUpdate(id, 100_000));
      await eventually(() => [1, 3, 5, 7].every((id) => dataBytes(client, id) === 30_000), 'all of it');
      assert.equal(server.server.stats().queuedBytes, 0);
    });
  });
});

test('F5 send() says when the queue is full, onDrain when it is not, and the hard bound ends the stream', async () => {
  await useHeld(async (server, streams) => {
    await useClient(server, async (client) => {
      client.sendSettings([[Setting.INITIAL_WINDOW_SIZE, 0]]);
      await client.expectSettingsAck();
      client.send(call(1, HELD), call(3, HELD));
      await eventually(() => streams.length === 2, 'two streams');
      const [first, second] = streams as [ServerStream<Buffer>, ServerStream<Buffer>];
      let sends = 0;
      while (first.send(Buffer.alloc(1_000))) sends++;
      assert.ok(sends >= 60 && sends <= 66, `${sends} sends of 1,000 bytes below the soft bound of 64 KiB`);
      assert.ok(first.queuedBytes > 65_000 && first.queuedBytes < 70_000, `${first.queuedBytes} queued`);
      assert.ok(server.server.stats().queuedBytes >= first.queuedBytes);
      let drained = 0;
      first.onDrain(() => drained++);
      client.send(windowUpdate(1, 20_000));
      await eventually(() => first.queuedBytes < 50_000, 'some progress');
      assert.equal(drained, 0, 'above half the soft bound');
      client.send(windowUpdate(1, 40_000));
      await eventually(() => drained === 1, 'onDrain');
      assert.ok(first.queuedBytes < 32_768);

      const reasons: CloseReason[] = [];
      second.onClose((reason) => reasons.push(reason));
      let most = 0;
      for (let i = 0; i < 100; i++) {
        second.send(Buffer.alloc(10_000));
        most = Math.max(most, second.queuedBytes);
      }
      assert.ok(most >= 200_000 && most <= 4 * 65_536, `at most ${most} bytes were queued`);
      assert.equal((await readAnswer(client, 3)).status, 8);
      assert.deepEqual(reasons, ['failed']);
      assert.equal(second.closed, true);
      assert.equal(second.send(Buffer.alloc(1)), false);
    });
  });
});

test('F5 the hard bound counts messages too', async () => {
  await useHeld(async (server, streams) => {
    await useClient(server, async (client) => {
      client.sendSettings([[Setting.INITIAL_WINDOW_SIZE, 0]]);
      await client.expectSettingsAck();
      client.send(call(1, HELD));
      await eventually(() => streams.length === 1, 'a stream');
      let accepted = 1;
      while (streams[0]?.send(Buffer.alloc(0)) && accepted < 1_000) accepted++;
      assert.ok(accepted < 1_000, 'a producer that stops when told to never meets the hard bound');
      for (; accepted < 1_000; accepted++) streams[0]?.send(Buffer.alloc(0));
      assert.equal(streams[0]?.queuedBytes, 5_000, '1,000 messages of no bytes and a prefix wait');
      streams[0]?.send(Buffer.alloc(0));
      assert.equal((await readAnswer(client, 1)).status, 8);
    });
  });
});

test('F4 F5 a client that reads nothing stops the producer, and costs bounded memory', async () => {
  await useHeld(async (server, streams) => {
    const client = await server.connect({ settings: [[Setting.INITIAL_WINDOW_SIZE, 0x7fffffff]] });
    client.send(windowUpdate(0, 0x7fffffff - 65_535));
    for (let id = 1; id < 21; id += 2) client.send(call(id, HELD));
    await eventually(() => streams.length === 10, 'ten streams');
    client.pause();
    let produced = 0;
    for (let round = 0; round < 200; round++) {
      for (const stream of streams) {
        for (let i = 0; i < 10 && stream.queuedBytes < 65_536 && !stream.closed; i++) {
          if (!stream.send(Buffer.alloc(10_000))) break;
          produced += 10_000;
        }
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    // Kernel buffers take a few MiB on loopback; the server itself may hold its marks and no more.
    assert.ok(produced < 24 << 20, `${produced} bytes were accepted for a client that reads nothing`);
    assert.ok(
      server.server.stats().queuedBytes < 10 * 262_144 + 1_048_576,
      `${server.server.stats().queuedBytes} queued`,
    );
    client.destroy();
    await eventually(() => server.server.stats().queuedBytes === 0, 'nothing queued for a dead connection');
  });
});

test('F6 streams take turns, and a PING is answered ahead of queued DATA', async () => {
  await useHeld(async (server, streams) => {
    await useClient(server, async (client) => {
      client.sendSettings([[Setting.INITIAL_WINDOW_SIZE, 1 << 20]]);
      for (const id of [1, 3]) client.send(call(id, HELD));
      await eventually(() => streams.length === 2, 'two streams');
      streams[0]?.send(Buffer.alloc(200_000));
      streams[1]?.send(Buffer.alloc(200_000));
      client.send(ping('priority'));
      await client.expectPingAck('priority');
      client.send(windowUpdate(0, 1 << 20));
      await eventually(() => dataBytes(client, 1) + dataBytes(client, 3) === 400_010, 'everything');
      const order = client.frames.filter((f) => f.type === Type.DATA).map((f) => f.streamId);
      const firstOf3 = order.indexOf(3);
      assert.ok(firstOf3 >= 0 && firstOf3 <= order.lastIndexOf(1) / 2, `stream 3 waits: ${order.join(' ')}`);
    });
  });
});

test('F7 credit comes back in large steps, not for every frame', async () => {
  await useServer({}, async (server) => {
    await useClient(server, async (client) => {
      client.send(callHeaders(1, BIDI));
      for (let i = 0; i < 500; i++) client.send(data(1, message('x')));
      client.send(data(1, '', Flag.END_STREAM));
      await readAnswer(client, 1);
      const updates = client.frames.filter((f) => f.type === Type.WINDOW_UPDATE).length;
      assert.ok(updates < 20, `${updates} WINDOW_UPDATE frames for 500 small DATA frames`);
    });
  });
});

test('fan-out: one encoded message reaches many streams unchanged, between other messages', async () => {
  await useHeld(async (server, streams) => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => server.connect()));
    for (const client of clients) for (const id of [1, 3, 5]) client.send(call(id, HELD));
    await eventually(() => streams.length === 60, '60 streams');
    const shared = encodeMessage(heldMethod, Buffer.from('one for all'));
    for (const stream of streams) {
      assert.equal(stream.send(Buffer.from('before')), true);
      assert.equal(stream.sendEncoded(shared), true);
      assert.equal(stream.send(Buffer.from('after')), true);
      stream.end();
    }
    for (const client of clients) {
      for (const id of [1, 3, 5]) {
        const answer = await readAnswer(client, id);
        assert.equal(answer.status, 0);
        assert.deepEqual(
          answer.messages.map((m) => m.bytes.toString()),
          ['before', 'one for all', 'after'],
        );
      }
      await client.close();
    }
    assert.equal(streams[0]?.sendEncoded(shared), false, 'a closed stream drops it');
  });
});

test('a length prefix that never gets its message holds no credit and no memory of its size', async () => {
  await useServer({}, async (server) => {
    await useClient(server, async (client) => {
      client.send(callHeaders(1, SERVER_STREAM), data(1, Buffer.concat([Buffer.from([0]), uint32(4 << 20)])));
      await client.expectAlive();
      assert.ok(
        (client.grantedOn.get(1) ?? 0) <= 5 << 20,
        'the window may grow for the message, not beyond it',
      );
    });
  });
});
