import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import type { ConnectOptions, RawClient } from './raw-client.ts';
import { type ServerOptions, startServer, type TestServer } from './test-server.ts';

/** One server for a test file, started before its tests. `use()` gives a test its own checked connection. */
export class Suite {
  #server: TestServer | undefined;

  constructor(options: ServerOptions = {}, register?: Parameters<typeof startServer>[1]) {
    before(async () => {
      this.#server = await startServer(options, register);
    });
    after(async () => {
      await this.#server?.close();
      assert.deepEqual(this.#server?.errors, [], 'the server reported internal errors');
    });
  }

  get server(): TestServer {
    assert.ok(this.#server, 'the server is started before the tests');
    return this.#server;
  }

  async use(steps: (client: RawClient) => Promise<void>, options?: ConnectOptions): Promise<void> {
    await useClient(this.server, steps, options);
  }
}

/** A connection for these steps; afterwards the server's manners on it are asserted. */
export async function useClient(
  server: TestServer,
  steps: (client: RawClient) => Promise<void>,
  options?: ConnectOptions,
): Promise<void> {
  const client = await server.connect(options);
  try {
    await steps(client);
  } finally {
    client.destroy();
  }
  await client.close();
}

/** A server of its own with these options for one test. */
export async function useServer(
  options: ServerOptions,
  steps: (server: TestServer) => Promise<void>,
  register?: Parameters<typeof startServer>[1],
): Promise<void> {
  const server = await startServer(options, register);
  try {
    await steps(server);
  } finally {
    await server.close();
  }
  assert.deepEqual(server.errors, [], 'the server reported internal errors');
}
