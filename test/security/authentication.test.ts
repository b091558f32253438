/** How callers prove who they are, for how long, and what happens while the issuer is away. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server as HttpServer, type ServerResponse } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { PresenceService } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { exportJWK, jwtVerify, SignJWT } from 'jose';
import { CommandError, getCommand } from '../../src/cli/client-commands.ts';
import { topCommand } from '../../src/cli/top-command.ts';
import { readConfig } from '../../src/config.ts';
import { PresenceError } from '../../src/core/errors.ts';
import { silentLog } from '../../src/observe/log.ts';
import { Authenticator } from '../../src/security/authenticator.ts';
import { JwksKeys } from '../../src/security/jwks.ts';
import { temporaryFolder } from '../support/child-process.ts';
import { EventReader } from '../support/http.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import {
  apiKeys,
  apiKeysFile,
  apiKeysText,
  audience,
  issuer,
  secureEnvironment,
  token,
} from './support/credentials.ts';
import { Endpoint, wrongAnswers } from './support/endpoint.ts';
import { type SessionWire, TestSession } from './support/session.ts';

const wires: readonly SessionWire[] = ['gRPC', 'WebSocket'];
const bearer = (value: string) => ({ authorization: `Bearer ${value}` });

describe('authentication', () => {
  let server: TestServer;
  let keys: { file: string; remove: () => void };

  before(async () => {
    keys = apiKeysFile();
    server = await startServer(secureEnvironment(keys.file));
  });
  after(async () => {
    await server.stop();
    keys.remove();
  });

  for (const wire of wires) {
    it(`tells a session over ${wire} that its token expires, takes a newer one, and ends the others`, async () => {
      const renewing = TestSession.open(wire, server, await token('ada', { expiresIn: 4 }));
      const silent = TestSession.open(wire, server, await token('bob', { expiresIn: 4 }));
      assert.equal(await renewing.ask({ case: 'hello', value: { userId: 'ada' } }), 'welcome');
      assert.equal(await silent.ask({ case: 'hello', value: { userId: 'bob' } }), 'welcome');
      await waitFor('the notice', () => renewing.has('tokenExpiring') && silent.has('tokenExpiring'));
      assert.equal(await renewing.ask({ case: 'authenticate', value: { token: await token('ada') } }), 'ack');
      assert.equal(await silent.closes(), 4005);
      assert.equal(await renewing.ask({ case: 'query', value: { userIds: ['bob'] } }), 'states');
      await renewing.ask({ case: 'goodbye', value: {} });
    });

    it(`takes no newer token over ${wire} that allows less than the session does`, async () => {
      const gateway = (scope: string) => token(undefined, { claims: { client_id: 'gateway', scope } });
      const session = TestSession.open(wire, server, await gateway('presence:write presence:read'));
      const renew = async (value: string) => session.ask({ case: 'authenticate', value: { token: value } });
      assert.equal(await session.ask({ case: 'hello', value: { userId: 'ada' } }), 'welcome');
      assert.equal(await renew(await gateway('presence:read')), 'error UNAUTHORIZED', 'no more for ada');
      assert.equal(await renew(await gateway('presence:write')), 'error UNAUTHORIZED', 'no more to watch');
      assert.equal(await renew(await gateway('presence:write presence:read')), 'ack');
      await session.ask({ case: 'goodbye', value: {} });
    });

    it(`takes a token in the hello over ${wire}`, async () => {
      const session = TestSession.open(wire, server, null);
      const hello = { userId: 'ada', token: await token('ada') };
      assert.equal(await session.ask({ case: 'hello', value: hello }), 'welcome');
      await session.ask({ case: 'goodbye', value: {} });
    });
  }

  it('takes a token as a subprotocol of a WebSocket, and chooses another', async () => {
    const session = TestSession.webSocket(server, {}, [`presence.bearer.${await token('ada')}`]);
    assert.equal(await session.ask({ case: 'hello', value: { userId: 'ada' } }), 'welcome');
    await session.ask({ case: 'goodbye', value: {} });
    const forged = TestSession.webSocket(server, {}, ['presence.bearer.forged']);
    assert.equal(await forged.ask({ case: 'hello', value: { userId: 'ada' } }), 'error UNAUTHORIZED');
    assert.equal(await forged.closes(), 4503);
  });

  it('ends subscriptions when their token expires', async () => {
    const value = await token('ada', { expiresIn: 3 });
    const events = new EventReader(`${server.httpUrl}/v1/events?watch=carol`, bearer(value));
    const streams = [
      createGrpcTransport({ baseUrl: `http://127.0.0.1:${server.grpcPort}` }),
      createGrpcWebTransport({ baseUrl: server.httpUrl, httpVersion: '1.1' }),
    ].map(async (transport) => {
      const client = createClient(PresenceService, transport);
      let told = 0;
      try {
        const request = { watchUserIds: ['carol'], userId: 'ada' };
        for await (const _ of client.subscribeStatusUpdates(request, { headers: bearer(value) })) told++;
      } catch (error) {
        return [told, ConnectError.from(error).code];
      }
      return [told, 0];
    });
    assert.equal(await events.status, 200);
    for (const [told, code] of await Promise.all(streams)) {
      assert.equal(told, 1, 'the snapshot came first');
      assert.equal(code, 16);
    }
    await waitFor('the stream of events to end', () => events.ended);
    assert.match(events.events.find(({ event }) => event === 'end')?.data ?? '', /UNAUTHORIZED/);
    await waitFor('all watches to be gone', () => server.server.stats().hub.subscriptions === 0);
  });

  it('ends a stream of events whose token expired while it was being opened', async () => {
    const directory = await Endpoint.start('known');
    directory.behaviour = (response) => setTimeout(() => response.end('{"known":["carol"]}'), 2500);
    const slow = await startServer({
      ...secureEnvironment(keys.file),
      USER_DIRECTORY: 'http',
      USER_DIRECTORY_URL: directory.url,
      USER_DIRECTORY_TIMEOUT: '10s',
    });
    const value = await token('ada', { expiresIn: 1 });
    const events = new EventReader(`${slow.httpUrl}/v1/events?watch=carol`, bearer(value));
    assert.equal(await events.status, 200);
    await waitFor('the stream of events to end', () => events.ended);
    assert.match(events.events.find(({ event }) => event === 'end')?.data ?? '', /UNAUTHORIZED/);
    await waitFor('the watch to be gone', () => slow.server.stats().hub.subscriptions === 0);
    await slow.stop();
    directory.stop();
  });

  it('shows reflection to operators only', async () => {
    const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
    assert.equal(await askGrpc(server.grpcPort, path, {}), '16');
    assert.equal(await askGrpc(server.grpcPort, path, bearer(apiKeys.read)), '7');
    assert.equal(await askGrpc(server.grpcPort, path, bearer(apiKeys.admin)), '0');
    assert.equal(await askGrpc(server.grpcPort, '/grpc.health.v1.Health/Check', {}), '0');
  });

  it('is spoken by the commands', async () => {
    const run = async (token: string | undefined) => {
      const lines: string[] = [];
      const { signal } = new AbortController();
      const print = (line: string) => lines.push(line);
      const address = `127.0.0.1:${server.grpcPort}`;
      const context = { address, token, json: true, colour: false, signal, print };
      await getCommand(context, ['ada']);
      await topCommand(context, { url: server.httpUrl, once: true, columns: undefined });
      return lines.length;
    };
    assert.equal(await run(apiKeys.admin), 2);
    await assert.rejects(run(undefined), CommandError);
    await assert.rejects(run(apiKeys.read), /PILOTLIGHT_TOKEN/);
  });

  it('reads its keys again when the file changes, and keeps them when the change is no good', async () => {
    const statusWith = async (key: string) =>
      (await fetch(`${server.httpUrl}/v1/users/ada/status`, { headers: bearer(key) })).status;
    assert.equal(await statusWith(apiKeys.read), 200);
    writeFileSync(keys.file, '[{ "id": "torn');
    await sleep(1500);
    assert.equal(await statusWith(apiKeys.read), 200);
    writeFileSync(`${keys.file}.new`, apiKeysText({ admin: apiKeys.admin, read: 'the-key-that-came-after' }));
    renameSync(`${keys.file}.new`, keys.file);
    await waitFor(
      'the new key to be taken',
      async () => (await statusWith('the-key-that-came-after')) === 200,
    );
    assert.equal(await statusWith(apiKeys.read), 401);
    assert.equal(await statusWith(apiKeys.admin), 200);
  });
});

describe('options of authentication', () => {
  const problems = (environment: Record<string, string>) => {
    try {
      readConfig(environment);
      return [];
    } catch (error) {
      return (error as { problems: string[] }).problems;
    }
  };
  const secret = 'x'.repeat(32);

  it('refuse what would look like protection and be none', () => {
    for (const environment of [
      { AUTH_JWT_SECRET: secret },
      { AUTH_API_KEYS_FILE: 'keys.json' },
      { AUTH: 'jwt' },
      { AUTH: 'api-keys' },
      { AUTH: 'basic' },
      { AUTH: 'jwt', AUTH_JWT_SECRET: 'short' },
      { AUTH: 'jwt', AUTH_JWT_SECRET: secret, AUTH_JWKS_URL: 'https://issuer.test' },
      { AUTH: 'jwt', AUTH_JWT_SECRET: secret, AUTH_JWT_ALG: 'RS256' },
      { AUTH: 'jwt', AUTH_JWT_SECRET: secret, AUTH_JWT_ALG: 'none' },
      { AUTH: 'jwt', AUTH_JWT_PUBLIC_KEY: 'key.pem', AUTH_JWT_ALG: 'HS256' },
      { AUTH: 'jwt', AUTH_JWKS_URL: 'https://issuer.test' },
      { AUTH: 'jwt', AUTH_JWKS_URL: 'http://issuer.test', AUTH_JWT_ISSUER: 'a', AUTH_JWT_AUDIENCE: 'b' },
    ]) {
      assert.ok(problems(environment).length > 0, JSON.stringify(environment));
    }
    assert.deepEqual(problems({ AUTH: 'jwt', AUTH_JWT_SECRET: secret }), []);
  });

  it('never show the secret', () => {
    const text = problems({ AUTH: 'jwt', AUTH_JWT_SECRET: 'short-secret' }).join();
    assert.ok(text.includes('AUTH_JWT_SECRET') && !text.includes('short-secret'), text);
  });
});

describe('a public key file', () => {
  it('pins its algorithm, and is read again when it changes', async () => {
    const folder = temporaryFolder('key');
    const file = join(folder, 'key.pem');
    const first = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const second = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const pem = ({ publicKey }: { publicKey: KeyObject }) =>
      publicKey.export({ type: 'spki', format: 'pem' });
    writeFileSync(file, pem(first));
    const authenticator = new Authenticator({
      ...readConfig({ AUTH: 'jwt', AUTH_JWT_PUBLIC_KEY: file, AUTH_JWT_ALG: 'ES256' }),
      log: silentLog,
    });
    authenticator.start();
    const sign = (key: KeyObject | Uint8Array, alg: string) =>
      new SignJWT({ sub: 'ada' }).setProtectedHeader({ alg }).setExpirationTime('1h').sign(key);
    try {
      const old = await sign(first.privateKey, 'ES256');
      assert.equal((await authenticator.authenticate(old)).userId, 'ada');
      // The public key as if it were a shared secret.
      const confused = await sign(Buffer.from(pem(first)), 'HS256');
      await assert.rejects(async () => authenticator.authenticate(confused), isUnauthenticated);
      writeFileSync(file, pem(second));
      const young = await sign(second.privateKey, 'ES256');
      await waitFor('the new key', async () => {
        try {
          return (await authenticator.authenticate(young)).userId === 'ada';
        } catch {
          return false;
        }
      });
      await assert.rejects(async () => authenticator.authenticate(old), isUnauthenticated);
    } finally {
      authenticator.stop();
      rmSync(folder, { recursive: true });
    }
  });
});

describe('an issuer of keys (JWKS)', () => {
  let http: HttpServer;
  let url: string;
  let requests = 0;
  let answer: (response: ServerResponse) => void;
  const pairs = ['one', 'two'].map((kid) => ({ kid, ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) }));

  const keySet =
    (...kids: string[]) =>
    async (response: ServerResponse) => {
      const chosen = pairs.filter(({ kid }) => kids.includes(kid));
      const keys = await Promise.all(
        chosen.map(async ({ kid, publicKey }) => ({ ...(await exportJWK(publicKey)), kid, alg: 'ES256' })),
      );
      response.end(JSON.stringify({ keys }));
    };
  const sign = (kid: string) =>
    new SignJWT({ sub: 'ada', iss: issuer, aud: audience })
      .setProtectedHeader({ alg: 'ES256', kid })
      .setExpirationTime('1h')
      .sign((pairs.find((pair) => pair.kid === kid) ?? (pairs[0] as (typeof pairs)[0])).privateKey);

  before(async () => {
    http = createServer((_request, response) => {
      requests++;
      answer(response);
    });
    http.listen(0, '127.0.0.1');
    await once(http, 'listening');
    url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/keys`;
  });
  after(() => {
    http.closeAllConnections();
    http.close();
  });

  const newKeys = (changes: { onChange?: () => void; cacheMs?: number; staleMs?: number } = {}) =>
    new JwksKeys({
      url,
      cacheMs: 60_000,
      staleMs: 60_000,
      timeoutMs: 200,
      cooldownMs: 100,
      log: silentLog,
      onChange: () => {},
      ...changes,
    });
  const verify = async (keys: JwksKeys, kid: string) => {
    const { payload } = await jwtVerify(await sign(kid), keys.get, { algorithms: ['ES256'] });
    return payload.sub;
  };

  it('that is slow, down or wrong at first lets nobody in, and everybody when it is back', async () => {
    const keys = newKeys();
    const wrongs: ((response: ServerResponse) => void)[] = [
      () => {},
      (response) => response.socket?.destroy(),
      (response) => response.writeHead(500).end('{}'),
      (response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
      (response) => response.end('not JSON'),
      (response) => response.end('{"keys": 7}'),
      (response) => response.end(`"${'x'.repeat(2 * 1024 * 1024)}"`),
    ];
    for (const wrong of wrongs) {
      answer = wrong;
      await sleep(110);
      await assert.rejects(verify(keys, 'one'));
    }
    answer = keySet('one');
    await sleep(110);
    assert.equal(await verify(keys, 'one'), 'ada');
  });

  it('that answers wrongly once it has answered rightly changes nothing', async () => {
    const keys = newKeys({ cacheMs: 1 });
    answer = keySet('one');
    assert.equal(await verify(keys, 'one'), 'ada');
    for (const wrong of Object.values(wrongAnswers)) {
      const before = requests;
      answer = (response) => wrong(response, { users: [] });
      await waitFor('a question', async () => {
        assert.equal(await verify(keys, 'one'), 'ada');
        return requests > before;
      });
    }
  });

  it('that rotates its keys is followed, and asked once per cooldown whatever keys tokens name', async () => {
    let changes = 0;
    const keys = newKeys({ onChange: () => changes++ });
    answer = keySet('one');
    assert.equal(await verify(keys, 'one'), 'ada');
    await assert.rejects(verify(keys, 'two'));
    answer = keySet('two');
    await sleep(110);
    assert.equal(await verify(keys, 'two'), 'ada');
    await assert.rejects(verify(keys, 'one'), 'a withdrawn key counts no more');
    assert.equal(changes, 2);
    await sleep(110);
    const before = requests;
    for (let i = 0; i < 20; i++) await assert.rejects(verify(keys, `made-up-${i}`));
    // The loop may last longer than a cooldown.
    assert.ok(requests - before < 10, `${requests - before} requests for 20 unknown keys`);
  });

  it('that goes away is served stale, for as long as that is allowed', async () => {
    const keys = newKeys({ cacheMs: 1, staleMs: 2500 });
    answer = keySet('one');
    assert.equal(await verify(keys, 'one'), 'ada');
    answer = (response) => response.socket?.destroy();
    await sleep(150);
    assert.equal(await verify(keys, 'one'), 'ada');
    await sleep(2500);
    await assert.rejects(verify(keys, 'one'));
    answer = keySet('one');
    await sleep(110);
    assert.equal(await verify(keys, 'one'), 'ada');
  });

  it('serves a whole server', async () => {
    answer = keySet('one');
    const server = await startServer({
      AUTH: 'jwt',
      AUTH_JWKS_URL: url,
      AUTH_JWT_ALG: 'ES256',
      AUTH_JWT_ISSUER: issuer,
      AUTH_JWT_AUDIENCE: audience,
    });
    try {
      const headers = bearer(await sign('one'));
      assert.equal((await server.client.sendHeartbeat({ userId: 'ada' }, { headers })).success, true);
      const refused = server.client.sendHeartbeat({ userId: 'bob' }, { headers });
      await assert.rejects(refused, (error) => ConnectError.from(error).code === 7);
    } finally {
      await server.stop();
    }
  });
});

function isUnauthenticated(error: unknown): boolean {
  return error instanceof PresenceError && error.isUnauthenticated;
}

/** The status that a stream with one empty question ends with. */
async function askGrpc(port: number, path: string, headers: Record<string, string>): Promise<string> {
  const connection = connectHttp2(`http://127.0.0.1:${port}`);
  try {
    const stream = connection.request({
      ...headers,
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    let status = '';
    const read = (fields: Record<string, unknown>) => {
      status = String(fields['grpc-status'] ?? status);
    };
    stream.on('response', read);
    stream.on('trailers', read);
    stream.resume();
    const isReflection = path.includes('reflection');
    stream.end(Buffer.from(isReflection ? [0, 0, 0, 0, 2, 0x3a, 0] : [0, 0, 0, 0, 0]));
    await once(stream, 'close', { signal: AbortSignal.timeout(5000) });
    return status;
  } finally {
    connection.destroy();
  }
}
