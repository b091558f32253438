import { type Client, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { ErrorInfoSchema } from '@pilotlight/proto/google/rpc/error_details_pb.js';
import { PresenceService } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { type Config, readConfig } from '../../src/config.ts';
import { silentLog } from '../../src/observe/log.ts';
import { Server } from '../../src/server.ts';
import { Story } from './story.ts';

export type PresenceClient = Client<typeof PresenceService>;

/** A server in this process, on free ports, with a short TTL, and a generated client of it. */
export interface TestServer {
  readonly server: Server;
  readonly config: Config;
  readonly client: PresenceClient;
  readonly grpcPort: number;
  readonly httpUrl: string;
  /** A client with a connection of its own. */
  newClient(): PresenceClient;
  stop(): Promise<void>;
}

export const testTtlMs = 1000;

export async function startServer(environment: Readonly<Record<string, string>> = {}): Promise<TestServer> {
  const config = readConfig({
    GRPC_PORT: '0',
    HTTP_PORT: '0',
    USER_STATUS_TTL: `${testTtlMs}ms`,
    HEARTBEAT_INTERVAL: '200ms',
    DISCONNECT_GRACE: '200ms',
    // The event loop is the test's too: its work is no overload of the server.
    MAX_TURN: '0s',
    REDIS_TIMEOUT: '30s',
    ...environment,
  });
  const server = new Server(config, silentLog);
  const { grpc, http } = await server.start();
  const newClient = () =>
    createClient(PresenceService, createGrpcTransport({ baseUrl: `http://127.0.0.1:${grpc.port}` }));
  return {
    server,
    config,
    client: newClient(),
    grpcPort: grpc.port,
    httpUrl: `http://127.0.0.1:${http.port}`,
    newClient,
    stop: () => server.stop(),
  };
}

/** What a subscription has received so far. */
export class Watcher extends Story {
  readonly #aborter = new AbortController();
  readonly ended: Promise<ConnectError | null>;

  constructor(client: PresenceClient, watchUserIds: readonly string[], userId = '') {
    super();
    this.ended = this.#read(client, watchUserIds, userId);
  }

  async stop(): Promise<void> {
    this.#aborter.abort();
    await this.ended;
  }

  async #read(
    client: PresenceClient,
    watchUserIds: readonly string[],
    userId: string,
  ): Promise<ConnectError | null> {
    const request = { userId, watchUserIds: [...watchUserIds] };
    try {
      for await (const event of client.subscribeStatusUpdates(request, { signal: this.#aborter.signal })) {
        this.events.push(event);
      }
      return null;
    } catch (error) {
      const ended = ConnectError.from(error);
      this.failure = ended;
      return ended;
    }
  }
}

/** The code of the catalogue that a failed call carries in its details. */
export function errorCode(error: unknown): string | undefined {
  return ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason;
}
