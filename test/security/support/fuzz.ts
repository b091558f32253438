/**
 * Random and mutated inputs against the real server: through memory where that is the same code, and through sockets. What
 * must hold: no crash, nothing rejected unhandled, no 5xx, no internal error in the log, the victim's state as it was, a
 * bystander who sees no error, and nothing left behind. A run is reproduced by its seed.
 */
import assert from 'node:assert/strict';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Server as HttpServer } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { PresenceService, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { Random } from '../../../grpc-server/test/support/fuzz.ts';
import { readConfig } from '../../../src/config.ts';
import { PresenceError } from '../../../src/core/errors.ts';
import { type Log, silentLog } from '../../../src/observe/log.ts';
import { Authenticator } from '../../../src/security/authenticator.ts';
import { Server } from '../../../src/server.ts';
import { waitFor } from '../../support/wait.ts';
import { apiKeys, apiKeysFile, badTokens, secureEnvironment, token } from './credentials.ts';
import * as inputs from './fuzz-inputs.ts';
import { MemorySocket } from './memory-socket.ts';

export const surfaces = [
  'tokens',
  'JSON frames',
  'protobuf frames',
  'HTTP requests',
  'raw HTTP',
  'handshakes',
  'raw frames',
  'sockets',
] as const;
export type Surface = (typeof surfaces)[number];

const sessionsAtOnce = 50;
const connectionsAtOnce = 50;
const victim = 'victim';
/** More than this after a run would be a leak. */
const maxGrowthBytes = 64 * 1024 * 1024;

export class Fuzz {
  readonly #random: Random;
  readonly #problems: unknown[] = [];
  readonly #keys = apiKeysFile();
  readonly #onUncaught = (error: unknown): void => {
    this.#problems.push(error);
  };
  /** What libraries complain with. */
  readonly #consoleError = console.error;
  #server!: Server;
  #http!: HttpServer;
  #httpPort = 0;
  #grpcUrl = '';
  #authenticator!: Authenticator;
  #tokens: string[] = [];
  #userTokens: string[] = [];
  #authorizations: string[] = [];
  #isOver = false;
  #bystander: Promise<void> | undefined;
  /** How often the bystander was answered. */
  answered = 0;

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  async start(): Promise<void> {
    console.error = this.#onUncaught;
    process.on('uncaughtException', this.#onUncaught);
    process.on('unhandledRejection', this.#onUncaught);
    const log: Log = Object.assign(Object.create(silentLog), {
      error: (fact: unknown) => this.#onUncaught(fact),
    });
    const config = readConfig({
      ...secureEnvironment(this.#keys.file),
      GRPC_PORT: '0',
      HTTP_PORT: '0',
      USER_STATUS_TTL: '1h',
      DISCONNECT_GRACE: '0s',
      DRAIN_TIMEOUT: '0s',
      // What is refused by a rate would not be looked at.
      RATE_LIMIT_CALLS: '0',
      RATE_LIMIT_UPDATES: '0',
      RATE_LIMIT_WATCH_EDITS: '0',
      RATE_LIMIT_CONNECTIONS: '0',
      MAX_FRAMES_PER_SECOND: '100000',
      MAX_TURN: '0s',
    });
    this.#authenticator = new Authenticator({ ...config, log });
    this.#server = new Server(config, log);
    const { grpc, http } = await this.#server.start();
    this.#httpPort = http.port;
    this.#grpcUrl = `http://127.0.0.1:${grpc.port}`;
    this.#http = await httpServerOf(http.port);
    this.#userTokens = await Promise.all(
      Array.from({ length: sessionsAtOnce }, (_, user) => token(`fuzz-${user}`, { expiresIn: 86_400 })),
    );
    // None of them may touch the victim.
    this.#tokens = [...Object.values(await badTokens()), apiKeys.read, apiKeys.nothing, ...this.#userTokens];
    this.#authorizations = this.#tokens
      .filter((it) => it.length < 1000)
      .flatMap((it) => [`Bearer ${it}`, `Basic ${Buffer.from(`x:${it}`).toString('base64')}`]);
    await this.#admin().setUserStatus({ userId: victim, status: UserStatus.ONLINE }, this.#asAdmin);
    this.#bystander = this.#standBy();
  }

  /** @throws what must not happen */
  async run(surface: Surface, count: number): Promise<void> {
    const before = await this.#stored();
    await this.#feed(surface, count);
    assert.deepEqual(this.#problems.slice(0, 5), [], surface);
    assert.deepEqual(await this.#stored(), before, `${surface} changed what it must not`);
  }

  /** @throws when something was left behind */
  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#bystander;
    try {
      await waitFor(
        () => `nothing to be left: ${JSON.stringify(this.#server.stats())}`,
        () => {
          const { webSocket, http, hub, sessions, connections } = this.#server.stats();
          const left = [webSocket.connections, webSocket.queuedBytes, http.streams, hub.subscriptions];
          return [...left, hub.watches, sessions.sessions, connections.held].every((it) => it === 0);
        },
      );
    } finally {
      await this.#server.stop();
      this.#keys.remove();
      console.error = this.#consoleError;
      process.off('uncaughtException', this.#onUncaught);
      process.off('unhandledRejection', this.#onUncaught);
    }
    assert.deepEqual(this.#problems, []);
  }

  #feed(surface: Surface, count: number): Promise<void> {
    const random = this.#random;
    switch (surface) {
      case 'tokens':
        return this.#feedTokens(count);
      case 'JSON frames':
        return this.#feedFrames(count, 'presence.v1.json', () =>
          inputs.masked(0x81, inputs.jsonFrame(random)),
        );
      case 'protobuf frames':
        return this.#feedFrames(count, 'presence.v1.proto', () =>
          inputs.masked(0x82, inputs.protoFrame(random)),
        );
      case 'HTTP requests':
        return this.#feedConnections(count, () => inputs.httpRequest(random, this.#authorizations));
      case 'raw HTTP':
        return this.#feedConnections(count, () => inputs.rawHttp(random, this.#authorizations));
      case 'handshakes':
        return this.#feedConnections(count, () => inputs.mutatedHandshake(random, this.#authorizations));
      case 'raw frames':
        return this.#feedConnections(count, () => this.#rawFrames());
      case 'sockets':
        return this.#feedSockets(count);
    }
  }

  async #feedTokens(count: number): Promise<void> {
    const valid = new Set([...this.#userTokens, ...Object.values(apiKeys)]);
    for (let done = 0; done < count; done++) {
      const value = inputs.mutatedToken(this.#random, this.#tokens);
      try {
        const principal = await this.#authenticator.authenticate(value);
        // Base64 has several spellings of the same last bits.
        const isSame = [...valid].some((it) => it === value || sameBytes(it, value));
        assert.ok(isSame, `${JSON.stringify(value)} speaks for ${principal.id}`);
      } catch (error) {
        if (!(error instanceof PresenceError && error.isUnauthenticated)) throw error;
      }
      if (done % 500 === 0) await turn();
    }
  }

  /** Frames of sessions that are open: each frame waits for a turn of its own. */
  async #feedFrames(count: number, protocol: string, next: () => Buffer): Promise<void> {
    const sockets: (MemorySocket | undefined)[] = Array.from({ length: sessionsAtOnce }, () => undefined);
    for (let done = 0; done < count; ) {
      for (const [user, socket] of sockets.entries()) {
        if (socket && !socket.destroyed && !socket.writableEnded) {
          if (socket.readableLength > 0) continue;
          socket.say(next());
          done++;
        } else {
          this.#check(socket);
          sockets[user] = this.#openSession(user, protocol);
        }
      }
      await turn();
    }
    for (const socket of sockets) {
      this.#check(socket);
      socket?.destroy();
    }
  }

  #openSession(user: number, protocol: string): MemorySocket {
    const socket = this.#connect();
    socket.say(inputs.handshake(protocol, `Bearer ${this.#userTokens[user]}`));
    const hello = { requestId: 1, hello: { userId: `fuzz-${user}` } };
    const bytes =
      protocol === 'presence.v1.json'
        ? inputs.masked(0x81, Buffer.from(JSON.stringify(hello)))
        : inputs.masked(0x82, inputs.protoHello(`fuzz-${user}`));
    socket.say(bytes);
    return socket;
  }

  #rawFrames(): Buffer {
    const user = this.#random.int(sessionsAtOnce);
    const protocol = this.#random.of(['presence.v1.json', 'presence.v1.proto']);
    const head = Buffer.from(inputs.handshake(protocol, `Bearer ${this.#userTokens[user]}`), 'latin1');
    return Buffer.concat([head, inputs.rawFrames(this.#random)]);
  }

  /** One input on each connection, in pieces. */
  async #feedConnections(count: number, next: () => Buffer): Promise<void> {
    for (let done = 0; done < count; ) {
      const sockets: MemorySocket[] = [];
      for (let at = 0; at < connectionsAtOnce && done < count; at++, done++) {
        const socket = this.#connect();
        const bytes = next();
        const cut = this.#random.int(4) === 0 ? this.#random.int(bytes.length + 1) : bytes.length;
        socket.say(bytes.subarray(0, cut));
        if (cut < bytes.length) socket.say(bytes.subarray(cut));
        sockets.push(socket);
      }
      await sleep(1);
      for (let turns = 0; turns < 5; turns++) await turn();
      for (const socket of sockets) {
        this.#check(socket);
        if (this.#random.int(3) === 0) socket.push(null);
        else socket.destroy();
      }
      await turn();
      for (const socket of sockets) socket.destroy();
    }
  }

  async #feedSockets(count: number): Promise<void> {
    let begun = 0;
    const worker = async (): Promise<void> => {
      while (begun++ < count) {
        const kind = this.#random.int(4);
        if (kind === 0) await this.#overTcp(inputs.rawHttp(this.#random, this.#authorizations));
        else if (kind === 1) await this.#overTcp(inputs.httpRequest(this.#random, this.#authorizations));
        else if (kind === 2) await this.#overTcp(inputs.mutatedHandshake(this.#random, this.#authorizations));
        else await this.#overTcp(this.#rawFrames());
      }
    };
    await Promise.all(Array.from({ length: 20 }, worker));
  }

  #overTcp(bytes: Buffer): Promise<void> {
    return new Promise((resolve) => {
      const socket = connect(this.#httpPort, '127.0.0.1');
      let written = '';
      const manner = this.#random.int(3);
      socket.on('error', () => {});
      socket.on('data', (chunk) => {
        written += chunk.toString('latin1').slice(0, 1000);
      });
      socket.once('close', () => {
        this.#checkAnswer(bytes.toString('latin1'), written);
        resolve();
      });
      socket.write(bytes, () =>
        setTimeout(() => {
          if (manner === 0) socket.end();
          else if (manner === 1) socket.resetAndDestroy();
          if (manner !== 1) setTimeout(() => socket.destroy(), 5);
        }, 2),
      );
    });
  }

  #connect(): MemorySocket {
    const socket = new MemorySocket();
    this.#http.emit('connection', socket);
    return socket;
  }

  #check(socket: MemorySocket | undefined): void {
    if (socket) this.#checkAnswer(socket.said, socket.written);
  }

  /** 501 is what the Connect protocol asks for where a body's encoding is not known. */
  #checkAnswer(said: string, written: string): void {
    const failure = /HTTP\/1\.1 5(?!01)\d\d[^\r]*/.exec(written) ?? /"code":"INTERNAL"/.exec(written);
    if (failure) this.#problems.push(`${failure[0]} to ${JSON.stringify(said.slice(0, 1000))}`);
  }

  /** Somebody well-behaved, over real sockets, who must not notice. */
  async #standBy(): Promise<void> {
    const client = this.#admin();
    try {
      while (!this.#isOver) {
        const { success } = await client.sendHeartbeat({ userId: 'bystander' }, this.#asAdmin);
        const response = await fetch(
          `http://127.0.0.1:${this.#httpPort}/v1/users/bystander/status`,
          this.#asAdmin,
        );
        assert.ok(success && response.status === 200, `${success}, ${response.status}`);
        await response.arrayBuffer();
        this.answered++;
        await sleep(10);
      }
    } catch (error) {
      this.#problems.push(error);
    }
  }

  readonly #asAdmin = { headers: { authorization: `Bearer ${apiKeys.admin}` } };

  #admin() {
    return createClient(PresenceService, createGrpcTransport({ baseUrl: this.#grpcUrl }));
  }

  /** All that the store has of the victim. */
  async #stored(): Promise<unknown> {
    const client = this.#admin();
    const state = await client.getUserStatus({ userId: victim }, this.#asAdmin);
    const { connections } = await client.getConnections({ userId: victim }, this.#asAdmin);
    const { version, status, activity, customStatus } = state.data ?? {};
    return { version, status, activity, customStatus, connections: connections.length };
  }
}

/** Memory in use after what can be collected was, bytes. */
export function heapBytes(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let round = 0; round < 3; round++) collect();
  return process.memoryUsage().heapUsed;
}

/** @throws when a run has left much more than it found */
export function checkGrowth(beforeBytes: number): void {
  const grownBytes = heapBytes() - beforeBytes;
  assert.ok(grownBytes < maxGrowthBytes, `the heap grew by ${grownBytes} bytes`);
}

/** Node tells of every request on which server it came. */
async function httpServerOf(port: number): Promise<HttpServer> {
  let found: HttpServer | undefined;
  const listener = (message: unknown): void => {
    const { server, socket } = message as { server: HttpServer; socket: { localPort: number } };
    if (socket.localPort === port) found = server;
  };
  subscribe('http.server.request.start', listener);
  await (await fetch(`http://127.0.0.1:${port}/livez`)).arrayBuffer();
  unsubscribe('http.server.request.start', listener);
  if (!found) throw new Error('the HTTP server was not found');
  return found;
}

function sameBytes(a: string, b: string): boolean {
  const bytesOf = (text: string) =>
    text.split('.').map((part) => Buffer.from(part, 'base64url').toString('hex'));
  return bytesOf(a).join() === bytesOf(b).join();
}
