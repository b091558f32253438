/** Safe by default: where a server may listen, and TLS and mutual TLS on both ports. */
import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, type SecureVersion } from 'node:tls';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { PresenceService } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { WebSocket } from 'ws';
import { ConfigError, readConfig } from '../../src/config.ts';
import type { Log } from '../../src/observe/log.ts';
import { Server } from '../../src/server.ts';
import { makeAuthority, makeCertificate } from '../support/certificates.ts';
import { temporaryFolder } from '../support/child-process.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { apiKeysFile } from './support/credentials.ts';

describe('where a server may listen', () => {
  const start = (environment: Record<string, string>) => readConfig(environment);

  it('is this machine alone, unless callers prove who they are or it is allowed by name', () => {
    for (const HOST of [
      '0.0.0.0',
      '::',
      '192.0.2.7',
      'presence.internal',
      '128.0.0.1',
      '127.0.0.1.example',
    ]) {
      assert.throws(() => start({ HOST }), ConfigError, HOST);
      assert.ok(start({ HOST, ALLOW_INSECURE: 'true' }));
      assert.ok(start({ HOST, AUTH: 'jwt', AUTH_JWT_SECRET: 'x'.repeat(32) }));
    }
    for (const HOST of ['127.0.0.1', '127.9.9.9', '::1', 'localhost']) assert.ok(start({ HOST }));
  });

  it('is warned of where it was allowed', async () => {
    const warnings: unknown[] = [];
    const nothing = () => {};
    const log = {
      debug: nothing,
      info: nothing,
      error: nothing,
      warn: (...it: unknown[]) => warnings.push(it),
    };
    const environment = { HOST: '0.0.0.0', ALLOW_INSECURE: 'true', GRPC_PORT: '0', HTTP_PORT: '0' };
    const server = new Server(readConfig(environment), log as unknown as Log);
    try {
      await server.start();
      assert.match(JSON.stringify(warnings), /ALLOW_INSECURE/);
    } finally {
      await server.stop();
    }
  });

  it('warns of tokens in plain text where other machines reach it', async () => {
    const keys = apiKeysFile();
    const nothing = () => {};
    const warningsOf = async (environment: Record<string, string>) => {
      const warnings: string[] = [];
      const warn = (...it: unknown[]) => warnings.push(JSON.stringify(it));
      const log = { debug: nothing, info: nothing, error: nothing, warn };
      const auth = { AUTH: 'api-keys', AUTH_API_KEYS_FILE: keys.file, GRPC_PORT: '0', HTTP_PORT: '0' };
      const server = new Server(readConfig({ ...auth, ...environment }), log as unknown as Log);
      await server.start();
      await server.stop();
      return warnings.filter((line) => /tokens/.test(line));
    };
    try {
      assert.equal((await warningsOf({ HOST: '0.0.0.0' })).length, 1);
      assert.equal((await warningsOf({ HOST: '127.0.0.1' })).length, 0);
    } finally {
      keys.remove();
    }
  });
});

describe('TLS', () => {
  const folder = temporaryFolder('tls');
  const path = (name: string) => join(folder, name);
  let server: TestServer;

  before(async () => {
    makeAuthority(path, 'ca');
    makeCertificate(path, 'ca', 'first');
    makeCertificate(path, 'ca', 'second');
    makeAuthority(path, 'clients');
    makeCertificate(path, 'clients', 'client');
    makeCertificate(path, 'ca', 'stranger');
    copyFileSync(path('first.pem'), path('tls.pem'));
    copyFileSync(path('first.key'), path('tls.key'));
    server = await startServer({ TLS_CERT: path('tls.pem'), TLS_KEY: path('tls.key') });
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true });
  });

  const ca = () => readFileSync(path('ca.pem'));
  const httpPort = (of: TestServer) => Number(new URL(of.httpUrl).port);
  const heartbeat = (of: TestServer, nodeOptions: object) => {
    const transport = createGrpcTransport({ baseUrl: `https://localhost:${of.grpcPort}`, nodeOptions });
    return createClient(PresenceService, transport).sendHeartbeat({ userId: 'ada' }, { timeoutMs: 5000 });
  };

  it('serves gRPC, HTTP and WebSocket, and nothing in plain text', async () => {
    assert.equal((await heartbeat(server, { ca: ca() })).success, true);
    const { status, headers } = await get(httpPort(server), '/readyz', { ca: ca() });
    assert.equal(status, 200);
    assert.ok(headers['strict-transport-security']);
    const socket = new WebSocket(`wss://localhost:${httpPort(server)}/v1/connect`, 'presence.v1.json', {
      ca: ca(),
    });
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
    socket.terminate();
    await assert.rejects(fetch(`http://127.0.0.1:${httpPort(server)}/readyz`));
    await assert.rejects(server.client.sendHeartbeat({ userId: 'ada' }, { timeoutMs: 2000 }));
    await assert.rejects(heartbeat(server, {}), 'a client that does not know the authority');
  });

  it('speaks 1.2 and newer', async () => {
    for (const port of [server.grpcPort, httpPort(server)]) {
      for (const version of ['TLSv1', 'TLSv1.1'] as const) await assert.rejects(handshake(port, version));
      for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
        assert.equal((await handshake(port, version)).version, version);
      }
    }
  });

  it('takes a renewed certificate without a restart, and none that does not fit', async () => {
    const names = async () =>
      Promise.all(
        [server.grpcPort, httpPort(server)].map(async (port) => (await handshake(port, 'TLSv1.3')).name),
      );
    assert.deepEqual(await names(), ['first', 'first']);
    copyFileSync(path('second.pem'), path('tls.pem'));
    await sleep(1500);
    assert.deepEqual(await names(), ['first', 'first'], 'the key has not come yet');
    copyFileSync(path('second.key'), path('tls.key'));
    await waitFor('the new certificate', async () => (await names()).every((name) => name === 'second'));
    assert.equal((await heartbeat(server, { ca: ca() })).success, true);
  });

  it('refuses to start on files that do not fit', async () => {
    await assert.rejects(startServer({ TLS_CERT: path('first.pem'), TLS_KEY: path('second.key') }));
    await assert.rejects(startServer({ TLS_CERT: path('first.pem'), TLS_KEY: path('nowhere.key') }));
    await assert.rejects(startServer({ TLS_CERT: path('first.pem') }), ConfigError);
    await assert.rejects(startServer({ TLS_CLIENT_CA: path('ca.pem') }), ConfigError);
  });

  it('asks for certificates of clients where it is told to', async () => {
    const mutual = await startServer({
      TLS_CERT: path('first.pem'),
      TLS_KEY: path('first.key'),
      TLS_CLIENT_CA: path('clients.pem'),
    });
    const as = (name: string) => ({
      ca: ca(),
      cert: readFileSync(path(`${name}.pem`)),
      key: readFileSync(path(`${name}.key`)),
    });
    try {
      assert.equal((await heartbeat(mutual, as('client'))).success, true);
      assert.equal((await get(httpPort(mutual), '/readyz', as('client'))).status, 200);
      for (const options of [{ ca: ca() }, as('stranger')]) {
        await assert.rejects(heartbeat(mutual, options));
        await assert.rejects(get(httpPort(mutual), '/readyz', options));
      }
    } finally {
      await mutual.stop();
    }
  });
});

function get(
  port: number,
  path: string,
  options: object,
): Promise<{ status: number; headers: Record<string, unknown> }> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: 'localhost', port, path, agent: false, timeout: 5000, ...options },
      (response) => {
        response.resume();
        resolve({ status: response.statusCode ?? 0, headers: response.headers });
      },
    );
    sent.once('timeout', () => sent.destroy(new Error('no answer')));
    sent.once('error', reject).end();
  });
}

/** Common name of the server's certificate, and the version agreed on. */
function handshake(port: number, version: SecureVersion): Promise<{ name: string; version: string | null }> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({
      host: '127.0.0.1',
      port,
      ALPNProtocols: ['h2', 'http/1.1'],
      rejectUnauthorized: false,
      minVersion: version,
      maxVersion: version,
      // Else this side would refuse the old versions by itself.
      ciphers: 'DEFAULT@SECLEVEL=0',
    });
    socket.setTimeout(5000, () => socket.destroy(new Error('no answer')));
    socket.once('error', reject);
    socket.once('secureConnect', () => {
      resolve({ name: String(socket.getPeerCertificate().subject.CN), version: socket.getProtocol() });
      socket.destroy();
    });
  });
}
