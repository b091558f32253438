import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Flag, ping, Type } from '../support/frames.ts';
import type { ConnectOptions, RawClient } from '../support/raw-client.ts';
import { PLAIN_BODY, startServer, type TestServer, value } from '../support/test-server.ts';

/** One row of a conformance table: what is sent after the handshake, and what must come back. */
export interface Case {
  /** h2spec's id, or `x/N` for the cases beyond it. */
  readonly id: string;
  readonly title: string;
  readonly connect?: ConnectOptions;
  /** Bytes to send, or steps. */
  readonly send: Uint8Array | ((client: RawClient) => void | Promise<void>);
  readonly expect: (client: RawClient) => Promise<unknown>;
}

/** Registers a test per row, all against one server, each on a connection of its own. */
export function runCases(cases: readonly Case[], options: Parameters<typeof startServer>[0] = {}): void {
  let server: TestServer;
  before(async () => {
    server = await startServer(options);
  });
  after(() => server.close());
  for (const { id, title, connect, send, expect } of cases) {
    test(`${id} ${title}`, async () => {
      const client = await server.connect(connect);
      try {
        if (typeof send === 'function') await send(client);
        else client.send(send);
        await expect(client);
      } finally {
        client.destroy();
      }
      await client.close();
      assert.deepEqual(server.errors, [], 'the server reported an internal error');
    });
  }
}

/** The whole plain answer on a stream, with this status. */
export function answered(streamId: number, status = '200'): Case['expect'] {
  return async (client) => {
    const { fields } = await client.expectHeaders(streamId);
    assert.equal(value(fields, ':status'), status);
    if (!client.on(streamId).some((f) => f.endStream)) await client.expectEndStream(streamId);
    const body = client.on(streamId).filter((f) => f.type === Type.DATA);
    if (body.length > 0) assert.equal(Buffer.concat(body.map((f) => f.payload)).toString(), PLAIN_BODY);
    await client.expectAlive();
  };
}

export function alive(): Case['expect'] {
  return (client) => client.expectAlive();
}

export function connectionError(code: number): Case['expect'] {
  return (client) => client.expectGoaway(code);
}

export function streamError(streamId: number, code: number): Case['expect'] {
  return (client) => client.expectStreamError(streamId, code);
}

/** RST_STREAM and nothing else: the connection lives on. */
export function streamReset(streamId: number, code: number): Case['expect'] {
  return async (client) => {
    await client.expectRst(streamId, code);
    await client.expectAlive();
  };
}

/** A PING ACK with the same eight bytes and no other flag. */
export function pingAnswered(payload: string): Case['expect'] {
  return async (client) => {
    await client.expectPingAck(payload);
    const acks = client.frames.filter((f) => f.type === Type.PING);
    assert.equal(acks.length, 1, 'one PING, one answer');
    assert.equal(acks[0]?.flags, Flag.ACK);
    assert.equal(acks[0]?.streamId, 0);
    await client.expectAlive();
  };
}

/** A frame sequence followed by a PING that must be answered. */
export function thenPing(...frames: readonly Uint8Array[]): Buffer {
  return Buffer.concat([...frames, ping('h2spec!!')]);
}
