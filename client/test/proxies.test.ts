/**
 * Sessions, subscriptions and event streams behind real proxies with their default timeouts, all at once: what is quiet for
 * 70 s stays open, and a frozen client is noticed within the time that docs/protocol.md names.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { PresenceService, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { endProcess, startProcess } from '../../test/support/child-process.ts';
import { startServer, type TestServer } from '../../test/support/pilotlight.ts';
import { waitFor } from '../../test/support/wait.ts';
import { grpcLink } from '../src/grpc.ts';
import { PresenceClient, webSocketLink } from '../src/index.ts';
import { type ProxyName, proxyNames, RealProxy } from './support/proxies.ts';

/** Longer than the timeouts of all of them. */
const quietMs = 70_000;
const clientProcess = new URL('support/client-process.ts', import.meta.url).pathname;

/** What follows one user and tells what it heard. */
interface Follower {
  /** Whether the user was heard to be ONLINE. */
  heardOnline(): boolean;
  /** What ended or interrupted it; undefined: nothing. */
  interruption(): string | undefined;
  close(): void;
}

type Ways = Readonly<Record<string, (proxy: RealProxy, userId: string) => Follower>>;

function followSession(client: PresenceClient, userId: string): Follower {
  const states: string[] = [];
  client.onStateChange((state) => states.push(state));
  client.subscribe([userId], () => {});
  client.open();
  return {
    heardOnline: () => client.get(userId)?.status === 'ONLINE',
    interruption: () => (states.join() === 'connecting,open' ? undefined : states.join()),
    close: () => client.close(),
  };
}

function followSubscription(transport: ReturnType<typeof createGrpcTransport>, userId: string): Follower {
  const aborter = new AbortController();
  let status: UserStatus | undefined;
  let interruption: string | undefined;
  const read = async () => {
    const request = { watchUserIds: [userId], keepaliveIntervalMs: 15_000n };
    const events = createClient(PresenceService, transport).subscribeStatusUpdates(request, {
      signal: aborter.signal,
    });
    for await (const event of events) if (!event.keepalive) status = event.status;
  };
  read().then(
    () => {
      interruption = 'ended';
    },
    (error: unknown) => {
      interruption = String(error);
    },
  );
  return {
    heardOnline: () => status === UserStatus.ONLINE,
    interruption: () => interruption ?? (status === undefined ? 'no snapshot' : undefined),
    close: () => aborter.abort(),
  };
}

function followEvents(url: string): Follower {
  const aborter = new AbortController();
  let text = '';
  let interruption: string | undefined;
  const read = async () => {
    const response = await fetch(url, { signal: aborter.signal });
    for await (const chunk of response.body as ReadableStream<Uint8Array>) text += Buffer.from(chunk);
  };
  read().then(
    () => {
      interruption = 'ended';
    },
    (error: unknown) => {
      interruption = String(error);
    },
  );
  return {
    heardOnline: () => text.includes('"status":"ONLINE"'),
    interruption: () => interruption ?? (text.includes('"OFFLINE"') ? undefined : 'no snapshot'),
    close: () => aborter.abort(),
  };
}

const ways: Ways = {
  'gRPC session': ({ grpcPort }, userId) =>
    followSession(new PresenceClient({ connect: grpcLink(`http://127.0.0.1:${grpcPort}`) }), userId),
  'WebSocket session': ({ httpPort }, userId) =>
    followSession(new PresenceClient({ connect: webSocketLink(`http://127.0.0.1:${httpPort}`) }), userId),
  'gRPC subscription': ({ grpcPort }, userId) =>
    followSubscription(createGrpcTransport({ baseUrl: `http://127.0.0.1:${grpcPort}` }), userId),
  'Connect subscription': ({ httpPort }, userId) =>
    followSubscription(
      createConnectTransport({ baseUrl: `http://127.0.0.1:${httpPort}`, httpVersion: '1.1' }),
      userId,
    ),
  'event stream': ({ httpPort }, userId) =>
    followEvents(`http://127.0.0.1:${httpPort}/v1/events?watch=${encodeURIComponent(userId)}`),
};

describe('behind a proxy', { concurrency: true }, () => {
  let server: TestServer;
  const proxies = new Map<ProxyName, RealProxy>();
  const followers: Follower[] = [];
  const processes: ChildProcess[] = [];

  before(async () => {
    // The defaults, which the server of other tests shortens.
    const defaults = { USER_STATUS_TTL: '30s', HEARTBEAT_INTERVAL: '15s', DISCONNECT_GRACE: '3s' };
    server = await startServer({ ...defaults, DRAIN_TIMEOUT: '0s' });
    const target = { grpcPort: server.grpcPort, httpPort: Number(new URL(server.httpUrl).port) };
    for (const name of proxyNames) proxies.set(name, await RealProxy.start(name, target));
  });
  after(async () => {
    for (const follower of followers) follower.close();
    for (const child of processes) await endProcess(child);
    for (const proxy of proxies.values()) await proxy.stop();
    await server.stop();
  });

  const proxyOf = (name: ProxyName) => proxies.get(name) as RealProxy;

  async function statusOf(userId: string): Promise<UserStatus | undefined> {
    return (await server.client.getUserStatus({ userId })).data?.status;
  }

  for (const proxyName of proxyNames) {
    for (const [way, follow] of Object.entries(ways)) {
      it(`${proxyName}: a quiet ${way} is open after 70 s`, async () => {
        const userId = `${proxyName} ${way}`;
        const follower = follow(proxyOf(proxyName), userId);
        followers.push(follower);
        await waitFor('the snapshot', () => follower.interruption() === undefined, 30_000);
        await sleep(quietMs);
        assert.equal(follower.interruption(), undefined);
        await server.client.setUserStatus({ userId, status: UserStatus.ONLINE });
        await waitFor('the change', () => follower.heardOnline(), 30_000);
        assert.equal(follower.interruption(), undefined);
      });
    }

    for (const way of ['gRPC', 'WebSocket'] as const) {
      it(`${proxyName}: a frozen client of a ${way} session is noticed in time, and comes back when it thaws`, async () => {
        const userId = `${proxyName} frozen ${way}`;
        const { grpcPort, httpPort } = proxyOf(proxyName);
        const port = way === 'gRPC' ? grpcPort : httpPort;
        const client = startProcess(process.execPath, [clientProcess, userId, way, String(port)]);
        processes.push(client);
        const isOnline = async () => (await statusOf(userId)) === UserStatus.ONLINE;
        await waitFor('ONLINE', isOnline, 60_000);
        client.kill('SIGSTOP');
        const frozenMs = performance.now();
        const { pingIntervalMs, pongTimeoutMs, disconnectGraceMs } = server.config;
        await waitFor('OFFLINE', async () => !(await isOnline()), 120_000);
        const tookMs = performance.now() - frozenMs;
        const { data } = await server.client.getUserStatus({ userId });
        // A lease that ran out would be noticed too, but only after the whole TTL from its last renewal.
        assert.ok(server.server.stats().sessions.ends.PING_TIMEOUT, 'it was the ping');
        const documentedMs = pingIntervalMs + pongTimeoutMs + disconnectGraceMs;
        assert.ok(tookMs < documentedMs + 10_000, `${tookMs} ms, documented: ${documentedMs} ms`);
        assert.equal(data?.status, UserStatus.OFFLINE);
        client.kill('SIGCONT');
        await waitFor('ONLINE again', isOnline, 60_000);
      });
    }
  }
});
