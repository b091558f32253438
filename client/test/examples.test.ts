/** The examples: they run, and they build. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import react from '@vitejs/plugin-react';
import { build, type Rolldown } from 'vite';
import { endProcess, startProcess } from '../../test/support/child-process.ts';
import { startServer, type TestServer } from '../../test/support/pilotlight.ts';
import { waitFor } from '../../test/support/wait.ts';

const at = (path: string) => fileURLToPath(new URL(`../../examples/${path}`, import.meta.url));

describe('examples', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({ DRAIN_TIMEOUT: '200ms' });
  });
  after(() => server.stop());

  it('node/watch.ts tells who comes and goes', async () => {
    const child = startProcess(process.execPath, [at('node/watch.ts'), 'ada'], {
      env: { ...process.env, PRESENCE_URL: `http://127.0.0.1:${server.grpcPort}` },
    });
    let output = '';
    child.stdout.on('data', (data) => {
      output += data;
    });
    try {
      await waitFor('the first state', () => output === 'ada is OFFLINE\n');
      await server.client.setUserStatus({ userId: 'ada', status: UserStatus.ONLINE });
      await waitFor('the change', () => output.includes('ada is ONLINE (was OFFLINE)\n'));
    } finally {
      await endProcess(child);
    }
  });

  for (const name of ['browser', 'react']) {
    it(`${name}/ builds`, async () => {
      const result = (await build({
        configFile: false,
        logLevel: 'silent',
        root: at(name),
        plugins: name === 'react' ? [react()] : [],
        build: { write: false },
      })) as Rolldown.RolldownOutput;
      assert.ok(
        result.output.some((chunk) => chunk.type === 'chunk' && chunk.code.includes('presence.v1.json')),
      );
    });
  }
});
