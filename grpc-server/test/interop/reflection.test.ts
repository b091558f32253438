import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, type ClientDuplexStream, credentials, status } from '@grpc/grpc-js';
import { GrpcServer, reflectionService } from '../../src/index.ts';
import { bytesOf, numberOf, parse, Writer } from '../support/protobuf.ts';
import { deadline } from '../support/raw-client.ts';
import { registerTestService } from '../support/test-service.ts';

/** A FileDescriptorProto with one message and one service, by hand. */
const FILE = new Writer()
  .bytes(1, 'test/messages.proto')
  .bytes(2, 'grpc.testing')
  .bytes(4, new Writer().bytes(1, 'Empty').finish())
  .bytes(
    6,
    new Writer()
      .bytes(1, 'TestService')
      .bytes(
        2,
        new Writer()
          .bytes(1, 'EmptyCall')
          .bytes(2, '.grpc.testing.Empty')
          .bytes(3, '.grpc.testing.Empty')
          .finish(),
      )
      .finish(),
  )
  .finish();

const Request = { FILE_BY_NAME: 3, FILE_CONTAINING_SYMBOL: 4, LIST_SERVICES: 7 } as const;
const Response = { FILES: 4, SERVICES: 6, ERROR: 7 } as const;

for (const version of ['v1', 'v1alpha']) {
  test(`grpc.reflection.${version}: services, files by name and by symbol, what is not there`, async () => {
    const server = new GrpcServer();
    registerTestService(server);
    reflectionService(server, [FILE]);
    const { port } = await server.listen();
    const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
    try {
      const call: ClientDuplexStream<Buffer, Buffer> = client.makeBidiStreamRequest(
        `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
        (bytes: Buffer) => bytes,
        (bytes) => bytes,
      );
      const ask = async (field: number, value: string): Promise<ReturnType<typeof parse>> => {
        const answer = new Promise<Buffer>((resolve, reject) => {
          call.once('data', resolve);
          call.once('error', reject);
        });
        call.write(new Writer().bytes(field, value).finish());
        return parse(await deadline(answer, 'a reflection answer'));
      };

      const services = bytesOf(await ask(Request.LIST_SERVICES, '*'), Response.SERVICES);
      assert.ok(services);
      const names = (parse(services).get(1) ?? []).map((one) => bytesOf(parse(one as Buffer), 1)?.toString());
      assert.ok(names.includes('grpc.testing.TestService'), names.join());

      for (const [field, value] of [
        [Request.FILE_BY_NAME, 'test/messages.proto'],
        [Request.FILE_CONTAINING_SYMBOL, 'grpc.testing.TestService'],
        [Request.FILE_CONTAINING_SYMBOL, 'grpc.testing.TestService.EmptyCall'],
        [Request.FILE_CONTAINING_SYMBOL, 'grpc.testing.Empty'],
      ] as const) {
        const files = bytesOf(await ask(field, value), Response.FILES);
        assert.ok(files, `an answer for ${value}`);
        assert.deepEqual(bytesOf(parse(files), 1), FILE, value);
      }
      for (const value of ['no.such.Symbol', '', 'grpc.testing', '__proto__']) {
        const error = bytesOf(await ask(Request.FILE_CONTAINING_SYMBOL, value), Response.ERROR);
        assert.ok(error, `an error for "${value}"`);
        assert.equal(numberOf(parse(error), 1), status.NOT_FOUND);
      }
      const ended = new Promise<number>((resolve) => call.once('status', ({ code }) => resolve(code)));
      call.end();
      assert.equal(await deadline(ended, 'the status'), status.OK);
    } finally {
      client.close();
      await server.close();
    }
  });
}
