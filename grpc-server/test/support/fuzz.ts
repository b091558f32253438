/**
 * Mutated HTTP/2 sessions against the server, through memory and through real sockets. A run is reproduced by
 * its seed. What must hold: no uncaught error, nothing told to `onError`, every answer well-formed, and nothing left
 * open or queued when the connections are gone.
 */
import { EventEmitter } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { GrpcError, GrpcServer, Status } from '../../src/index.ts';
import {
  Code,
  continuation,
  data,
  Flag,
  frame,
  goaway,
  headers,
  message,
  PREFACE,
  paddedData,
  ping,
  priority,
  rstStream,
  Setting,
  settings,
  settingsAck,
  windowUpdate,
} from './frames.ts';
import { Decoder, encode, literalIndexed } from './hpack.ts';
import { call, callHeaders, get, grpcFields, plainFields, post } from './requests.ts';
import { BIDI, CLIENT_STREAM, HANG, registerEcho, SERVER_STREAM, UNARY } from './test-server.ts';

/** Mulberry32: 32 bits of state, the same sequence everywhere. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 <= n < below. */
  int(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  }

  of<T>(choices: readonly T[]): T {
    return choices[this.int(choices.length)] as T;
  }
}

const START = [PREFACE, settings([[Setting.INITIAL_WINDOW_SIZE, 100_000]]), settingsAck()];
const GRPC_BLOCK = encode(grpcFields(UNARY, [['grpc-timeout', '1S']]));
const END = Flag.END_HEADERS | Flag.END_STREAM;

/** Valid sessions, frame by frame. */
const SEEDS: readonly (readonly Buffer[])[] = [
  [...START, call(1, UNARY, 'hello'), call(3, UNARY, 'again'), ping('h2spec!!')],
  [
    ...START,
    get(1),
    post(3, [['content-length', '4']]),
    data(3, 'test', Flag.END_STREAM),
    windowUpdate(0, 1_000),
  ],
  [
    ...START,
    callHeaders(1, BIDI),
    data(1, message('one')),
    data(1, message('two')),
    data(1, '', Flag.END_STREAM),
  ],
  [
    ...START,
    callHeaders(1, CLIENT_STREAM),
    paddedData(1, message('padded'), 9),
    data(1, message('x'), Flag.END_STREAM),
  ],
  [
    ...START,
    call(1, SERVER_STREAM, '\x09'),
    windowUpdate(1, 5),
    rstStream(1, Code.CANCEL),
    call(3, SERVER_STREAM, '\x02'),
  ],
  [
    ...START,
    call(1, HANG, 'x'),
    priority(1, 0, 7),
    call(3, HANG, 'y'),
    rstStream(1, Code.CANCEL),
    goaway(0, Code.NO_ERROR),
  ],
  [
    ...START,
    headers(1, GRPC_BLOCK.subarray(0, 7), 0),
    continuation(1, GRPC_BLOCK.subarray(7, 30)),
    continuation(1, GRPC_BLOCK.subarray(30), Flag.END_HEADERS),
    data(1, message('split').subarray(0, 3)),
    data(1, message('split').subarray(3), Flag.END_STREAM),
  ],
  [
    ...START,
    headers(1, Buffer.concat([encode(plainFields()), literalIndexed('x-table', 'entry')]), END),
    headers(3, Buffer.concat([encode(plainFields()), Buffer.from([0xbe])]), END),
    headers(5, Buffer.concat([Buffer.from([0x20, 0x3f, 0xe1, 0x1f]), encode(plainFields())]), END),
  ],
  [
    ...START,
    settings([
      [Setting.INITIAL_WINDOW_SIZE, 1],
      [Setting.HEADER_TABLE_SIZE, 0],
      [Setting.MAX_FRAME_SIZE, 20_000],
    ]),
    call(1, UNARY, 'a longer message than the window'),
    settings([[Setting.INITIAL_WINDOW_SIZE, 65_535]]),
    callHeaders(3, UNARY, [['grpc-encoding', 'gzip']]),
    data(3, message(gzipSync('hello'), 1), Flag.END_STREAM),
    frame(0x16, 0, 0, Buffer.alloc(8)),
  ],
];

const EDGES = [0, 1, 2, 5, 8, 9, 0x20, 0x40, 0x7f, 0x80, 0xbe, 0xc0, 0xfe, 0xff];

/** One to six changes to a copy of a valid session, at the level of frames and of bytes. */
export function mutatedSession(random: Random): Buffer {
  let frames: Buffer[] = random.of(SEEDS).map((one) => Buffer.from(one));
  for (let changes = 1 + random.int(1 + random.int(6)); changes > 0; changes--) {
    // The preface stays most of the time: without it nothing behind it is reached.
    const at = random.int(20) === 0 ? 0 : 1 + random.int(frames.length - 1 || 1);
    const chosen = frames[at] ?? Buffer.alloc(0);
    switch (random.int(11)) {
      case 0:
        if (chosen.length > 0) chosen[random.int(chosen.length)] = random.int(256);
        break;
      case 1:
        if (chosen.length > 0) chosen[random.int(chosen.length)] = random.of(EDGES);
        break;
      case 2:
        if (chosen.length > 0) flipBit(chosen, random);
        break;
      case 3:
        if (chosen.length > 9) chosen[random.of([0, 1, 2, 3, 4, 5, 8])] = random.of(EDGES);
        break;
      case 4:
        frames[at] = chosen.subarray(0, random.int(chosen.length + 1));
        break;
      case 5:
        frames.splice(at, 0, Buffer.from(chosen), Buffer.from(chosen));
        break;
      case 6:
        frames.splice(at, 1);
        break;
      case 7:
        frames.splice(at, 0, randomFrame(random));
        break;
      case 8:
        frames = [
          ...frames.slice(0, at),
          ...random
            .of(SEEDS)
            .slice(1)
            .map((one) => Buffer.from(one)),
        ];
        break;
      case 9:
        frames.splice(at, 0, Buffer.from(random.of(random.of(SEEDS))));
        break;
      default:
        frames.splice(1 + random.int(frames.length), 0, ...frames.splice(at, 1));
    }
    if (frames.length === 0) frames = [PREFACE];
  }
  return Buffer.concat(frames);
}

function flipBit(bytes: Buffer, random: Random): void {
  const at = random.int(bytes.length);
  bytes[at] = Number(bytes[at]) ^ (1 << random.int(8));
}

function randomFrame(random: Random): Buffer {
  const payload = Buffer.from(Array.from({ length: random.int(40) }, () => random.int(256)));
  return frame(
    random.int(12),
    random.of([0, 1, 4, 5, 8, 32, 41, 255]),
    random.of([0, 1, 2, 3, 5, 7, 0x7fffffff]),
    payload,
  );
}

/** Stands in for a socket: takes bytes as the kernel does, without one. */
class MemorySocket extends EventEmitter {
  readonly remoteAddress = '127.0.0.1';
  readonly remotePort = 1;
  readonly written: Buffer[] = [];
  writableLength = 0;
  destroyed = false;
  writableEnded = false;

  write(bytes: Buffer): boolean {
    if (!this.destroyed) this.written.push(Buffer.from(bytes));
    return true;
  }

  cork(): void {}
  uncork(): void {}
  pause(): this {
    return this;
  }
  resume(): this {
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  end(): this {
    this.writableEnded = true;
    return this;
  }

  destroy(): this {
    if (this.destroyed) return this;
    this.destroyed = true;
    setImmediate(() => this.emit('close'));
    return this;
  }
}

export interface FuzzReport {
  readonly sessions: number;
  readonly answeredFrames: number;
}

export interface FuzzOptions {
  readonly seed: number;
  /** Whichever comes first. */
  readonly sessions: number;
  readonly durationMs: number;
  readonly onProgress?: (sessions: number) => void;
}

const BATCH = 500;

/** Collects what nobody caught, while it is alive. */
class UncaughtWatch {
  readonly errors: unknown[] = [];
  readonly #listener = (error: unknown): void => {
    this.errors.push(error);
  };

  constructor() {
    process.on('uncaughtException', this.#listener);
    process.on('unhandledRejection', this.#listener);
  }

  stop(): void {
    process.off('uncaughtException', this.#listener);
    process.off('unhandledRejection', this.#listener);
  }
}

function makeServer(errors: unknown[]): GrpcServer {
  const busy = new GrpcError(Status.RESOURCE_EXHAUSTED, 'busy');
  let calls = 0;
  const server = new GrpcServer({
    refuse: () => (calls++ % 4 === 0 ? busy : undefined),
    fallback: () => ({ status: 200, body: 'plain' }),
    onError: (error) => errors.push(error),
    limits: { lingerMs: 50, writeStallTimeoutMs: 1_000 },
  });
  registerEcho(server);
  return server;
}

/** Throws with the seed and the number of the session in the batch that went wrong. */
async function assertClean(
  server: GrpcServer,
  errors: readonly unknown[],
  watch: UncaughtWatch,
  where: string,
): Promise<void> {
  const until = performance.now() + 10_000;
  for (;;) {
    const { connections, streams, queuedBytes, controlQueueItems, bufferedRequestBytes } = server.stats();
    const left = { connections, streams, queuedBytes, controlQueueItems, bufferedRequestBytes };
    if (Object.values(left).every((n) => n === 0)) break;
    if (performance.now() > until) throw new Error(`${where}: left behind ${JSON.stringify(left)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const [error] = [...errors, ...watch.errors];
  if (error !== undefined) throw new Error(`${where}: ${(error as Error).stack ?? error}`, { cause: error });
}

/** Feeds sessions to connections without a socket, cut into arbitrary chunks. */
export async function fuzzInMemory(options: FuzzOptions): Promise<FuzzReport> {
  const errors: unknown[] = [];
  const watch = new UncaughtWatch();
  const server = makeServer(errors);
  const until = performance.now() + options.durationMs;
  let sessions = 0;
  let answeredFrames = 0;
  try {
    while (sessions < options.sessions && performance.now() < until) {
      const sockets: MemorySocket[] = [];
      const first = sessions;
      for (let i = 0; i < BATCH && sessions < options.sessions; i++, sessions++) {
        const random = new Random(options.seed + sessions);
        const socket = new MemorySocket();
        sockets.push(socket);
        server.accept(socket as unknown as Socket);
        feed(socket, mutatedSession(random), random);
      }
      await new Promise((resolve) => setImmediate(resolve));
      await new Promise((resolve) => setImmediate(resolve));
      for (const [i, socket] of sockets.entries()) {
        try {
          answeredFrames += checkAnswer(Buffer.concat(socket.written));
        } catch (error) {
          throw new Error(`seed ${options.seed + first + i}: ${(error as Error).message}`);
        }
        socket.destroy();
      }
      await assertClean(
        server,
        errors,
        watch,
        `seeds ${options.seed + first} to ${options.seed + sessions - 1}`,
      );
      options.onProgress?.(sessions);
    }
  } finally {
    watch.stop();
    await server.close();
  }
  return { sessions, answeredFrames };
}

function feed(socket: MemorySocket, bytes: Buffer, random: Random): void {
  for (let at = 0; at < bytes.length && !socket.destroyed; ) {
    const length = random.int(3) === 0 ? 1 + random.int(20) : 1 + random.int(bytes.length);
    socket.emit('data', Buffer.from(bytes.subarray(at, at + length)));
    at += length;
  }
  if (random.int(4) === 0) socket.emit('end');
}

/** The answer is whole frames of legal size and order, and its header blocks decode. Returns how many. */
function checkAnswer(bytes: Buffer): number {
  const decoder = new Decoder();
  decoder.setLimit(4096);
  let count = 0;
  let block: Buffer[] | undefined;
  for (let at = 0; at < bytes.length; count++) {
    if (bytes.length - at < 9) throw new Error('the answer ends inside a frame header');
    const length = bytes.readUIntBE(at, 3);
    const type = bytes[at + 3] as number;
    const flags = bytes[at + 4] as number;
    if (length > 20_000 || bytes.length - at - 9 < length)
      throw new Error(`the answer has a frame of ${length} bytes`);
    if (count === 0 && type !== 4) throw new Error('the answer does not begin with SETTINGS');
    if (type > 9 || type === 2 || type === 5) throw new Error(`the answer has a frame of type ${type}`);
    if ((block !== undefined) !== (type === 9))
      throw new Error(`a frame of type ${type} breaks a header block`);
    const payload = bytes.subarray(at + 9, at + 9 + length);
    if (type === 1 || type === 9) {
      block = [...(block ?? []), payload];
      if (flags & Flag.END_HEADERS) {
        decoder.decode(Buffer.concat(block));
        block = undefined;
      }
    }
    at += 9 + length;
  }
  return count;
}

const SOCKETS_AT_ONCE = 40;
const SOCKET_MS = 2_000;

/** The same through TCP, with good calls in between. */
export async function fuzzSockets(options: FuzzOptions): Promise<FuzzReport> {
  const errors: unknown[] = [];
  const watch = new UncaughtWatch();
  const server = makeServer(errors);
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  const until = performance.now() + options.durationMs;
  let sessions = 0;
  let bytesBack = 0;
  const worker = async (): Promise<void> => {
    while (sessions < options.sessions && performance.now() < until) {
      const random = new Random(options.seed + sessions);
      sessions++;
      const received = await oneSocket(port, mutatedSession(random), random);
      bytesBack += received;
      if (sessions % 1_000 === 0) options.onProgress?.(sessions);
    }
  };
  try {
    await Promise.all(Array.from({ length: SOCKETS_AT_ONCE }, worker));
    await assertClean(
      server,
      errors,
      watch,
      `sockets, seeds ${options.seed} to ${options.seed + sessions - 1}`,
    );
  } finally {
    watch.stop();
    await server.close();
  }
  return { sessions, answeredFrames: bytesBack };
}

/** Sends one session and ends it in one of the ways in which clients end. Returns how many bytes came back. */
function oneSocket(port: number, bytes: Buffer, random: Random): Promise<number> {
  return new Promise((resolve) => {
    const socket = connectTcp(port, '127.0.0.1');
    let received = 0;
    const manner = random.int(3);
    const timer = setTimeout(() => socket.destroy(), SOCKET_MS);
    const finish = (): void => {
      if (manner === 0) socket.end();
      else if (manner === 1) socket.resetAndDestroy();
      else socket.destroy();
    };
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    socket.on('error', () => {}); // resets are part of the game; 'close' follows
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(received);
    });
    const cut = random.int(bytes.length + 1);
    socket.write(bytes.subarray(0, cut));
    setImmediate(() => socket.write(bytes.subarray(cut), () => setTimeout(finish, random.int(5))));
  });
}
