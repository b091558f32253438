/** `pilotlight top` and `pilotlight demo` as a user runs them: real processes, a real server. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { demoNames, maxDemoUsers } from '../../src/cli/demo-command.ts';
import { topFrame } from '../../src/cli/top-command.ts';
import type { Stats } from '../../src/observe/stats.ts';
import { startProcess } from '../support/child-process.ts';
import { request } from '../support/http.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { freePort } from '../support/redis-server.ts';
import { waitFor } from '../support/wait.ts';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

function pilotlight(...args: string[]): {
  child: ChildProcess;
  out: () => string;
  exit: Promise<number | null>;
} {
  const child = startProcess(process.execPath, [main, ...args]);
  let out = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      out += chunk;
    });
  }
  return { child, out: () => out, exit: once(child, 'close').then(([code]) => code as number | null) };
}

describe('pilotlight demo and top', () => {
  let server: TestServer;
  const stats = async () => (await request(`${server.httpUrl}/v1/stats`)).body as Stats;

  before(async () => {
    server = await startServer({ USER_STATUS_TTL: '10s', HEARTBEAT_INTERVAL: '1s' });
    await waitFor('the first sample', async () => (await stats()).sample !== undefined);
  });
  after(() => server.stop());

  it('demo brings users online, and home again', { timeout: 60_000 }, async () => {
    const address = `127.0.0.1:${server.grpcPort}`;
    const demo = pilotlight('demo', '--address', address, '--users', '60', '--for', '6s');
    await waitFor('some to be online', async () => ((await stats()).sample.online ?? 0) >= 5);
    await waitFor('heartbeats', async () => (await stats()).history.some((it) => it.heartbeats > 0));
    assert.equal(await demo.exit, 0, demo.out());
    assert.match(
      demo.out(),
      /^60 pretend users come and go; stop with Ctrl\+C\n[\s\S]*everybody goes home\n$/,
    );
    await waitFor('all to be home', async () => (await stats()).sample.online === 0);
  });

  it('demo has a name for each user', () => {
    assert.equal(new Set(demoNames(maxDemoUsers)).size, maxDemoUsers);
  });

  it('top shows the whole system at one look', async () => {
    await server.client.setUserStatus({ userId: 'ada', status: 1 });
    await waitFor('the sample', async () => (await stats()).sample.online === 1);
    const top = pilotlight('top', '--url', server.httpUrl, '--once');
    assert.equal(await top.exit, 0, top.out());
    assert.match(top.out(), /^Pilotlight \S+ {2}● ready {2}memory engine, 1 node$/m);
    assert.match(top.out(), /^online +1 /m);
    assert.match(top.out(), new RegExp(`^${(await stats()).nodeId.slice(0, 8)} +ready `, 'm'));
  });

  it('top fits the terminal', async () => {
    const wide = topFrame(await stats(), 60, false);
    assert.ok(wide.every((line) => line.length <= 60));
  });

  it('both say so when nobody answers', async () => {
    const port = await freePort();
    const top = pilotlight('top', '--url', `http://127.0.0.1:${port}`, '--once');
    const demo = pilotlight('demo', '--address', `127.0.0.1:${port}`);
    assert.equal(await top.exit, 1);
    assert.match(
      top.out(),
      /^pilotlight: no server answers at http:\/\/127\.0\.0\.1:\d+; start one with: pilotlight serve\n$/,
    );
    assert.equal(await demo.exit, 1);
    assert.match(demo.out(), /no server answers/);
  });

  it('top says so when somebody else answers', async () => {
    const grpc = pilotlight('top', '--url', `http://127.0.0.1:${server.grpcPort}`, '--once');
    assert.equal(await grpc.exit, 1);
  });
});
