import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CloseReason, GrpcError, type GrpcServer, Status } from '../../src/index.ts';
import { Code, data, Flag, message, rstStream, Setting, Type } from '../support/frames.ts';
import type { RawClient } from '../support/raw-client.ts';
import { deadline, eventually } from '../support/raw-client.ts';
import { call, callHeaders } from '../support/requests.ts';
import { Suite, useClient, useServer } from '../support/suite.ts';
import {
  BIDI,
  bytesMethod,
  CLIENT_STREAM,
  HANG,
  readAnswer,
  registerEcho,
  SERVER_STREAM,
  UNARY,
  value,
} from '../support/test-server.ts';

const FAIL = '/test.Fail/Unary';
const SPECIAL = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
const closes: CloseReason[] = [];
let failure: unknown;
const cancelled: string[] = [];

function registerAll(server: GrpcServer): void {
  registerEcho(server);
  server.unary(bytesMethod(FAIL, 'unary'), () => {
    throw failure;
  });
  server.unary(bytesMethod('/test.Fail/Async', 'unary'), async () => {
    await Promise.resolve();
    throw failure;
  });
  server.serverStream(bytesMethod('/test.Fail/Stream', 'server-stream'), (body, stream) => {
    stream.send(body);
    stream.fail(failure);
  });
  server.serverStream(bytesMethod('/test.Watch/Stream', 'server-stream'), (body, stream) => {
    stream.onClose((reason) => closes.push(reason));
    stream.signal.addEventListener('abort', () => cancelled.push('signal'));
    stream.onCancel(() => cancelled.push('listener'));
    if (body.length > 0) stream.send(body);
  });
  server.unary(bytesMethod('/test.Headers/Unary', 'unary'), (body, one) => {
    one.setHeader('x-initial', 'i');
    one.setHeader('x-initial-bin', Buffer.from([0xfb, 0xff, 1]));
    one.setTrailer('x-trailing', 't');
    one.setTrailer('x-trailing-bin', Buffer.from([0xab, 0xab, 0xab]));
    return body;
  });
  server.unary(bytesMethod('/test.Headers/Bad', 'unary'), (body, one) => {
    const wrong: [string, string][] = [
      ['grpc-status', '0'],
      ['grpc-x', 'v'],
      ['X-Upper', 'v'],
      [':status', '200'],
      ['x y', 'v'],
      ['', 'v'],
      ['x-value', 'a\nb'],
      ['x-value', 'a\0b'],
      ['content-type', 'text/html'],
      ['connection', 'close'],
      ['te', 'x'],
    ];
    for (const [name, v] of wrong) {
      assert.throws(() => one.setHeader(name, v), `setHeader(${JSON.stringify(name)})`);
      assert.throws(() => one.setTrailer(name, v), `setTrailer(${JSON.stringify(name)})`);
    }
    return body;
  });
}

const suite = new Suite({}, registerAll);

async function failWith(error: unknown, path = FAIL) {
  failure = error;
  let answer: Awaited<ReturnType<typeof readAnswer>> | undefined;
  await suite.use(async (client) => {
    client.send(call(1, path, 'x'));
    answer = await readAnswer(client, 1);
    await client.expectAlive();
  });
  assert.ok(answer);
  return answer;
}

test('R1 the shape of an answer: headers, messages, trailers with the status also for OK', async () => {
  await suite.use(async (client) => {
    client.send(call(1, UNARY, 'body'));
    const answer = await readAnswer(client, 1);
    assert.equal(answer.trailersOnly, false);
    assert.deepEqual(answer.headers[0], [':status', '200']);
    assert.equal(value(answer.headers, 'content-type'), 'application/grpc');
    assert.equal(value(answer.headers, 'grpc-status'), undefined);
    assert.equal(value(answer.trailers, 'grpc-status'), '0');
    assert.equal(value(answer.trailers, ':status'), undefined);
    assert.deepEqual(
      client.on(1).map((f) => f.type),
      [Type.HEADERS, Type.DATA, Type.HEADERS],
    );
  });
});

test('R2 an immediate error is Trailers-Only, one HEADERS frame', async () => {
  const answer = await failWith(new GrpcError(Status.NOT_FOUND, 'nobody'));
  assert.equal(answer.trailersOnly, true);
  assert.equal(value(answer.trailers, ':status'), '200');
  assert.equal(value(answer.trailers, 'content-type'), 'application/grpc');
  assert.equal(answer.status, 5);
  assert.equal(answer.message, 'nobody');
});

test('R3 grpc-message is percent-encoded UTF-8', async () => {
  const encode = async (text: string): Promise<string | undefined> =>
    (await failWith(new GrpcError(Status.ABORTED, text))).message;
  assert.equal(
    await encode(SPECIAL),
    '%09%0Atest with whitespace%0D%0Aand Unicode BMP %E2%98%BA and non-BMP %F0%9F%98%88%09%0A',
  );
  assert.equal(await encode('100% of ~!"#$&\'()*+,/:;=?@[]^_`{|}'), '100%25 of ~!"#$&\'()*+,/:;=?@[]^_`{|}');
  assert.equal(await encode('\x7f\x00\x1f'), '%7F%00%1F');
  assert.equal(await encode('a\ud800b'), 'a%EF%BF%BDb');
  assert.equal(decodeURIComponent((await encode(' lead and trail ')) ?? ''), ' lead and trail ');
});

test('R4 details travel in grpc-status-details-bin with the same code and message', async () => {
  const detail = { typeUrl: 'type.googleapis.com/google.rpc.ErrorInfo', value: Buffer.from([0x0a, 1, 0x58]) };
  const answer = await failWith(new GrpcError(Status.PERMISSION_DENIED, 'nö', [detail]));
  const encoded = value(answer.trailers, 'grpc-status-details-bin') ?? '';
  assert.doesNotMatch(encoded, /=/, 'unpadded');
  const type = Buffer.from(detail.typeUrl);
  const any = Buffer.concat([Buffer.from([0x0a, type.length]), type, Buffer.from([0x12, 3]), detail.value]);
  const text = Buffer.from('nö');
  const wanted = Buffer.concat([
    Buffer.from([0x08, 7, 0x12, text.length]),
    text,
    Buffer.from([0x1a, any.length]),
    any,
  ]);
  assert.deepEqual(Buffer.from(encoded, 'base64'), wanted);
  assert.equal(answer.status, 7);
  const without = await failWith(new GrpcError(Status.PERMISSION_DENIED, 'no'));
  assert.equal(value(without.trailers, 'grpc-status-details-bin'), undefined);
});

test('R4 an error may carry metadata, in trailers', async () => {
  const error = new GrpcError(Status.RESOURCE_EXHAUSTED, 'wait', [], { metadata: { 'x-retry-ms': '100' } });
  for (const path of [FAIL, '/test.Fail/Stream', '/test.Fail/Async']) {
    assert.equal(value((await failWith(error, path)).trailers, 'x-retry-ms'), '100', path);
  }
});

test('R5 an answer before the end of the request is followed by RST_STREAM(NO_ERROR)', async () => {
  await suite.use(async (client) => {
    client.send(callHeaders(1, '/no.Such/Method'));
    assert.equal((await readAnswer(client, 1)).status, 12);
    await client.expectRst(1, Code.NO_ERROR);
    client.send(call(3, UNARY, 'x'));
    await readAnswer(client, 3);
    await client.expectAlive();
    assert.equal(
      client.on(3).filter((f) => f.type === Type.RST_STREAM).length,
      0,
      'not when the client has ended',
    );
  });
});

test('R6 the answer respects MAX_HEADER_LIST_SIZE of the client', async () => {
  await suite.use(
    async (client) => {
      failure = new GrpcError(Status.INTERNAL, 'm'.repeat(1_000));
      client.send(call(1, FAIL, 'x'));
      const found = await client.next(
        (f) => f.streamId === 1 && (f.fields !== undefined || f.type === Type.RST_STREAM),
        'an answer that fits, or a reset',
      );
      if (found.type === Type.RST_STREAM) assert.equal(found.payload.readUInt32BE(), Code.INTERNAL_ERROR);
      else {
        const size = (found.fields ?? []).reduce((sum, [n, v]) => sum + n.length + v.length + 32, 0);
        assert.ok(size <= 400, `${size} bytes of header list`);
        assert.equal(value(found.fields ?? [], 'grpc-status'), '13');
      }
      await client.expectAlive();
    },
    { settings: [[Setting.MAX_HEADER_LIST_SIZE, 400]] },
  );
  assert.equal(suite.server.errors.length, 0, 'a limit below the customary is the doing of the client');
});

test('R6 metadata over a customary MAX_HEADER_LIST_SIZE is told to whoever runs the server', async () => {
  await suite.use(
    async (client) => {
      failure = new GrpcError(Status.INTERNAL, 'm', [], { metadata: { 'x-long': 'm'.repeat(10_000) } });
      client.send(call(1, FAIL, 'x'));
      await client.expectRst(1, Code.INTERNAL_ERROR);
      await client.expectAlive();
    },
    { settings: [[Setting.MAX_HEADER_LIST_SIZE, 8_192]] },
  );
  assert.match(String(suite.server.errors), /over the header list limit/);
  suite.server.errors.length = 0;
});

test('R7 metadata of handlers: text and binary, both ways; reserved and illegal names are refused', async () => {
  await suite.use(async (client) => {
    client.send(call(1, '/test.Headers/Unary', 'x'), call(3, '/test.Headers/Bad', 'x'));
    const answer = await readAnswer(client, 1);
    assert.equal(value(answer.headers, 'x-initial'), 'i');
    assert.equal(value(answer.headers, 'x-initial-bin'), '+/8B');
    assert.equal(value(answer.trailers, 'x-trailing'), 't');
    assert.equal(value(answer.trailers, 'x-trailing-bin'), 'q6ur');
    assert.equal(value(answer.headers, 'x-trailing'), undefined);
    const bad = await readAnswer(client, 3);
    assert.equal(bad.status, 0, `a name or value was taken: ${JSON.stringify(suite.server.errors)}`);
  });
});

for (const path of [FAIL, '/test.Fail/Async', '/test.Fail/Stream']) {
  test(`R8 an error that is no GrpcError is UNKNOWN and its text stays here: ${path}`, async () => {
    for (const error of [new Error('secret'), 'secret', undefined, null, { status: 5, message: 'secret' }]) {
      const answer = await failWith(error, path);
      assert.equal(answer.status, 2, String(error));
      assert.doesNotMatch(JSON.stringify(answer.trailers), /secret/);
      assert.equal(suite.server.errors.length, 1, 'onError is told once');
      suite.server.errors.length = 0;
    }
  });
}

test('R8 E3 a reset by the client cancels the call and drops what is queued', async () => {
  for (const code of [Code.CANCEL, Code.NO_ERROR, Code.INTERNAL_ERROR, 0xff]) {
    closes.length = 0;
    cancelled.length = 0;
    await suite.use(async (client) => {
      client.send(call(1, '/test.Watch/Stream', 'x'));
      await client.expectData(1);
      client.send(rstStream(1, code));
      await client.expectAlive();
      assert.deepEqual(closes, ['cancelled']);
      assert.deepEqual(cancelled.toSorted(), ['listener', 'signal']);
      assert.equal(suite.server.server.stats().streams, 0);
      assert.equal(suite.server.server.stats().queuedBytes, 0);
    });
    assert.deepEqual(closes, ['cancelled'], 'exactly once');
  }
});

test('R8 a lost connection cancels every call on it', async () => {
  closes.length = 0;
  cancelled.length = 0;
  const client = await suite.server.connect();
  for (const id of [1, 3, 5]) client.send(call(id, '/test.Watch/Stream', 'x'));
  await client.expectData(5);
  client.destroy();
  await eventually(() => closes.length === 3, 'three closed streams');
  assert.deepEqual(closes, ['connection-lost', 'connection-lost', 'connection-lost']);
  assert.equal(cancelled.length, 6);
  await eventually(() => suite.server.server.stats().connections === 0, 'no connection left');
});

test('a handler that answers after its stream died does nothing', async () => {
  let release: (() => void) | undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let finished: ((outcome: unknown) => void) | undefined;
  const outcome = new Promise<unknown>((resolve) => {
    finished = resolve;
  });
  await useServer(
    {},
    async (server) => {
      await useClient(server, async (client) => {
        client.send(call(1, '/test.Late/Stream', 'x'), rstStream(1, Code.CANCEL));
        await client.expectAlive();
        release?.();
        assert.deepEqual(await deadline(outcome, 'the handler'), { sent: false, closed: true });
        await client.expectAlive();
        assert.deepEqual(
          client.on(1).filter((f) => f.type !== Type.WINDOW_UPDATE),
          [],
        );
      });
    },
    (server) => {
      server.serverStream(bytesMethod('/test.Late/Stream', 'server-stream'), async (body, stream) => {
        await held;
        const sent = stream.send(body);
        stream.setTrailer('x-late', 'v');
        stream.end();
        stream.fail(new GrpcError(Status.INTERNAL, 'late'));
        stream.end();
        finished?.({ sent, closed: stream.closed });
      });
    },
  );
});

test('a hundred calls at once on one connection, of every kind', async () => {
  await suite.use(
    async (client: RawClient) => {
      const paths = [UNARY, SERVER_STREAM, CLIENT_STREAM, BIDI];
      for (let i = 0; i < 100; i++) {
        client.send(callHeaders(i * 2 + 1, paths[i % 4] as string));
      }
      for (let i = 99; i >= 0; i--)
        client.send(data(i * 2 + 1, message(Buffer.from([3, i])), Flag.END_STREAM));
      for (let i = 0; i < 100; i++) {
        const answer = await readAnswer(client, i * 2 + 1);
        assert.equal(answer.status, 0);
        assert.equal(answer.messages.length, i % 4 === 1 ? 3 : 1);
        for (const one of answer.messages) assert.deepEqual(one.bytes, Buffer.from([3, i]));
      }
      client.send(call(201, HANG, 'x'), rstStream(201, Code.CANCEL));
      await client.expectAlive();
      assert.equal(suite.server.server.stats().streams, 0);
    },
    { returnCredit: true },
  );
});
