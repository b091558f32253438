/**
 * One server under test in a process of its own: `bench-server.ts ours|grpc-js|sockets`. Talks to the benchmark by
 * IPC: says its port; on 'broadcast' writes one change to every watcher; on 'memory' and 'cpu' reports what it has used.
 */
import { type AddressInfo, createServer, type Socket } from 'node:net';
import grpc from '@grpc/grpc-js';
import { encodeMessage, GrpcServer, type ServerStream } from '../src/index.ts';
import {
  decodeRequest,
  encodeStatus,
  GET,
  GET_LATER,
  type GetUserStatusRequest,
  LIST,
  STREAM_MESSAGES,
  type UserStatusData,
  WATCH,
} from './codec.ts';

const statuses = new Map<string, UserStatusData>();
for (let i = 0; i < 10_000; i++) {
  statuses.set(`user-${i}`, { userId: `user-${i}`, status: 1, lastSeenMs: 1_790_000_000_000 + i });
}

function lookUp(request: GetUserStatusRequest): UserStatusData {
  return statuses.get(request.userId) ?? { userId: request.userId, status: 2, lastSeenMs: 0 };
}

const update: UserStatusData = { userId: 'user-42', status: 1, lastSeenMs: 1_790_000_000_000 };

interface Subject {
  readonly port: number;
  readonly broadcast: () => void;
}

async function ours(): Promise<Subject> {
  const server = new GrpcServer();
  const watchers: ServerStream<UserStatusData>[] = [];
  server.unary(GET, lookUp);
  server.unary(GET_LATER, async (request) => lookUp(request));
  server.serverStream(LIST, (request, stream) => {
    for (let i = 0; i < STREAM_MESSAGES; i++) stream.send(lookUp(request));
    stream.end();
  });
  server.serverStream(WATCH, (request, stream) => {
    watchers.push(stream);
    stream.send(lookUp(request));
  });
  const { port } = await server.listen();
  return {
    port,
    broadcast: () => {
      const message = encodeMessage(WATCH, update);
      for (const watcher of watchers) watcher.sendEncoded(message);
    },
  };
}

/** The same with grpc-js; messages of a broadcast are encoded once here too. */
async function grpcJs(): Promise<Subject> {
  const watchers: grpc.ServerWritableStream<GetUserStatusRequest, UserStatusData | Buffer>[] = [];
  const methods = {
    requestSerialize: () => Buffer.alloc(0),
    requestDeserialize: decodeRequest,
    responseSerialize: (data: UserStatusData | Buffer) => (Buffer.isBuffer(data) ? data : encodeStatus(data)),
    responseDeserialize: () => undefined,
  };
  const server = new grpc.Server();
  const unary = { requestStream: false, responseStream: false, ...methods };
  const streaming = { requestStream: false, responseStream: true, ...methods };
  server.addService(
    {
      get: { path: GET.path, ...unary },
      getLater: { path: GET_LATER.path, ...unary },
      list: { path: LIST.path, ...streaming },
      watch: { path: WATCH.path, ...streaming },
    },
    {
      get: (call: grpc.ServerUnaryCall<GetUserStatusRequest, unknown>, reply: grpc.sendUnaryData<unknown>) =>
        reply(null, lookUp(call.request)),
      getLater: async (
        call: grpc.ServerUnaryCall<GetUserStatusRequest, unknown>,
        reply: grpc.sendUnaryData<unknown>,
      ) => reply(null, lookUp(call.request)),
      list: (call: grpc.ServerWritableStream<GetUserStatusRequest, unknown>) => {
        for (let i = 0; i < STREAM_MESSAGES; i++) call.write(lookUp(call.request));
        call.end();
      },
      watch: (call: grpc.ServerWritableStream<GetUserStatusRequest, UserStatusData | Buffer>) => {
        watchers.push(call);
        call.write(lookUp(call.request));
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return {
    port,
    broadcast: () => {
      const message = encodeStatus(update);
      for (const watcher of watchers) watcher.write(message);
    },
  };
}

/** What any server must do for a fan-out and nothing else: one write of prepared bytes to each socket. */
async function sockets(): Promise<Subject> {
  const watchers: Socket[] = [];
  const opening = Buffer.alloc(100);
  const frame = Buffer.alloc(9 + encodeMessage(WATCH, update).frame.length);
  const server = createServer({ noDelay: true }, (socket) => {
    watchers.push(socket);
    socket.on('error', () => {}); // a client that is gone; 'close' follows
    socket.once('data', () => socket.write(opening));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const broadcast = (): void => {
    for (const watcher of watchers) watcher.write(frame);
  };
  return { port: (server.address() as AddressInfo).port, broadcast };
}

const SUBJECTS: Record<string, () => Promise<Subject>> = { ours, 'grpc-js': grpcJs, sockets };
const subject = await (SUBJECTS[process.argv[2] ?? ''] ?? ours)();

process.on('message', (request: string) => {
  if (request === 'broadcast') {
    process.send?.({ sentNs: process.hrtime.bigint().toString() });
    subject.broadcast();
  } else if (request === 'cpu') {
    const { user, system } = process.cpuUsage();
    process.send?.({ cpuUs: user + system });
  } else if (request === 'memory') {
    globalThis.gc?.();
    globalThis.gc?.();
    process.send?.({ rssBytes: process.memoryUsage().rss });
  }
});
process.on('disconnect', () => process.exit(0));
process.send?.({ port: subject.port });
