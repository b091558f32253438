/** Sessions that never say hello take no place from those that do. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { after, before, describe, it } from 'node:test';
import { WebSocket } from 'ws';
import { RawSession, wireNames } from '../sessions/support/raw-session.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';

const maxSessions = 50;
const maxWithoutHello = 40;

/** As many Connect streams without a hello on one connection. */
function fillByGrpc(port: number, streams: number): { session: ClientHttp2Session; ended: () => number } {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on('error', () => {});
  let ended = 0;
  for (let index = 0; index < streams; index++) {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/presence.v1.PresenceService/Connect',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    stream.on('error', () => {});
    stream.on('close', () => ended++);
    stream.resume();
  }
  return { session, ended: () => ended };
}

describe('admission of sessions', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({
      MAX_SESSIONS: String(maxSessions),
      MAX_SESSIONS_WITHOUT_HELLO: String(maxWithoutHello),
      REQUEST_TIMEOUT: '10m',
    });
  });
  after(() => server.stop());

  const withoutHello = () => server.server.stats().sessions.withoutHello;
  const crowdedOut = () => server.server.stats().sessions.ends.CROWDED_OUT ?? 0;

  async function assertOthersGetIn(): Promise<void> {
    for (const wire of wireNames) {
      const session = await RawSession.open(wire, server, { userId: `honest ${wire}` });
      const answer = await session.ask({ case: 'query', value: { userIds: [`honest ${wire}`] } });
      assert.equal(answer.case, 'states', wire);
      await session.goodbye();
    }
  }

  it('Connect streams without a hello over four connections refuse nobody', async () => {
    const fills = Array.from({ length: 4 }, () => fillByGrpc(server.grpcPort, 100));
    const most = 400 - maxWithoutHello;
    await waitFor('the surplus to end', () => fills.reduce((sum, { ended }) => sum + ended(), 0) >= most);
    assert.equal(withoutHello(), maxWithoutHello);
    assert.equal(crowdedOut(), most);
    await assertOthersGetIn();
    for (const { session } of fills) session.destroy();
    await waitFor('all to be gone', () => withoutHello() === 0);
  });

  it('WebSockets without a hello refuse nobody, and learn why they end', async () => {
    const codes: number[] = [];
    const reasons = new Set<string>();
    const sockets = Array.from({ length: 100 }, () => {
      const socket = new WebSocket(`${server.httpUrl.replace('http', 'ws')}/v1/connect`, 'presence.v1.json');
      socket.on('error', () => {});
      socket.on('close', (code, reason) => {
        codes.push(code);
        reasons.add(reason.toString());
      });
      return socket;
    });
    await waitFor('the surplus to end', () => codes.length === 100 - maxWithoutHello);
    await assertOthersGetIn();
    assert.ok(codes.every((code) => code === 4008));
    assert.match(
      [...reasons].join(),
      /wait for their hello.*MAX_SESSIONS_WITHOUT_HELLO; retry after 5000 ms/,
    );
    for (const socket of sockets) socket.terminate();
    await waitFor('all to be gone', () => withoutHello() === 0);
  });

  it('MAX_SESSIONS counts those that said hello, on whatever transport', async () => {
    const late = new WebSocket(`${server.httpUrl.replace('http', 'ws')}/v1/connect`, 'presence.v1.json');
    await once(late, 'open');
    const open = Array.from({ length: maxSessions }, (_, index) =>
      RawSession.open(wireNames[index % 3] ?? 'gRPC', server, { userId: '' }),
    );
    const sessions = await Promise.all(open);
    await assert.rejects(RawSession.open('gRPC', server, { userId: '' }));
    late.send(JSON.stringify({ hello: {} }));
    const [code] = await once(late, 'close');
    assert.equal(code, 4006);
    for (const session of sessions) session.drop();
    await waitFor('room again', () => server.server.stats().sessions.sessions === 0);
    await assertOthersGetIn();
  });
});
