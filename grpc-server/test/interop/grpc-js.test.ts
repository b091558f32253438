import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { GrpcServer, healthService } from '../../src/index.ts';
import { makeCertificate } from '../support/programs.ts';
import { numberOf, parse, Writer } from '../support/protobuf.ts';
import { deadline, eventually } from '../support/raw-client.ts';
import {
  aggregatedSize,
  empty,
  payloadMessage,
  registerTestService,
  SERVICE,
  type SimpleRequest,
  type StreamingRequest,
  simpleRequest,
  streamingRequest,
} from '../support/test-service.ts';

const SPECIAL = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
const HANG = '/test.Hang/Stream';

interface Outcome<T> {
  readonly error: ServiceError | null;
  readonly value: T | undefined;
  readonly headers: Metadata | undefined;
  readonly trailers: Metadata | undefined;
}

/** The interop cases of the gRPC project as grpc-js, another implementation, drives them. */
for (const secure of [false, true]) {
  describe(`grpc-js over ${secure ? 'TLS' : 'h2c'}`, () => {
    const errors: unknown[] = [];
    let server: GrpcServer;
    let client: Client;
    let closes: string[] = [];
    let health: ReturnType<typeof healthService>;

    before(async () => {
      const tls = secure ? makeCertificate() : undefined;
      server = new GrpcServer({
        ...(tls && { tls }),
        compression: true,
        onError: (error) => errors.push(error),
      });
      registerTestService(server);
      health = healthService(server);
      health.setStatus('', true);
      server.serverStream(
        { path: HANG, kind: 'server-stream', decode: (b: Uint8Array) => b.length, encode: (b: Buffer) => b },
        (_size, stream) => {
          stream.onClose((reason) => closes.push(reason));
          stream.send(Buffer.from('first'));
        },
      );
      const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
      client = new Client(
        `localhost:${port}`,
        tls ? credentials.createSsl(Buffer.from(tls.cert)) : credentials.createInsecure(),
        { 'grpc.max_receive_message_length': -1 },
      );
    });
    after(async () => {
      client.close();
      await server.close();
      assert.deepEqual(errors, []);
    });

    function unary<I, O>(
      path: string,
      encode: (message: I) => Buffer,
      decode: (bytes: Buffer) => O,
      request: I,
      options: { metadata?: Metadata; deadlineMs?: number } = {},
    ): Promise<Outcome<O>> {
      return deadline(
        new Promise((resolve) => {
          let headers: Metadata | undefined;
          let trailers: Metadata | undefined;
          let answer: { error: ServiceError | null; value: O | undefined } | undefined;
          const finish = (): void => {
            if (answer && trailers) resolve({ ...answer, headers, trailers });
          };
          const call = client.makeUnaryRequest(
            path,
            encode,
            decode,
            request,
            options.metadata ?? new Metadata(),
            { deadline: Date.now() + (options.deadlineMs ?? 10_000) },
            (error, value) => {
              answer = { error, value };
              finish();
            },
          );
          call.on('metadata', (received) => {
            headers = received;
          });
          call.on('status', (received) => {
            trailers = received.metadata;
            finish();
          });
        }),
        `an answer from ${path}`,
        20_000,
      );
    }

    function unaryCall(
      request: SimpleRequest,
      options?: Parameters<typeof unary>[4],
    ): Promise<Outcome<Buffer>> {
      return unary(`${SERVICE}UnaryCall`, simpleRequest.encode, payloadMessage.decode, request, options);
    }

    function fullDuplex(
      metadata = new Metadata(),
      deadlineMs = 10_000,
    ): ClientDuplexStream<StreamingRequest, Buffer> {
      return client.makeBidiStreamRequest(
        `${SERVICE}FullDuplexCall`,
        streamingRequest.encode,
        payloadMessage.decode,
        metadata,
        { deadline: Date.now() + deadlineMs },
      );
    }

    /** Everything a stream gives, until its status. */
    function collect(
      call: ReturnType<typeof fullDuplex> | ReturnType<Client['makeServerStreamRequest']>,
    ): Promise<{ messages: Buffer[]; code: number; details: string; trailers: Metadata }> {
      const messages: Buffer[] = [];
      call.on('data', (message: Buffer) => messages.push(message));
      call.on('error', () => {}); // told by 'status' too
      return deadline(
        new Promise((resolve) => {
          call.on('status', ({ code, details, metadata }) =>
            resolve({ messages, code, details, trailers: metadata }),
          );
        }),
        'a status',
        20_000,
      );
    }

    test('empty_unary', async () => {
      const { error, value } = await unary(`${SERVICE}EmptyCall`, empty.encode, empty.decode, undefined);
      assert.equal(error, null);
      assert.equal(value, 0);
    });

    test('large_unary', async () => {
      const { error, value } = await unaryCall({ responseSize: 314_159, payload: Buffer.alloc(271_828) });
      assert.equal(error, null);
      assert.equal(value?.length, 314_159);
    });

    test('client_streaming', async () => {
      const answer = await deadline(
        new Promise<{ error: ServiceError | null; size: number | undefined }>((resolve) => {
          const call = client.makeClientStreamRequest(
            `${SERVICE}StreamingInputCall`,
            payloadMessage.encode,
            aggregatedSize.decode,
            (error, size) => resolve({ error, size }),
          );
          for (const size of [27_182, 8, 1_828, 45_904]) call.write(Buffer.alloc(size));
          call.end();
        }),
        'the sum',
      );
      assert.deepEqual(answer, { error: null, size: 74_922 });
    });

    test('server_streaming', async () => {
      const call = client.makeServerStreamRequest(
        `${SERVICE}StreamingOutputCall`,
        streamingRequest.encode,
        payloadMessage.decode,
        { sizes: [31_415, 9, 2_653, 58_979] },
      );
      const { messages, code } = await collect(call);
      assert.equal(code, status.OK);
      assert.deepEqual(
        messages.map((one) => one.length),
        [31_415, 9, 2_653, 58_979],
      );
    });

    test('ping_pong', async () => {
      const call = fullDuplex();
      const done = collect(call);
      const rounds = [
        [31_415, 27_182],
        [9, 8],
        [2_653, 1_828],
        [58_979, 45_904],
      ] as const;
      for (const [size, request] of rounds) {
        const answered = new Promise<Buffer>((resolve) => call.once('data', resolve));
        call.write({ sizes: [size], payload: Buffer.alloc(request) });
        assert.equal((await deadline(answered, 'the answer')).length, size);
      }
      call.end();
      assert.equal((await done).code, status.OK);
    });

    test('empty_stream', async () => {
      const call = fullDuplex();
      const done = collect(call);
      call.end();
      const { messages, code } = await done;
      assert.equal(code, status.OK);
      assert.deepEqual(messages, []);
    });

    test('custom_metadata', async () => {
      const metadata = new Metadata();
      metadata.set('x-grpc-test-echo-initial', 'test_initial_metadata_value');
      metadata.set('x-grpc-test-echo-trailing-bin', Buffer.from('ababab', 'hex'));
      const answer = await unaryCall({ responseSize: 1 }, { metadata });
      assert.equal(answer.error, null);
      assert.deepEqual(answer.headers?.get('x-grpc-test-echo-initial'), ['test_initial_metadata_value']);
      assert.deepEqual(answer.trailers?.get('x-grpc-test-echo-trailing-bin'), [Buffer.from('ababab', 'hex')]);
      const call = fullDuplex(metadata);
      const headers = new Promise<Metadata>((resolve) => call.once('metadata', resolve));
      const done = collect(call);
      call.write({ sizes: [1] });
      call.end();
      assert.deepEqual((await deadline(headers, 'headers')).get('x-grpc-test-echo-initial'), [
        'test_initial_metadata_value',
      ]);
      assert.deepEqual((await done).trailers.get('x-grpc-test-echo-trailing-bin'), [
        Buffer.from('ababab', 'hex'),
      ]);
    });

    test('status_code_and_message', async () => {
      const echo = { code: 2, message: 'test status message' };
      const { error } = await unaryCall({ status: echo });
      assert.equal(error?.code, status.UNKNOWN);
      assert.equal(error?.details, 'test status message');
      const call = fullDuplex();
      const done = collect(call);
      call.write({ status: echo });
      const { code, details } = await done;
      assert.equal(code, status.UNKNOWN);
      assert.equal(details, 'test status message');
    });

    test('special_status_message', async () => {
      const { error } = await unaryCall({ status: { code: 2, message: SPECIAL } });
      assert.equal(error?.code, status.UNKNOWN);
      assert.equal(error?.details, SPECIAL);
    });

    test('unimplemented_method and unimplemented_service', async () => {
      for (const path of [
        `${SERVICE}UnimplementedCall`,
        '/grpc.testing.UnimplementedService/UnimplementedCall',
      ]) {
        const { error } = await unary(path, empty.encode, empty.decode, undefined);
        assert.equal(error?.code, status.UNIMPLEMENTED, path);
      }
    });

    test('cancel_after_begin', async () => {
      const outcome = new Promise<ServiceError | null>((resolve) => {
        const call = client.makeClientStreamRequest(
          `${SERVICE}StreamingInputCall`,
          payloadMessage.encode,
          aggregatedSize.decode,
          (error) => resolve(error),
        );
        setImmediate(() => call.cancel());
      });
      assert.equal((await deadline(outcome, 'the cancellation'))?.code, status.CANCELLED);
    });

    test('cancel_after_first_response', async () => {
      const call = fullDuplex();
      const done = collect(call);
      call.write({ sizes: [31_415], payload: Buffer.alloc(27_182) });
      call.once('data', () => call.cancel());
      const { code, messages } = await done;
      assert.equal(code, status.CANCELLED);
      assert.equal(messages.length, 1);
      await eventually(() => server.stats().streams === 0, 'no stream left');
    });

    test('timeout_on_sleeping_server', async () => {
      const call = fullDuplex(new Metadata(), 1);
      const done = collect(call);
      call.write({ payload: Buffer.alloc(27_182) });
      assert.equal((await done).code, status.DEADLINE_EXCEEDED);
      await eventually(() => server.stats().streams === 0, 'no stream left');
    });

    test('a cancelled watch tells its handler', async () => {
      closes = [];
      for (let i = 0; i < 50; i++) {
        const call = client.makeServerStreamRequest(HANG, empty.encode, (bytes) => bytes, undefined);
        const done = collect(call);
        call.once('data', () => call.cancel());
        assert.equal((await done).code, status.CANCELLED);
      }
      await eventually(() => closes.length === 50, '50 closed streams');
      assert.deepEqual([...new Set(closes)], ['cancelled']);
    });

    test('concurrent_large_unary: 200 on one channel', async () => {
      const calls = Array.from({ length: 200 }, () =>
        unaryCall({ responseSize: 31_415, payload: Buffer.alloc(27_182) }, { deadlineMs: 30_000 }),
      );
      for (const { error, value } of await Promise.all(calls)) {
        assert.equal(error, null);
        assert.equal(value?.length, 31_415);
      }
    });

    test('rpc_soak: 500 calls one after another', async () => {
      for (let i = 0; i < 500; i++) {
        const { error, value } = await unaryCall({ responseSize: i });
        assert.equal(error, null);
        assert.equal(value?.length ?? 0, i);
      }
      assert.equal(server.stats().streams, 0);
    });

    test('compressed requests and responses', async () => {
      const compressing = new Client(
        client.getChannel().getTarget().replace(/^dns:/, ''),
        secure
          ? credentials.createSsl(null, null, null, { rejectUnauthorized: false })
          : credentials.createInsecure(),
        { 'grpc.default_compression_algorithm': 2 },
      );
      try {
        const size = await deadline(
          new Promise<number | undefined>((resolve, reject) => {
            compressing.makeUnaryRequest(
              `${SERVICE}UnaryCall`,
              simpleRequest.encode,
              payloadMessage.decode,
              { responseSize: 100_000, payload: Buffer.alloc(100_000) },
              (error, value) => (error ? reject(error) : resolve(value?.length)),
            );
          }),
          'an answer',
        );
        assert.equal(size, 100_000);
      } finally {
        compressing.close();
      }
    });

    test('grpc.health.v1 Check and Watch', async () => {
      const check = (service: string): Promise<Outcome<number>> =>
        unary(
          '/grpc.health.v1.Health/Check',
          (name: string) => new Writer().bytes(1, name).finish(),
          (bytes) => numberOf(parse(bytes), 1),
          service,
        );
      assert.equal((await check('')).value, 1);
      assert.equal((await check('no.such.Service')).error?.code, status.NOT_FOUND);
      const watch = client.makeServerStreamRequest(
        '/grpc.health.v1.Health/Watch',
        (name: string) => new Writer().bytes(1, name).finish(),
        (bytes) => numberOf(parse(bytes), 1),
        'no.such.Service',
      );
      watch.on('error', () => {}); // the cancellation below
      const first = await deadline(
        new Promise<number>((resolve) => watch.once('data', resolve)),
        'a health status',
      );
      assert.equal(first, 3, 'SERVICE_UNKNOWN');
      watch.cancel();
    });
  });
}
