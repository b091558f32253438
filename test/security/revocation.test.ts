/** Credentials that are withdrawn: what is open on their word ends within 2 s, on every interface, and nothing new begins. */
import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from '@connectrpc/connect-node';
import { PresenceService } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { exportJWK, SignJWT } from 'jose';
import { maxRevocations, type RevocationStore } from '../../src/core/revocations.ts';
import { silentLog } from '../../src/observe/log.ts';
import { Revocations } from '../../src/security/revocations.ts';
import { MemoryRevocations } from '../../src/store/memory-revocations.ts';
import { temporaryFolder } from '../support/child-process.ts';
import { EventReader, request } from '../support/http.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { redisCommand } from '../support/redis-command.ts';
import { RedisServer } from '../support/redis-server.ts';
import { startStore } from '../support/redis-store.ts';
import { waitFor } from '../support/wait.ts';
import { audience, issuer } from './support/credentials.ts';
import { TestSession } from './support/session.ts';

/** The target is 2 s; a busy machine has ten times as long. */
const patienceMs = 20_000;

/** Something that is open, and how it ends. */
interface Opened {
  readonly name: string;
  /** What the caller was told at the end; undefined: it goes on. */
  ended(): string | undefined;
  /** Whether it went on past the opening. */
  isOpen(): boolean;
  close(): void;
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

function session(wire: 'gRPC' | 'WebSocket', server: TestServer, token: string, userId: string): Opened {
  const it = TestSession.open(wire, server, token);
  // A session that ends while it opens answers nothing.
  it.ask({ case: 'hello', value: { userId } }).catch(() => {});
  return {
    name: `a session over ${wire}`,
    ended: () => it.closeCode?.toString(),
    isOpen: () => it.has('welcome') && it.closeCode === undefined,
    close: () => it.drop(),
  };
}

function stream(name: string, transport: Transport, token: string, userId: string): Opened {
  let told = 0;
  let ended: string | undefined;
  const aborter = new AbortController();
  const read = async () => {
    const client = createClient(PresenceService, transport);
    const call = { userId, watchUserIds: ['bob'] };
    const options = { headers: bearer(token), signal: aborter.signal };
    try {
      for await (const _ of client.subscribeStatusUpdates(call, options)) told++;
      ended = 'OK';
    } catch (error) {
      ended = Code[ConnectError.from(error).code];
    }
  };
  void read();
  return {
    name,
    ended: () => ended,
    isOpen: () => told > 0 && ended === undefined,
    close: () => aborter.abort(),
  };
}

function events(name: string, url: string, token: string): Opened {
  const reader = new EventReader(url, bearer(token));
  const ended = () => {
    if (!reader.ended) return undefined;
    return (
      /UNAUTHORIZED/.exec(reader.events.find(({ event }) => event === 'end')?.data ?? '')?.[0] ?? 'no end'
    );
  };
  const isOpen = () => reader.events.length > 0 && !reader.ended;
  return { name, ended, isOpen, close: () => reader.close() };
}

/** Everything that one token can hold open. */
function openAll(server: TestServer, token: string, { userId = '', isOperator = false } = {}): Opened[] {
  const { httpUrl } = server;
  const grpc = createGrpcTransport({ baseUrl: `http://127.0.0.1:${server.grpcPort}` });
  const web = { baseUrl: httpUrl, httpVersion: '1.1' } as const;
  return [
    session('gRPC', server, token, userId || 'ada'),
    session('WebSocket', server, token, userId || 'ada'),
    stream('a subscription over gRPC', grpc, token, userId),
    stream('a subscription over gRPC-Web', createGrpcWebTransport(web), token, userId),
    stream('a subscription over Connect', createConnectTransport(web), token, userId),
    events('server-sent events', `${httpUrl}/v1/events?watch=bob`, token),
    ...(isOperator ? [events('live statistics', `${httpUrl}/v1/stats/live`, token)] : []),
  ];
}

const ends: Readonly<Record<string, string>> = {
  'a session over gRPC': '4503',
  'a session over WebSocket': '4503',
  'server-sent events': 'UNAUTHORIZED',
  'live statistics': 'UNAUTHORIZED',
};

async function allOpen(opened: readonly Opened[]): Promise<void> {
  for (const it of opened) await waitFor(`${it.name} to open`, () => it.isOpen(), patienceMs);
}

async function allEnd(opened: readonly Opened[]): Promise<void> {
  for (const { name, ended } of opened) {
    await waitFor(`${name} to end`, () => ended() !== undefined, patienceMs);
    assert.equal(ended(), ends[name] ?? 'Unauthenticated', name);
  }
}

function allGoOn(opened: readonly Opened[]): void {
  for (const it of opened) {
    assert.ok(it.isOpen(), `${it.name} of another key`);
    it.close();
  }
}

async function statusWith(server: TestServer, token: string): Promise<number> {
  return (await request(`${server.httpUrl}/v1/users/ada/status`, 'GET', undefined, bearer(token))).status;
}

/** An issuer of the test's own, whose keys come and go. */
class Issuer {
  kids: readonly string[] = ['one', 'two'];
  readonly #pairs = new Map(
    ['one', 'two'].map((kid) => [kid, generateKeyPairSync('ec', { namedCurve: 'P-256' })]),
  );
  readonly #http: HttpServer = createServer(async (_request, response) => {
    const keys = await Promise.all(
      this.kids.map(async (kid) => ({ ...(await exportJWK(this.#pair(kid).publicKey)), kid, alg: 'ES256' })),
    );
    response.end(JSON.stringify({ keys }));
  });

  async start(): Promise<string> {
    this.#http.listen(0, '127.0.0.1');
    await once(this.#http, 'listening');
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}/keys`;
  }

  stop(): void {
    this.#http.closeAllConnections();
    this.#http.close();
  }

  sign(
    kid: string,
    sub: string | undefined,
    { jti = '', scope = '', issuedAgoSeconds = 5 } = {},
  ): Promise<string> {
    const nowSeconds = Math.floor(Date.now() / 1000);
    const jwt = new SignJWT({ iss: issuer, aud: audience, ...(scope && { scope }), ...(jti && { jti }) })
      .setProtectedHeader({ alg: 'ES256', kid })
      .setIssuedAt(nowSeconds - issuedAgoSeconds)
      .setExpirationTime(nowSeconds + 3600);
    if (sub !== undefined) jwt.setSubject(sub);
    return jwt.sign(this.#pair(kid).privateKey);
  }

  #pair(kid: string) {
    return this.#pairs.get(kid) as { publicKey: KeyObject; privateKey: KeyObject };
  }
}

interface KeyFacts {
  readonly token: string;
  readonly scopes: readonly string[];
  readonly watch?: readonly string[];
}

describe('credentials that are withdrawn', () => {
  const folder = temporaryFolder('keys');
  const file = join(folder, 'keys.json');
  const issuerOfTokens = new Issuer();
  let server: TestServer;
  let operator: string;

  const writeKeys = (keys: Readonly<Record<string, KeyFacts>>) => {
    const list = Object.entries(keys).map(([id, { token, scopes, watch }]) => ({
      id,
      sha256: createHash('sha256').update(token).digest('hex'),
      scopes: scopes.map((scope) => `presence:${scope}`),
      ...(watch && { watch }),
    }));
    writeFileSync(`${file}.new`, JSON.stringify(list));
    renameSync(`${file}.new`, file);
  };
  const steady = { token: 'a-key-that-stays-0123456789', scopes: ['admin'] };

  before(async () => {
    writeKeys({ steady });
    server = await startServer({
      AUTH: 'jwt,api-keys',
      AUTH_JWKS_URL: await issuerOfTokens.start(),
      AUTH_JWKS_CACHE: '1s',
      AUTH_JWT_ALG: 'ES256',
      AUTH_JWT_ISSUER: issuer,
      AUTH_JWT_AUDIENCE: audience,
      AUTH_API_KEYS_FILE: file,
      WATCH_POLICY: 'claims',
      USER_STATUS_TTL: '1m',
      HEARTBEAT_INTERVAL: '20s',
      RATE_LIMIT_AUTH_FAILURES: '0',
      MAX_CONNECTIONS_PER_USER: '50',
    });
    operator = await issuerOfTokens.sign('two', undefined, { scope: 'presence:admin' });
  });
  after(async () => {
    await server.stop();
    issuerOfTokens.stop();
    rmSync(folder, { recursive: true });
  });

  it('ends what a removed API key opened, and nothing of another key', async () => {
    const gone = { token: 'a-key-that-goes-0123456789', scopes: ['admin'] };
    writeKeys({ steady, gone });
    await waitFor('the key', async () => (await statusWith(server, gone.token)) === 200);
    const opened = openAll(server, gone.token, { isOperator: true });
    const others = openAll(server, steady.token, { isOperator: true });
    await allOpen([...opened, ...others]);
    writeKeys({ steady });
    await allEnd(opened);
    assert.equal(await statusWith(server, gone.token), 401);
    allGoOn(others);
  });

  it('ends what an API key may no longer do, and no more', async () => {
    const token = 'a-key-that-narrows-0123456789';
    writeKeys({ steady, narrow: { token, scopes: ['read', 'write'], watch: ['bob'] } });
    await waitFor('the key', async () => (await statusWith(server, token)) === 403);
    const opened = openAll(server, token);
    await allOpen(opened);
    // It may still write: sessions lose what they watch by themselves, subscriptions end.
    writeKeys({ steady, narrow: { token, scopes: ['write'] } });
    await allEnd(opened);
  });

  it('ends a watch that the claims of an API key no longer cover', async () => {
    const token = 'a-key-that-watches-0123456789';
    const key = { token, scopes: ['read', 'write'] };
    writeKeys({ steady, watches: { ...key, watch: ['bob', 'ada'] } });
    await waitFor('the key', async () => (await statusWith(server, token)) === 200);
    const watching = TestSession.open('WebSocket', server, token);
    assert.equal(await watching.ask({ case: 'hello', value: { userId: 'ada' } }), 'welcome');
    assert.equal(await watching.ask({ case: 'watch', value: { userIds: ['bob'] } }), 'ack');
    const subscription = events('server-sent events', `${server.httpUrl}/v1/events?watch=bob`, token);
    await allOpen([subscription]);
    writeKeys({ steady, watches: { ...key, watch: ['ada'] } });
    await allEnd([subscription]);
    await waitFor('the session to lose bob', () => watching.has('error'), patienceMs);
    assert.equal(watching.closeCode, undefined, 'the session itself goes on');
    watching.drop();
  });

  it('ends what a key of the issuer opened that was withdrawn, while only known tokens come', async () => {
    const opened = openAll(server, await issuerOfTokens.sign('one', 'ada', { scope: 'presence:admin' }), {
      userId: 'ada',
      isOperator: true,
    });
    const others = openAll(server, operator, { isOperator: true });
    await allOpen([...opened, ...others]);
    issuerOfTokens.kids = ['two'];
    await allEnd(opened);
    allGoOn(others);
    issuerOfTokens.kids = ['one', 'two'];
  });

  it('revokes all tokens of a user, and lets a newer one in', async () => {
    const old = await issuerOfTokens.sign('two', 'grace', { scope: 'presence:admin' });
    const opened = openAll(server, old, { userId: 'grace', isOperator: true });
    await allOpen(opened);
    const answer = await request(
      `${server.httpUrl}/v1/tokens/revoke`,
      'POST',
      { userId: 'grace', keepForMs: 60_000 },
      bearer(operator),
    );
    assert.equal(answer.status, 200, answer.text);
    await allEnd(opened);
    assert.equal(await statusWith(server, old), 401);
    const young = await issuerOfTokens.sign('two', 'grace', {
      scope: 'presence:admin',
      issuedAgoSeconds: -2,
    });
    assert.equal(await statusWith(server, young), 200);
  });

  it('revokes one token by its id', async () => {
    const facts = { scope: 'presence:admin' };
    const one = await issuerOfTokens.sign('two', 'joan', { ...facts, jti: 'token-1' });
    const other = await issuerOfTokens.sign('two', 'joan', { ...facts, jti: 'token-2' });
    const opened = openAll(server, one, { userId: 'joan' });
    await allOpen(opened);
    await server.client.revokeTokens({ tokenId: 'token-1' }, { headers: bearer(operator) });
    await allEnd(opened);
    assert.equal(await statusWith(server, one), 401);
    assert.equal(await statusWith(server, other), 200);
  });

  it('refuses what names both, none, or too long a time', async () => {
    const headers = bearer(operator);
    for (const call of [
      {},
      { userId: 'ada', tokenId: 'token-1' },
      { userId: 'a\nb' },
      { tokenId: 'x'.repeat(257) },
      { userId: 'ada', keepForMs: -1n },
      { userId: 'ada', keepForMs: 1n << 50n },
    ]) {
      await assert.rejects(server.client.revokeTokens(call, { headers }), (error) => {
        assert.equal(ConnectError.from(error).code, Code.InvalidArgument);
        return true;
      });
    }
  });

  it('keeps nothing of what has ended', async () => {
    await waitFor('sessions and subscriptions to be gone', () => {
      const { sessions } = server.server.stats();
      return sessions.sessions === 0;
    });
  });
});

describe('revocations', () => {
  const engines: readonly {
    name: string;
    start(): Promise<{ store: RevocationStore; stop(): Promise<void> }>;
  }[] = [
    {
      name: 'memory',
      start: async () => ({ store: new MemoryRevocations(Date.now), stop: async () => {} }),
    },
    {
      name: 'redis',
      start: async () => {
        const redis = await RedisServer.start();
        const store = await startStore(redis);
        await waitFor('Redis', () => store.available);
        return {
          store: store.revocations,
          stop: async () => {
            await store.stop();
            await redis.stop();
          },
        };
      },
    },
  ];
  for (const { name, start } of engines) {
    it(`of one node are those of all, and are forgotten in time: ${name}`, async () => {
      const { store, stop } = await start();
      const nodes = [1, 2].map(() => new Revocations({ store, log: silentLog, intervalMs: 20 }));
      const [here, there] = nodes as [Revocations, Revocations];
      const has = (node: Revocations, id: string) =>
        node.has({
          kind: 'user',
          id,
          userId: id,
          scopes: new Set(),
          watch: { ids: new Set(), beginnings: [] },
          expiresAtMs: Date.now() + 60_000,
          credential: { kind: 'jwt', key: 'secret', tokenId: null, issuedAtMs: 0 },
        });
      try {
        await Promise.all(nodes.map((node) => node.start()));
        await here.revoke({ userId: 'ada', tokenId: '', keepForMs: 60_000 });
        await here.revoke({ userId: 'bob', tokenId: '', keepForMs: 200 });
        assert.ok(has(here, 'ada'), 'at once where it was said');
        await waitFor('the other node to know', () => has(there, 'ada'));
        await waitFor('the short one to end', () => !has(here, 'bob') && !has(there, 'bob'));
        assert.ok(has(here, 'ada') && !has(here, 'carol'));
      } finally {
        for (const node of nodes) node.stop();
        await stop();
      }
    });

    it(`are bounded in number: ${name}`, async () => {
      const { store, stop } = await start();
      const expiresAtMs = Date.now() + 600_000;
      const revocations = Array.from({ length: maxRevocations }, (_, i) => ({
        kind: 'token' as const,
        id: `token-${i}`,
        revokedAtMs: 1,
        expiresAtMs,
      }));
      try {
        for (let i = 0; i < revocations.length; i += 1000)
          await store.exchange(revocations.slice(i, i + 1000), '');
        await store.exchange([{ ...revocations[0], revokedAtMs: 2 } as (typeof revocations)[0]], '');
        const more = { ...revocations[0], id: 'one-more' } as (typeof revocations)[0];
        await assert.rejects(store.exchange([more], ''), /revocations are kept/);
      } finally {
        await stop();
      }
    });
  }

  it('go back to a Redis that lost its data', async () => {
    const redis = await RedisServer.start();
    const store = await startStore(redis);
    await waitFor('Redis', () => store.available);
    const node = new Revocations({ store: store.revocations, log: silentLog, intervalMs: 20 });
    try {
      await node.start();
      await node.revoke({ userId: '', tokenId: 'token-1', keepForMs: 60_000 });
      await redisCommand(redis.port, 'FLUSHALL');
      await waitFor('it to be back', async () => {
        const { revocations = [] } = await store.revocations.exchange([], 'unknown');
        return revocations.some(({ id }) => id === 'token-1');
      });
    } finally {
      node.stop();
      await store.stop();
      await redis.stop();
    }
  });
});
