/** Reflection, walked as a client does that knows nothing: every service that is listed, and all that it refers to. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { create, createFileRegistry, type FileRegistry, fromBinary } from '@bufbuild/protobuf';
import {
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from '@bufbuild/protobuf/wkt';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import {
  ServerReflection,
  type ServerReflectionResponse,
} from '@pilotlight/proto/grpc/reflection/v1/reflection_pb.js';
import { ServerReflection as ServerReflectionAlpha } from '@pilotlight/proto/grpc/reflection/v1alpha/reflection_pb.js';
import { startServer, type TestServer } from './support/pilotlight.ts';

type Question = { case: 'listServices' | 'fileContainingSymbol' | 'fileByFilename'; value: string };

for (const service of [ServerReflection, ServerReflectionAlpha]) {
  describe(`reflection by ${service.typeName}`, () => {
    let server: TestServer;
    before(async () => {
      server = await startServer({ DRAIN_TIMEOUT: '100ms' });
    });
    after(() => server.stop());

    async function ask(question: Question): Promise<ServerReflectionResponse['messageResponse']> {
      const transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${server.grpcPort}` });
      const client = createClient(service as typeof ServerReflection, transport);
      const requests = (async function* () {
        yield { messageRequest: question };
      })();
      for await (const { messageResponse } of client.serverReflectionInfo(requests)) return messageResponse;
      throw new Error('no answer');
    }

    async function filesOf(question: Question): Promise<FileDescriptorProto[]> {
      const answer = await ask(question);
      assert.equal(
        answer.case,
        'fileDescriptorResponse',
        `${question.value}: ${JSON.stringify(answer.value)}`,
      );
      return (answer.value as { fileDescriptorProto: Uint8Array[] }).fileDescriptorProto.map((bytes) =>
        fromBinary(FileDescriptorProtoSchema, bytes),
      );
    }

    /** What a client can put together from an answer, with the files that it asks for by name. */
    async function registryOf(symbol: string): Promise<FileRegistry> {
      const files = new Map<string, FileDescriptorProto>();
      const open = await filesOf({ case: 'fileContainingSymbol', value: symbol });
      for (let file = open.pop(); file; file = open.pop()) {
        files.set(file.name, file);
        for (const name of file.dependency) {
          if (!files.has(name)) open.push(...(await filesOf({ case: 'fileByFilename', value: name })));
        }
      }
      // In the order of imports.
      const sorted = new Set<FileDescriptorProto>();
      const add = (file: FileDescriptorProto | undefined): void => {
        assert.ok(file);
        for (const name of file.dependency) add(files.get(name));
        sorted.add(file);
      };
      for (const file of files.values()) add(file);
      return createFileRegistry(create(FileDescriptorSetSchema, { file: [...sorted] }));
    }

    it('describes every service that it lists, and every type of it', async () => {
      const answer = await ask({ case: 'listServices', value: '*' });
      assert.equal(answer.case, 'listServicesResponse');
      const names = answer.value.service.map(({ name }) => name);
      assert.deepEqual(names, [
        'grpc.health.v1.Health',
        'grpc.reflection.v1.ServerReflection',
        'grpc.reflection.v1alpha.ServerReflection',
        'presence.v1.PresenceService',
      ]);
      for (const name of names) {
        const registry = await registryOf(name);
        const described = registry.getService(name);
        assert.ok(described, name);
        for (const method of described.methods) {
          for (const symbol of [`${name}.${method.name}`, method.input.typeName, method.output.typeName]) {
            await filesOf({ case: 'fileContainingSymbol', value: symbol });
          }
        }
        for (const type of registry) {
          await filesOf({
            case: 'fileContainingSymbol',
            value: type.kind === 'extension' ? type.name : type.typeName,
          });
        }
      }
    });

    it('describes what errors carry, fields and values', async () => {
      for (const symbol of [
        'google.rpc.Status',
        'google.rpc.ErrorInfo',
        'google.rpc.RetryInfo',
        'google.protobuf.Any',
        'google.protobuf.Duration',
        'google.rpc.ErrorInfo.MetadataEntry',
        'presence.v1.UserStatusData.user_id',
        'presence.v1.ClientFrame.frame',
        'presence.v1.ONLINE',
        'grpc.health.v1.HealthCheckResponse.SERVING',
      ]) {
        await registryOf(symbol);
      }
      const unknown = await ask({ case: 'fileContainingSymbol', value: 'presence.v1.Nothing' });
      assert.equal(unknown.case, 'errorResponse');
    });
  });
}
