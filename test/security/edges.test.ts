/** What caches keep, what TLS takes, and what claims may be. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { connect } from 'node:tls';
import { makeAuthority, makeCertificate } from '../support/certificates.ts';
import { temporaryFolder } from '../support/child-process.ts';
import { startServer } from '../support/pilotlight.ts';
import { apiKeysFile, secureEnvironment, token } from './support/credentials.ts';

describe('edges of security', () => {
  it('no cache keeps presence data, nor an error about it', async () => {
    const server = await startServer();
    try {
      for (const path of [
        '/v1/users/ada/status',
        '/v1/users/%00/status',
        '/v1/users/ada/privacy',
        '/v1/stats',
      ]) {
        const answer = await fetch(server.httpUrl + path);
        await answer.text();
        assert.equal(answer.headers.get('cache-control'), 'no-store', path);
      }
      const answer = await fetch(`${server.httpUrl}/presence.v1.PresenceService/GetUserStatus`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"userId":"ada"}',
      });
      await answer.text();
      assert.equal(answer.headers.get('cache-control'), 'no-store', 'Connect');
    } finally {
      await server.stop();
    }
  });

  it('a page of another site changes nothing by GET', async () => {
    const server = await startServer();
    const statusOf = async (headers: Record<string, string>) => {
      const aborter = new AbortController();
      const answer = await fetch(`${server.httpUrl}/v1/events?watch=bob&user_id=ada`, {
        headers,
        signal: aborter.signal,
      });
      aborter.abort();
      return answer.status;
    };
    try {
      assert.equal(await statusOf({ 'sec-fetch-site': 'cross-site' }), 403);
      assert.equal(await statusOf({ 'sec-fetch-site': 'same-origin' }), 200);
      assert.equal(await statusOf({}), 200);
    } finally {
      await server.stop();
    }
  });

  it('claims of the wrong type are refused', async () => {
    const keys = apiKeysFile();
    const server = await startServer(secureEnvironment(keys.file));
    try {
      for (const claims of [{ sub: 7 }, { scope: ['presence:read'] }, { sub: null }]) {
        const all = { scope: 'presence:read', ...claims } as Record<string, unknown>;
        const bearer = { authorization: `Bearer ${await token(undefined, { claims: all })}` };
        const answer = await fetch(`${server.httpUrl}/v1/users/ada/status`, { headers: bearer });
        await answer.text();
        assert.equal(answer.status, 401, JSON.stringify(claims));
      }
    } finally {
      await server.stop();
      keys.remove();
    }
  });

  it('both ports take no cipher suite without authenticated encryption', async () => {
    const folder = temporaryFolder('tls');
    const path = (name: string) => join(folder, name);
    makeAuthority(path, 'ca');
    makeCertificate(path, 'ca', 'server');
    const server = await startServer({ TLS_CERT: path('server.pem'), TLS_KEY: path('server.key') });
    const handshake = (port: number, ciphers: string) =>
      new Promise<boolean>((resolve) => {
        const socket = connect({
          port,
          host: '127.0.0.1',
          ciphers,
          maxVersion: 'TLSv1.2',
          rejectUnauthorized: false,
          ALPNProtocols: ['h2', 'http/1.1'],
        });
        socket.once('secureConnect', () => resolve(true));
        socket.once('error', () => resolve(false));
        socket.once('close', () => resolve(false));
        socket.once('secureConnect', () => socket.destroy());
      });
    try {
      for (const port of [server.grpcPort, Number(new URL(server.httpUrl).port)]) {
        assert.equal(await handshake(port, 'ECDHE-ECDSA-AES128-GCM-SHA256'), true);
        assert.equal(await handshake(port, 'ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA'), false);
      }
    } finally {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
