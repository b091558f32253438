import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GrpcError, type ServerCall, Status } from '../../src/index.ts';
import { Code, data, Flag, message, rstStream, Type } from '../support/frames.ts';
import type { Field } from '../support/hpack.ts';
import { deadline, type RawClient } from '../support/raw-client.ts';
import { call, callHeaders, grpcFields, request } from '../support/requests.ts';
import { Suite, useClient, useServer } from '../support/suite.ts';
import {
  bytesMethod,
  type GrpcAnswer,
  readAnswer,
  registerEcho,
  UNARY,
  value,
} from '../support/test-server.ts';

const LOOK = '/test.Look/Unary';

/** The latest call that reached the LOOK handler. */
let seen: ServerCall | undefined;
let calls = 0;

const busy = new GrpcError(Status.RESOURCE_EXHAUSTED, 'busy', [
  { typeUrl: 'type.googleapis.com/test.Detail', value: Buffer.from('later') },
]);
let isBusy = false;
const refuse = (path: string) => (isBusy && path === LOOK ? busy : undefined);

const suite = new Suite({ compression: true, refuse }, (server) => {
  registerEcho(server);
  server.unary(bytesMethod(LOOK, 'unary'), (body, one) => {
    seen = one;
    calls++;
    return body;
  });
});

/** One LOOK call with these fields: what the handler saw, and the answer. */
async function look(extra: readonly Field[]): Promise<{ call: ServerCall; answer: GrpcAnswer }> {
  seen = undefined;
  let answer: GrpcAnswer | undefined;
  await suite.use(async (client) => {
    client.send(call(1, LOOK, 'x', extra));
    answer = await readAnswer(client, 1);
  });
  assert.ok(seen && answer);
  return { call: seen, answer };
}

function replaced(name: string, fieldValue: string | undefined): Field[] {
  const fields = grpcFields(UNARY);
  const others = fields.filter(([other]) => other !== name);
  if (fieldValue === undefined) return others;
  return fields.map(([other, v]) => [other, other === name ? fieldValue : v] as const);
}

/** Sends a request and takes its first header block. */
async function firstBlock(client: RawClient, fields: readonly Field[]): Promise<readonly Field[]> {
  client.send(request(1, fields, false), data(1, message('x'), Flag.END_STREAM));
  return (await client.expectHeaders(1)).fields;
}

test('H1 a gRPC request with broken pseudo fields is reset and never handled', async () => {
  for (const name of [':method', ':scheme', ':path']) {
    await suite.use(async (client) => {
      client.send(request(1, replaced(name, undefined), false));
      await client.expectStreamError(1, Code.PROTOCOL_ERROR);
    });
  }
});

// Without a plain route what is not gRPC gets the gRPC answers.
for (const method of ['GET', 'PUT', 'post']) {
  test(`H2 ${method} is answered 405 or a gRPC error`, async () => {
    await useServer({ fallback: undefined }, async (server) => {
      await useClient(server, async (client) => {
        const fields = await firstBlock(client, replaced(':method', method));
        const status = value(fields, 'grpc-status');
        assert.equal(value(fields, ':status'), '405');
        assert.ok(status === undefined || ['2', '12', '13'].includes(status), `grpc-status ${status}`);
        await client.expectAlive();
      });
    });
  });
}

test('H3 H4 content types that are not ours are answered 415', async () => {
  await useServer({ fallback: undefined }, async (server) => {
    const wrong = [
      'text/plain',
      'application/grpc-web',
      'application/grpc-web+proto',
      'application/grpcx',
      undefined,
    ];
    for (const contentType of [...wrong, 'application/grpc+no-such-codec', 'application/json', '']) {
      await useClient(server, async (client) => {
        const fields = await firstBlock(client, replaced('content-type', contentType));
        assert.equal(value(fields, ':status'), '415', `for ${contentType}`);
        assert.equal(client.on(1).filter((f) => f.type === Type.DATA && f.payload.length > 0).length, 0);
        await client.expectAlive();
      });
    }
  });
});

test('H3 R1 application/grpc with a sub-type or parameters is served and echoed', async () => {
  for (const contentType of [
    'application/grpc',
    'application/grpc+proto',
    'application/grpc;charset=utf-8',
  ]) {
    await suite.use(async (client) => {
      client.send(
        request(1, replaced('content-type', contentType), false),
        data(1, message('x'), Flag.END_STREAM),
      );
      const answer = await readAnswer(client, 1);
      assert.equal(answer.status, 0);
      assert.equal(value(answer.headers, ':status'), '200');
      const echoed = value(answer.headers, 'content-type') ?? '';
      assert.equal(echoed.split(';')[0], contentType.split(';')[0]);
    });
  }
});

test('H5 te: trailers may be missing; another value is malformed', async () => {
  await suite.use(async (client) => {
    client.send(request(1, replaced('te', undefined), false), data(1, message('x'), Flag.END_STREAM));
    assert.equal((await readAnswer(client, 1)).status, 0);
    client.send(request(3, replaced('te', 'x'), false));
    await client.expectStreamError(3, Code.PROTOCOL_ERROR);
  });
});

test('H7 Host stands in for a missing :authority', async () => {
  let answer: GrpcAnswer | undefined;
  await suite.use(async (client) => {
    const fields = grpcFields(LOOK).filter(([name]) => name !== ':authority');
    client.send(
      request(1, [...fields, ['host', 'host.example']], false),
      data(1, message('x'), Flag.END_STREAM),
    );
    answer = await readAnswer(client, 1);
  });
  assert.equal(answer?.status, 0);
  assert.equal(seen?.authority, 'host.example');
});

test('H8 H9 paths that name no method are UNIMPLEMENTED, in Trailers-Only', async () => {
  const before = calls;
  const paths = [
    'test.Look/Unary',
    '//test.Look/Unary',
    '/test.Look//Unary',
    '/test.Look/Unary/',
    '/test.look/unary',
    '/test.Look/Unary?x=1',
    '/test.Look%2FUnary',
    '/test.Look/',
    '/test.Look',
    '/',
    '*',
    '/no.Such/Unary',
    '/test.Look/NoSuch',
    '/toString/constructor',
    '/__proto__/x',
  ];
  for (const path of paths) {
    await suite.use(async (client) => {
      client.send(call(1, path, 'x'));
      const found = await client.next(
        (f) => f.streamId === 1 && (f.fields !== undefined || f.type === Type.RST_STREAM),
        path,
      );
      if (found.type === Type.RST_STREAM) {
        // A path without its slash is malformed HTTP/2 (RFC 9113 section 8.3.1), except '*'.
        assert.ok(!path.startsWith('/'), `${path} was reset`);
        assert.equal(found.payload.readUInt32BE(), Code.PROTOCOL_ERROR);
      } else {
        assert.equal(value(found.fields ?? [], 'grpc-status'), '12', path);
        assert.equal(value(found.fields ?? [], ':status'), '200', path);
        assert.equal(found.endStream, true, 'Trailers-Only');
      }
      await client.expectAlive();
    });
  }
  assert.equal(calls, before, 'no such path reached the handler');
});

test('H10 H11 what the handler sees as metadata', async () => {
  const { call: one } = await look([
    ['user-agent', 'test/1'],
    ['x-a_b.c-9', 'one'],
    ['x-many', '1'],
    ['x-many', '2'],
    ['x-obs', 'caf\xc3\xa9'],
    ['grpc-accept-encoding', 'identity'],
    ['grpc-tags-bin', 'AAAA'],
    ['x-empty', ''],
  ]);
  assert.equal(one.metadata.get('x-a_b.c-9'), 'one');
  assert.deepEqual([...one.metadata.getAll('x-many')], ['1', '2']);
  assert.equal(one.metadata.get('x-empty'), '');
  assert.equal(one.path, LOOK);
  assert.match(one.peer, /^127\.0\.0\.1:\d+$/);
  assert.equal(one.authority, '127.0.0.1');
  for (const reserved of ['content-type', 'te', 'grpc-accept-encoding', ':path', ':method', ':authority']) {
    assert.equal(one.metadata.get(reserved), undefined, `${reserved} is not metadata`);
  }
});

test('H12 binary metadata: padded, unpadded, several in one field, empty', async () => {
  const bytes = Buffer.from([0xfb, 0xff, 0x00, 0x01]);
  const padded = bytes.toString('base64');
  const bare = padded.replaceAll('=', '');
  for (const encoded of [padded, bare]) {
    const { call: one } = await look([['x-key-bin', encoded]]);
    assert.deepEqual(Buffer.from(one.metadata.getBinary('x-key-bin') ?? []), bytes, encoded);
  }
  const { call: empty } = await look([['x-key-bin', '']]);
  assert.equal(empty.metadata.getBinary('x-key-bin')?.length, 0);
  const { call: joined } = await look([
    ['x-key-bin', `${bare},${padded}`],
    ['x-other-bin', 'AAAA'],
  ]);
  assert.deepEqual(Buffer.from(joined.metadata.getBinary('x-key-bin') ?? []), bytes);
});

test('H12 bad base64 is refused or dropped, never decoded to garbage', async () => {
  await suite.use(async (client) => {
    client.send(call(1, LOOK, 'x', [['x-key-bin', '!!!*']]), call(3, UNARY, 'x'));
    const { fields } = await client.expectHeaders(1);
    const refused = value(fields, ':status') === '400' || value(fields, 'grpc-status') === '13';
    if (!refused) assert.equal(seen?.metadata.getBinary('x-key-bin'), undefined);
    assert.equal((await readAnswer(client, 3)).status, 0);
  });
});

test('H13 the header list limit counts 32 bytes for each field, and has a boundary', async () => {
  await useServer({ limits: { maxHeaderListBytes: 8_192 } }, async (server) => {
    const size = (fields: readonly Field[]): number =>
      fields.reduce((sum, [n, v]) => sum + n.length + v.length + 32, 0);
    const room = 8_192 - size(grpcFields(UNARY)) - 'x-fill'.length - 32;
    await useClient(server, async (client) => {
      client.send(call(1, UNARY, 'x', [['x-fill', 'f'.repeat(room)]]));
      assert.equal((await readAnswer(client, 1)).status, 0, 'exactly the limit');
      client.send(call(3, UNARY, 'x', [['x-fill', 'f'.repeat(room + 1)]]));
      const { fields } = await client.expectHeaders(3);
      assert.ok(
        value(fields, ':status') === '431' || value(fields, 'grpc-status') === '8',
        JSON.stringify(fields),
      );
      client.send(call(5, UNARY, 'x'));
      assert.equal((await readAnswer(client, 5)).status, 0);
    });
  });
});

test('H14 the number of fields has a limit of its own, with a boundary', async () => {
  await useServer({ limits: { maxHeaderFields: 20 } }, async (server) => {
    const extra = (n: number): Field[] => Array.from({ length: n - 6 }, (_, i) => [`x-${i}`, ''] as const);
    assert.equal(grpcFields(UNARY, extra(20)).length, 20);
    await useClient(server, async (client) => {
      client.send(call(1, UNARY, 'x', extra(20)));
      assert.equal((await readAnswer(client, 1)).status, 0, 'exactly the limit');
      client.send(call(3, UNARY, 'x', extra(21)));
      const { fields } = await client.expectHeaders(3);
      assert.ok(
        value(fields, ':status') === '431' || value(fields, 'grpc-status') === '8',
        JSON.stringify(fields),
      );
      client.send(call(5, UNARY, 'x'));
      assert.equal((await readAnswer(client, 5)).status, 0);
    });
  });
});

test('T1 grpc-timeout that does not parse is refused', async () => {
  const before = calls;
  for (const bad of [
    '',
    '1',
    'S',
    '1s',
    '1 S',
    ' 1S',
    '+1S',
    '-1S',
    '123456789S',
    '1.5S',
    '1SS',
    '0x1S',
    '1h',
  ]) {
    await suite.use(async (client) => {
      client.send(call(1, LOOK, 'x', [['grpc-timeout', bad]]));
      const found = await client.next(
        (f) => f.streamId === 1 && (f.fields !== undefined || f.type === Type.RST_STREAM),
        `an answer to grpc-timeout "${bad}"`,
      );
      if (bad === ' 1S') return; // a leading space is malformed HTTP/2 already
      assert.equal(value(found.fields ?? [], 'grpc-status'), '13', `"${bad}"`);
      await client.expectAlive();
    });
  }
  assert.equal(calls, before);
});

test('T1 T2 every unit, the largest number, none at all', async () => {
  for (const good of [
    '1H',
    '99999999H',
    '5M',
    '99999999M',
    '10S',
    '60000m',
    '60000000u',
    '99999999n',
    '00000010S',
  ]) {
    const { call: one, answer } = await look([['grpc-timeout', good]]);
    if (good === '99999999n') assert.ok(answer.status === 0 || answer.status === 4);
    else assert.equal(answer.status, 0, good);
    assert.ok(one.deadlineMs !== undefined && one.deadlineMs > 0 && Number.isFinite(one.deadlineMs), good);
  }
  const { call: free } = await look([]);
  assert.equal(free.deadlineMs, undefined);
});

test('T1 a timeout of zero is DEADLINE_EXCEEDED at once', async () => {
  await suite.use(async (client) => {
    client.send(call(1, LOOK, 'x', [['grpc-timeout', '0S']]));
    assert.equal((await readAnswer(client, 1)).status, 4);
  });
});

test('T3 at its deadline a call is cancelled and answered', async () => {
  let aborted: (() => void) | undefined;
  const abort = new Promise<void>((resolve) => {
    aborted = resolve;
  });
  const cancels: string[] = [];
  await useServer(
    {},
    async (server) => {
      await useClient(server, async (client) => {
        client.send(call(1, '/test.Slow/Unary', 'x', [['grpc-timeout', '100m']]));
        assert.equal((await readAnswer(client, 1)).status, 4);
        await deadline(abort, 'the AbortSignal of the handler');
        assert.deepEqual(cancels, ['cancelled']);
        client.send(callHeaders(3, '/test.Slow/Stream', [['grpc-timeout', '100m']]), data(3, message('x')));
        await client.expectData(3);
        assert.equal((await readAnswer(client, 3)).status, 4);
        await client.expectAlive();
      });
    },
    (server) => {
      server.unary(bytesMethod('/test.Slow/Unary', 'unary'), async (_request, one) => {
        one.onCancel(() => cancels.push('cancelled'));
        await new Promise<void>((resolve) => one.signal.addEventListener('abort', () => resolve()));
        aborted?.();
        return Buffer.from('too late');
      });
      server.bidi(bytesMethod('/test.Slow/Stream', 'bidi'), (stream) => {
        stream.onMessage((received) => stream.send(received));
      });
    },
  );
});

test('T4 ten thousand deadlines are not ten thousand timers', async () => {
  await useServer({ limits: { maxConcurrentStreams: 10_000 } }, async (server) => {
    await useClient(server, async (client) => {
      const timers = (): number =>
        process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
      const before = timers();
      for (let i = 0; i < 1_000; i++) client.send(callHeaders(i * 2 + 1, UNARY, [['grpc-timeout', '100S']]));
      await client.expectAlive();
      assert.equal(server.server.stats().streams, 1_000);
      assert.ok(timers() - before < 10, `${timers() - before} more timers`);
    });
  });
});

test('a refused call of which the rest never comes, or late, is reset once answered, and the rest is ignored', async () => {
  isBusy = true;
  try {
    await suite.use(async (client) => {
      // Two in one write, neither of them whole: only their heads count.
      client.send(callHeaders(1, LOOK), callHeaders(3, LOOK), data(3, message('x').subarray(0, 2)));
      for (const id of [1, 3]) {
        assert.equal((await readAnswer(client, id)).status, Status.RESOURCE_EXHAUSTED);
        await client.expectRst(id, Code.NO_ERROR);
      }
      client.send(data(3, message('x').subarray(2), Flag.END_STREAM), data(1, message('x'), Flag.END_STREAM));
      await client.expectAlive();
      // Taken back before the answer is read: it is not reset again.
      client.send(callHeaders(7, LOOK), rstStream(7, Code.CANCEL));
      assert.equal((await readAnswer(client, 7)).status, Status.RESOURCE_EXHAUSTED);
      await client.expectAlive();
      assert.equal(client.on(7).filter((it) => it.type === Type.RST_STREAM).length, 0);
      // A whole one is not reset; nothing may follow it.
      client.send(call(9, LOOK, 'x'));
      assert.equal((await readAnswer(client, 9)).status, Status.RESOURCE_EXHAUSTED);
      await client.expectAlive();
      assert.equal(client.on(9).filter((it) => it.type === Type.RST_STREAM).length, 0);
      assert.equal(suite.server.server.stats().streams, 0);
      client.send(data(9, message('x'), Flag.END_STREAM));
      await client.expectGoaway(Code.STREAM_CLOSED);
    });
  } finally {
    isBusy = false;
  }
});

test('a call that is refused by its path is answered with the error and reaches no handler, others do', async () => {
  const before = calls;
  isBusy = true;
  try {
    await suite.use(async (client) => {
      for (const id of [1, 3]) {
        client.send(call(id, LOOK, 'x'));
        const answer = await readAnswer(client, id);
        assert.equal(value(answer.trailers, 'grpc-status'), String(Status.RESOURCE_EXHAUSTED));
        assert.equal(value(answer.trailers, 'grpc-message'), 'busy');
        const details = Buffer.from(value(answer.trailers, 'grpc-status-details-bin') ?? '', 'base64');
        assert.ok(details.includes('later'));
      }
      client.send(call(5, UNARY, 'x'));
      assert.equal(value((await readAnswer(client, 5)).trailers, 'grpc-status'), '0');
    });
  } finally {
    isBusy = false;
  }
  assert.equal(calls, before);
  const { answer } = await look([]);
  assert.equal(value(answer.trailers, 'grpc-status'), '0');
});
