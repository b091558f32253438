import { type Client, Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { PresenceService } from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { ServerProcess } from './server-process.ts';

export type PresenceClient = Client<typeof PresenceService>;

/** A hang fails; a server that a busy machine keeps waiting does not. */
const callTimeoutMs = 30_000;
/** A connection takes 256 calls at once; a starved test sends many together. */
const connectionsPerNode = 4;
const downMs = 250;

export interface CallCounts {
  readonly calls: number;
  /** Calls that failed on two nodes. */
  readonly failed: number;
  readonly retried: number;
  readonly lastError: string;
}

/** Clients of all nodes. A call goes to the caller's node, and once to the next where the first is UNAVAILABLE. */
export class Nodes {
  readonly #clients: readonly (readonly PresenceClient[])[];
  /** Until when nobody tries a node that refused a connection. */
  readonly #downUntilMs: number[];
  #next = 0;
  #calls = 0;
  #failed = 0;
  #retried = 0;
  #lastError = '';

  constructor(servers: readonly ServerProcess[]) {
    this.#downUntilMs = servers.map(() => 0);
    this.#clients = servers.map(({ grpcUrl }) =>
      Array.from({ length: connectionsPerNode }, () =>
        createClient(PresenceService, createGrpcTransport({ baseUrl: grpcUrl })),
      ),
    );
  }

  counts(): CallCounts {
    return {
      calls: this.#calls,
      failed: this.#failed,
      retried: this.#retried,
      lastError: this.#lastError,
    };
  }

  /** A client of a node, by any of its connections. */
  client(node: number): PresenceClient {
    const clients = this.#clients[node % this.#clients.length] as readonly PresenceClient[];
    return clients[this.#next++ % clients.length] as PresenceClient;
  }

  /** undefined: it failed on both. */
  async call<Reply>(
    home: number,
    send: (client: PresenceClient, options: { timeoutMs: number }) => Promise<Reply>,
  ): Promise<Reply | undefined> {
    this.#calls++;
    const errors: string[] = [];
    let wanted = home;
    for (let attempt = 0; attempt < 2; attempt++) {
      const node = this.#choose(wanted);
      wanted = node + 1;
      try {
        return await send(this.client(node), { timeoutMs: callTimeoutMs });
      } catch (error) {
        errors.push(`node ${node}: ${error}`);
        if (String(error).includes('ECONNREFUSED')) this.#downUntilMs[node] = Date.now() + downMs;
        if (!isUnavailable(ConnectError.from(error))) break;
        if (attempt === 0) this.#retried++;
      }
    }
    this.#failed++;
    this.#lastError = `${new Date().toISOString()} ${errors.join(', ')}`;
    return undefined;
  }

  /** The node asked for, or the next one that is not known to be down. */
  #choose(wanted: number): number {
    const nodes = this.#clients.length;
    const nowMs = Date.now();
    for (let i = 0; i < nodes; i++) {
      const node = (wanted + i) % nodes;
      if ((this.#downUntilMs[node] as number) <= nowMs) return node;
    }
    return wanted % nodes;
  }
}

/**
 * A refused stream, or a connection lost under a call: gRPC calls these UNAVAILABLE, this client library does not. A server
 * gives up a client that is starved of the processor by SETTINGS_TIMEOUT (4); any other code is a fault of ours.
 */
function isUnavailable({ code, message }: ConnectError): boolean {
  return code === Code.Unavailable || lostConnection.test(message);
}

const lostConnection =
  /REFUSED_STREAM|stream closed with error code CANCEL|Session closed with error code 4|ECONNRESET/;
