/** What is done for callers before it is known who they are, and what one connection may keep from others. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { GrpcError, type GrpcServer, healthService, type MethodDefinition, Status } from '../../src/index.ts';
import { Code, data, Flag, message, rstStream, uint32 } from '../support/frames.ts';
import { eventually } from '../support/raw-client.ts';
import { call, callHeaders } from '../support/requests.ts';
import { useClient, useServer } from '../support/suite.ts';
import { BIDI, bytesMethod, CLIENT_STREAM, readAnswer, registerEcho, UNARY } from '../support/test-server.ts';

const WATCH = '/grpc.health.v1.Health/Watch';
const CHECK = '/grpc.health.v1.Health/Check';

/** Echo methods whose callers must have the metadata `token: good`; a `slow` one is settled by the test. */
function guardedEcho() {
  const seen = { decoded: 0, admitted: 0, settle: [] as ((error?: Error) => void)[] };
  const guard = (definition: MethodDefinition<Buffer, Buffer>): MethodDefinition<Buffer, Buffer> => ({
    ...definition,
    decode(bytes) {
      seen.decoded++;
      return definition.decode(bytes);
    },
    admit(asked) {
      const token = asked.metadata.get('token');
      asked.context = token;
      if (token === 'slow') {
        return new Promise<void>((resolve, reject) => {
          seen.settle.push((error) => (error ? reject(error) : resolve()));
        });
      }
      if (token !== 'good') throw new GrpcError(Status.UNAUTHENTICATED, 'who are you?');
      seen.admitted++;
      return undefined;
    },
  });
  const register = (server: GrpcServer): void => {
    server.unary(guard(bytesMethod(UNARY, 'unary')), (request, asked) =>
      Buffer.concat([request, Buffer.from(` for ${asked.context}`)]),
    );
    server.bidi(guard(bytesMethod(BIDI, 'bidi')), (stream) => {
      stream.onMessage((received) => stream.send(received));
      stream.onHalfClose(() => stream.end());
    });
  };
  return { seen, register };
}

function prefix(bytes: number): Buffer {
  return Buffer.concat([Buffer.from([0]), uint32(bytes)]);
}

test('a caller that is not admitted is answered by its head, and nothing that it sends is decoded', async () => {
  const { seen, register } = guardedEcho();
  await useServer(
    {},
    async (server) => {
      await useClient(server, async (client) => {
        for (const [id, path] of [
          [1, UNARY],
          [3, BIDI],
        ] as const) {
          // The head alone is enough.
          client.send(callHeaders(id, path));
          assert.equal((await readAnswer(client, id)).status, Status.UNAUTHENTICATED);
        }
        client.send(
          call(5, UNARY, 'at once'),
          call(7, UNARY, gzipSync(Buffer.alloc(60_000)), [['grpc-encoding', 'gzip']]),
        );
        assert.equal((await readAnswer(client, 5)).status, Status.UNAUTHENTICATED);
        assert.equal((await readAnswer(client, 7)).status, Status.UNAUTHENTICATED);
        assert.equal(seen.decoded, 0);
        client.send(call(9, UNARY, 'hello', [['token', 'good']]));
        assert.equal((await readAnswer(client, 9)).messages[0]?.bytes.toString(), 'hello for good');
      });
      assert.equal(server.server.stats().bufferedRequestBytes, 0);
    },
    register,
  );
});

test('while it is found out who calls, a stream window at most is kept, undecoded', async () => {
  const { seen, register } = guardedEcho();
  await useServer(
    {},
    async (server) => {
      await useClient(server, async (client) => {
        const slow = [['token', 'slow']] as const;
        const body = Buffer.alloc(60_000, 'x');
        client.send(callHeaders(1, UNARY, slow));
        for (let at = 0; at < body.length; at += 15_000) {
          const part = body.subarray(at, at + 15_000);
          client.send(data(1, at === 0 ? Buffer.concat([prefix(body.length), part]) : part));
        }
        client.send(data(1, '', Flag.END_STREAM), callHeaders(3, BIDI, slow), data(3, message('early')));
        client.send(callHeaders(5, UNARY, slow), data(5, message('mine'), Flag.END_STREAM));
        await eventually(() => seen.settle.length === 3, 'three calls to be looked at');
        await client.expectAlive();
        const held = server.server.stats().bufferedRequestBytes;
        assert.ok(held >= 60_000 && held <= 140_000, `${held} bytes held`);
        assert.equal(seen.decoded, 0);
        assert.equal(client.on(1).length, 0, 'no window is given for what nobody may read yet');
        seen.settle[2]?.(new GrpcError(Status.UNAUTHENTICATED, 'not you'));
        assert.equal((await readAnswer(client, 5)).status, Status.UNAUTHENTICATED);
        seen.settle[0]?.();
        assert.equal(
          (await readAnswer(client, 1)).messages[0]?.bytes.length,
          body.length + ' for slow'.length,
        );
        seen.settle[1]?.();
        await client.expectData(3);
        client.send(data(3, message('late'), Flag.END_STREAM));
        assert.deepEqual(
          (await readAnswer(client, 3)).messages.map(({ bytes }) => bytes.toString()),
          ['early', 'late'],
        );
      });
      assert.equal(server.server.stats().bufferedRequestBytes, 0);
    },
    register,
  );
});

test('a call that is reset while its caller is looked at keeps its place and runs no handler', async () => {
  const { seen, register } = guardedEcho();
  await useServer(
    {},
    async (server) => {
      await useClient(server, async (client) => {
        client.send(call(1, UNARY, 'x', [['token', 'slow']]), rstStream(1, Code.CANCEL));
        await client.expectAlive();
        assert.equal(server.server.stats().streams, 1);
        seen.settle[0]?.();
        await eventually(() => server.server.stats().streams === 0, 'the place to come back');
        assert.equal(seen.decoded, 0);
      });
      assert.equal(server.server.stats().bufferedRequestBytes, 0);
    },
    register,
  );
});

test('a method takes no larger message than it needs, and of a stream a smaller first one', async () => {
  const register = (server: GrpcServer): void => {
    server.unary({ ...bytesMethod(UNARY, 'unary'), maxRequestBytes: 100 }, (request) => request);
    const bidi = { ...bytesMethod(BIDI, 'bidi'), maxRequestBytes: 100, maxFirstRequestBytes: 10 };
    server.bidi(bidi, (stream) => stream.onMessage((received) => stream.send(received)));
  };
  await useServer(
    {},
    async (server) => {
      await useClient(server, async (client) => {
        client.send(call(1, UNARY, 'x'.repeat(100)), call(3, UNARY, 'x'.repeat(101)));
        assert.equal((await readAnswer(client, 1)).status, Status.OK);
        assert.equal((await readAnswer(client, 3)).status, Status.RESOURCE_EXHAUSTED);
        client.send(callHeaders(5, UNARY), data(5, prefix(101)));
        assert.equal((await readAnswer(client, 5)).status, Status.RESOURCE_EXHAUSTED, 'by the prefix alone');
        const inflated = gzipSync(Buffer.alloc(101));
        const compressed = Buffer.concat([Buffer.from([1]), uint32(inflated.length), inflated]);
        client.send(callHeaders(7, UNARY, [['grpc-encoding', 'gzip']]), data(7, compressed, Flag.END_STREAM));
        assert.equal((await readAnswer(client, 7)).status, Status.RESOURCE_EXHAUSTED);
        client.send(
          callHeaders(9, BIDI),
          data(9, Buffer.concat([message('x'.repeat(10)), message('y'.repeat(100))])),
        );
        await client.expectData(9);
        client.send(callHeaders(11, BIDI), data(11, message('x'.repeat(11))));
        assert.equal((await readAnswer(client, 11)).status, Status.RESOURCE_EXHAUSTED);
      });
    },
    register,
  );
});

test('a message may inflate by maxInflateRatio, or to 64 KiB', async () => {
  await useServer({ limits: { maxInflateRatio: 10 } }, async (server) => {
    await useClient(
      server,
      async (client) => {
        const ask = async (id: number, bytes: number): Promise<number> => {
          const deflated = gzipSync(Buffer.alloc(bytes));
          const compressed = Buffer.concat([Buffer.from([1]), uint32(deflated.length), deflated]);
          client.send(
            callHeaders(id, CLIENT_STREAM, [['grpc-encoding', 'gzip']]),
            data(id, compressed, Flag.END_STREAM),
          );
          return (await readAnswer(client, id)).status;
        };
        assert.equal(await ask(1, 65_000), Status.OK);
        assert.equal(await ask(3, 100_000), Status.RESOURCE_EXHAUSTED);
      },
      { returnCredit: true },
    );
  });
});

test('messages that wait for a paused handler are decoded when it takes them', async () => {
  let decoded = 0;
  let resume: () => void = () => {};
  const register = (server: GrpcServer): void => {
    const counted = {
      ...bytesMethod(BIDI, 'bidi'),
      decode(bytes: Uint8Array) {
        decoded++;
        if (bytes.length === 3) throw new GrpcError(Status.INVALID_ARGUMENT, 'bad');
        return Buffer.from(bytes);
      },
    };
    server.bidi(counted, (stream) => {
      stream.pause();
      stream.onMessage((received) => stream.send(received));
      resume = () => stream.resume();
    });
  };
  await useServer(
    {},
    async (server) => {
      await useClient(server, async (client) => {
        client.send(
          callHeaders(1, BIDI),
          data(1, Buffer.concat([message('one.'), message('bad'), message('three')])),
        );
        await client.expectAlive();
        assert.equal(decoded, 0);
        resume();
        const answer = await readAnswer(client, 1);
        assert.deepEqual(
          answer.messages.map(({ bytes }) => bytes.toString()),
          ['one.'],
        );
        assert.equal(answer.status, Status.INVALID_ARGUMENT);
        assert.equal(decoded, 2, 'nothing is decoded after the end');
      });
      assert.equal(server.server.stats().bufferedRequestBytes, 0);
    },
    register,
  );
});

test('a request that does not come to its end in time ends, and what it held is given back', async () => {
  let nowMs = 1_000;
  await useServer({ now: () => nowMs, limits: { messageTimeoutMs: 1_000 } }, async (server) => {
    await useClient(server, async (client) => {
      client.send(
        callHeaders(1, UNARY),
        callHeaders(3, UNARY),
        data(3, Buffer.concat([prefix(50_000), Buffer.alloc(9_000)])),
      );
      client.send(callHeaders(5, BIDI), data(5, prefix(10)));
      // A stream between two messages owes nothing.
      client.send(callHeaders(7, BIDI), data(7, message('whole')));
      await client.expectData(7);
      assert.ok(server.server.stats().bufferedRequestBytes >= 9_000);
      nowMs += 990;
      client.send(callHeaders(9, BIDI), data(9, prefix(10)));
      await client.expectAlive();
      assert.equal(server.server.stats().streams, 5);
      nowMs += 30;
      server.server.wheel.advance();
      for (const id of [1, 3, 5])
        assert.equal((await readAnswer(client, id)).status, Status.DEADLINE_EXCEEDED);
      await client.expectAlive();
      assert.equal(server.server.stats().streams, 2);
      nowMs += 1_000;
      server.server.wheel.advance();
      assert.equal((await readAnswer(client, 9)).status, Status.DEADLINE_EXCEEDED);
      assert.equal(server.server.stats().bufferedRequestBytes, 0);
      client.send(data(7, message('more'), Flag.END_STREAM));
      assert.equal((await readAnswer(client, 7)).messages.length, 2);
    });
  });
});

test('when the bytes held for all are used up, the connection that holds most loses its unfinished requests', async () => {
  const limits = { maxBufferedRequestBytesPerServer: 300_000, maxBufferedRequestBytes: 200_000 };
  await useServer(
    { limits },
    async (server) => {
      const greedy = await server.connect();
      for (const id of [1, 3, 5]) {
        greedy.send(callHeaders(id, UNARY), data(id, Buffer.concat([prefix(60_000), Buffer.alloc(15_000)])));
        for (let i = 0; i < 2; i++) greedy.send(data(id, Buffer.alloc(15_000)));
      }
      await greedy.expectAlive();
      const held = server.server.stats().bufferedRequestBytes;
      assert.ok(held > 130_000, `${held} bytes held`);
      const modest = await Promise.all([1, 2, 3, 4].map(() => server.connect()));
      for (const client of modest) {
        client.send(callHeaders(1, UNARY), data(1, Buffer.concat([prefix(60_000), Buffer.alloc(16_000)])));
        for (let i = 0; i < 2; i++) client.send(data(1, Buffer.alloc(16_000)));
        await client.expectAlive();
      }
      for (const client of modest) {
        client.send(data(1, Buffer.alloc(12_000), Flag.END_STREAM));
        assert.equal((await readAnswer(client, 1)).status, Status.OK);
      }
      for (const id of [1, 3, 5])
        assert.equal((await readAnswer(greedy, id)).status, Status.RESOURCE_EXHAUSTED);
      // What holds nothing is left alone.
      greedy.send(call(7, UNARY, 'small'));
      assert.equal((await readAnswer(greedy, 7)).status, Status.OK);
      for (const client of [greedy, ...modest]) client.destroy();
    },
    registerEcho,
  );
});

test('health takes short names, keeps none that it does not know, and few watches', async () => {
  const setUp = (server: GrpcServer): void => {
    health = healthService(server);
  };
  let health: ReturnType<typeof healthService> | undefined;
  await useServer(
    {},
    async (server) => {
      await useClient(server, async (client) => {
        const asked = (name: string) => Buffer.concat([Buffer.from([0x0a, name.length]), Buffer.from(name)]);
        client.send(call(1, CHECK, asked('unknown')), callHeaders(3, WATCH), data(3, prefix(4 << 20)));
        assert.equal((await readAnswer(client, 1)).status, Status.NOT_FOUND);
        assert.equal((await readAnswer(client, 3)).status, Status.RESOURCE_EXHAUSTED);
        client.send(call(5, WATCH, asked('later')));
        assert.equal((await client.expectData(5)).payload.at(-1), 3, 'SERVICE_UNKNOWN');
        health?.setStatus('later', true);
        assert.equal((await readAnswer(client, 5)).status, Status.UNAVAILABLE);
        for (let id = 7; id < 7 + 2 * 9; id += 2) client.send(call(id, WATCH, asked('later')));
        assert.equal(
          (await readAnswer(client, 7)).status,
          Status.RESOURCE_EXHAUSTED,
          'the oldest of nine ends',
        );
        health?.setStatus('later', false);
        for (let id = 9; id < 7 + 2 * 9; id += 2) {
          await client.next((frame) => frame.streamId === id && frame.payload.at(-1) === 2, 'NOT_SERVING');
        }
      });
    },
    setUp,
  );
});
