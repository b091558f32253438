/** What browsers are told: who may use the server from a page, and what a page of the server may do. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { isAllowedOrigin } from '../../src/transport/http/origins.ts';
import { errorOf, request } from '../support/http.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';

const friend = 'https://app.example.com';

describe('rules for browsers', () => {
  let server: TestServer;
  let path: string;

  before(async () => {
    server = await startServer({ ALLOWED_ORIGINS: `${friend}, http://localhost:3000` });
    path = `${server.httpUrl}/v1/users/ada/status`;
  });
  after(() => server.stop());

  it('lets pages of the server itself and of allowed origins in', async () => {
    for (const origin of [server.httpUrl, friend, 'http://localhost:3000']) {
      assert.equal((await request(path, 'GET', undefined, { origin })).status, 200, origin);
    }
    const { headers } = await request(path, 'GET', undefined, { origin: friend });
    assert.equal(headers.get('access-control-allow-origin'), friend);
    assert.match(headers.get('vary') ?? '', /Origin/i);
  });

  it('keeps pages of other origins out, whatever they ask for', async () => {
    const origin = 'https://evil.example';
    for (const [method, url] of [
      ['GET', path],
      ['POST', `${server.httpUrl}/v1/users/ada/heartbeat`],
      ['GET', `${server.httpUrl}/metrics`],
      ['POST', `${server.httpUrl}/presence.v1.PresenceService/GetUserStatus`],
    ] as const) {
      const answer = await request(url, method, undefined, { origin });
      assert.equal(answer.status, 403, url);
      const message =
        'pages of this origin may not use this server; see ALLOWED_ORIGINS, and TRUSTED_PROXIES behind a proxy with TLS';
      assert.deepEqual(answer.body, errorOf('UNAUTHORIZED', message));
      assert.equal(answer.headers.get('access-control-allow-origin'), null);
    }
  });

  it('answers preflights of allowed origins only', async () => {
    const ask = (origin: string) =>
      request(path, 'OPTIONS', undefined, {
        origin,
        'access-control-request-method': 'PUT',
        'access-control-request-headers': 'content-type',
      });
    const allowed = await ask(friend);
    assert.equal(allowed.status, 204);
    assert.match(allowed.headers.get('access-control-allow-methods') ?? '', /PUT/);
    assert.equal((await ask('https://evil.example')).status, 403);
  });

  it('forbids inline script, framing and other hosts', async () => {
    const { headers } = await request(`${server.httpUrl}/`);
    const policy = headers.get('content-security-policy') ?? '';
    assert.match(policy, /default-src 'none'/);
    assert.match(policy, /script-src 'self'(;|$)/);
    assert.match(policy, /frame-ancestors 'none'/);
    assert.doesNotMatch(policy, /unsafe|https?:|\*/);
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
  });

  it('compares scheme, host and port, hosts without regard to case, and never takes a malformed origin', () => {
    assert.equal(isAllowedOrigin('http://Example.com:8080', 'http://example.com:8080', []), true);
    assert.equal(isAllowedOrigin('http://example.com', 'http://EXAMPLE.com', []), true);
    assert.equal(isAllowedOrigin('https://example.com', 'https://example.com:443', []), true);
    assert.equal(isAllowedOrigin('null', 'http://example.com', []), false);
    assert.equal(isAllowedOrigin('', 'http://example.com', []), false);
    assert.equal(isAllowedOrigin('http://example.com:8081', 'http://example.com:8080', []), false);
    assert.equal(isAllowedOrigin('http://example.com.evil.net', 'http://example.com', []), false);
    assert.equal(isAllowedOrigin('http://example.com', 'https://example.com', []), false);
    assert.equal(isAllowedOrigin('https://example.com', 'http://example.com', []), false);
  });
});
