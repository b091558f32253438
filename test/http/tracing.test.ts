/** Spans of a real server that was started with an OpenTelemetry SDK, as docs/tracing.md says. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { PresenceService } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { Tracing } from '../../src/observe/tracing.ts';
import { endProcess, startProcess } from '../support/child-process.ts';
import { request } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';

interface SeenSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string | null;
  readonly status: number;
}

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const traceId = '0af7651916cd43dd8448eb211c80319c';
const traceparent = `00-${traceId}-b7ad6b7169203331-01`;

describe('tracing with an SDK', () => {
  let child: ChildProcess;
  let out = '';
  let httpUrl: string;
  let grpcUrl: string;

  before(async () => {
    const args = ['--import', path('../support/trace-preload.mjs'), path('../../src/main.ts'), 'serve'];
    child = startProcess(process.execPath, args, {
      env: { ...process.env, GRPC_PORT: '0', HTTP_PORT: '0', LOG_LEVEL: 'error' },
    });
    child.stdout?.on('data', (chunk) => {
      out += chunk;
    });
    await waitFor('the ready line', () => out.includes('is ready'));
    const [, grpc, http] = /gRPC on (\S+), HTTP on (\S+),/.exec(out) as RegExpExecArray;
    grpcUrl = `http://${grpc}`;
    httpUrl = `http://${http}`;
  });
  after(() => endProcess(child));

  const spans = () =>
    [...out.matchAll(/^span (.+)$/gm)].map(([, json]) => JSON.parse(json as string) as SeenSpan);
  const find = async (name: string, since = 0) => {
    await waitFor(`a span ${name}`, () =>
      spans()
        .slice(since)
        .some((span) => span.name === name),
    );
    return spans()
      .slice(since)
      .find((span) => span.name === name) as SeenSpan;
  };

  it('has a span for an rpc, and in it one for the store, in the trace of the caller', async () => {
    const client = createClient(PresenceService, createGrpcTransport({ baseUrl: grpcUrl }));
    await client.sendHeartbeat({ userId: 'ada' }, { headers: { traceparent } });
    const rpc = await find('presence.v1.PresenceService/SendHeartbeat');
    const store = await find('store/heartbeat');
    assert.equal(rpc.traceId, traceId);
    assert.equal(rpc.parentId, 'b7ad6b7169203331');
    assert.deepEqual([store.traceId, store.parentId], [traceId, rpc.spanId]);
  });

  it('does so over HTTP as well', async () => {
    const since = spans().length;
    await request(`${httpUrl}/v1/users/ada/status`, 'PUT', { status: 'OFFLINE' }, { traceparent });
    const rpc = await find('presence.v1.PresenceService/SetUserStatus', since);
    const store = await find('store/setOffline', since);
    assert.deepEqual([rpc.traceId, store.parentId], [traceId, rpc.spanId]);
  });

  it('marks failures', async () => {
    const since = spans().length;
    await request(`${httpUrl}/v1/users/%00/status`);
    const rpc = await find('presence.v1.PresenceService/GetUserStatus', since);
    assert.equal(rpc.status, 2);
  });

  it('has a span for a fan-out', async () => {
    const aborter = new AbortController();
    const client = createClient(PresenceService, createGrpcTransport({ baseUrl: grpcUrl }));
    const stream = client.subscribeStatusUpdates({ watchUserIds: ['bob'] }, { signal: aborter.signal });
    const events = stream[Symbol.asyncIterator]();
    await events.next();
    await client.setUserStatus({ userId: 'bob', status: 1 });
    await events.next();
    await find('fan-out');
    aborter.abort();
  });
});

describe('tracing without an SDK', () => {
  it('is off, and hands objects through as they are', async () => {
    const tracing = new Tracing();
    const store = { read: async () => 1 };
    assert.equal(tracing.isOn, false);
    assert.equal(tracing.around(store, 'store', ['read']), store);
  });
});
