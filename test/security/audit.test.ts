/** The log of refusals: who, what, why; bounded, and without secrets. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readConfig } from '../../src/config.ts';
import type { Log } from '../../src/observe/log.ts';
import { Audit } from '../../src/security/audit.ts';
import { Server } from '../../src/server.ts';
import { apiKeys, apiKeysFile, secureEnvironment, token } from './support/credentials.ts';

type Line = Readonly<Record<string, unknown>>;

function recorder(): { log: Log; lines: Line[]; all: unknown[] } {
  const lines: Line[] = [];
  const all: unknown[] = [];
  const write = (...it: unknown[]) => {
    all.push(it);
    if ((it[0] as Line)?.audit) lines.push(it[0] as Line);
  };
  return { log: { debug: write, info: write, warn: write, error: write } as unknown as Log, lines, all };
}

describe('the audit log', () => {
  it('says who was refused what, and why, and no secret', async (context) => {
    const keys = apiKeysFile();
    const { log, lines, all } = recorder();
    const environment = { ...secureEnvironment(keys.file), WATCH_POLICY: 'claims' };
    const server = new Server(readConfig({ ...environment, GRPC_PORT: '0', HTTP_PORT: '0' }), log);
    const { http } = await server.start();
    const ada = await token('ada', { claims: { watch: ['bob'] } });
    const expired = await token('eve', { expiresIn: -1000 });
    const ask = async (path: string, bearer: string, init: RequestInit = {}) => {
      const headers = { ...(bearer && { authorization: `Bearer ${bearer}` }), ...init.headers };
      const answer = await fetch(`http://127.0.0.1:${http.port}${path}`, { ...init, headers });
      await answer.text();
    };
    try {
      const isLast = (expected: Line) => {
        const { why, ...facts } = lines.at(-1) ?? {};
        assert.deepEqual(facts, { audit: 'refused', ...expected });
        assert.ok(typeof why === 'string' && why.length > 0);
      };
      const here = { address: '127.0.0.1' };
      await ask('/v1/users/ada/status', '');
      isLast({ ...here, operation: 'authenticate' });
      await ask('/v1/users/ada/status', expired);
      isLast({ ...here, operation: 'authenticate' });
      const brief = await token('fay', { expiresIn: 1 });
      await ask('/v1/users/fay/status', brief);
      const logged = lines.length;
      const { now } = Date;
      context.mock.method(Date, 'now', () => now() + 60_000);
      await ask('/v1/users/fay/status', brief);
      context.mock.restoreAll();
      assert.equal(lines.length, logged + 1, 'a token that was remembered, and has expired');
      isLast({ ...here, operation: 'authenticate' });
      await ask('/v1/users/bob/heartbeat', ada, { method: 'POST' });
      isLast({ caller: 'user', id: 'ada', operation: 'update this user' });
      await ask('/v1/users/cyd/status', ada);
      isLast({ caller: 'user', id: 'ada', operation: 'watch users' });
      await ask('/metrics', apiKeys.read);
      isLast({ caller: 'backend', id: 'read', operation: 'operate this server' });
      await ask('/v1/users/ada/status', ada, { headers: { origin: 'https://evil.example' } });
      isLast({ ...here, operation: 'use the server from a page' });
      const text = JSON.stringify(all);
      for (const secret of [ada, expired, apiKeys.read, 'cyd']) assert.ok(!text.includes(secret), secret);
    } finally {
      await server.stop();
      keys.remove();
    }
  });

  it('bounds lines by caller, and counts those that it left out', () => {
    const { log, lines } = recorder();
    const audit = new Audit(log);
    for (let index = 0; index < 500; index++) audit.refused({ address: '192.0.2.1' }, 'x', 'y');
    assert.ok(lines.length >= 5 && lines.length <= 10, `${lines.length} lines`);
    const before = lines.length;
    audit.refused({ kind: 'user', id: 'ada' }, 'x', 'y');
    assert.equal(lines.at(-1)?.suppressed, 500 - before, 'another caller has lines of its own');
    for (let index = 0; index < 500; index++) audit.refused({ address: '192.0.2.1' }, 'x', 'y');
    audit.stop();
    assert.equal(lines.at(-1)?.audit, 'suppressed');
    const told = lines.reduce((sum, { suppressed }) => sum + Number(suppressed ?? 0), 0);
    const single = lines.filter((line) => line.audit === 'refused').length;
    assert.equal(told + single, 1001);
  });
});
