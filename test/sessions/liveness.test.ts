/** Who is there, as the server finds out inside the session: what the transport answers by itself proves nothing. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';
import { RawSession, wireNames } from './support/raw-session.ts';

for (const wire of wireNames) {
  describe(`liveness over ${wire}`, { concurrency: true }, () => {
    let server: TestServer;
    let nextUser = 0;
    const sessions: RawSession[] = [];
    before(async () => {
      server = await startServer({ PING_INTERVAL: '200ms', PONG_TIMEOUT: '2s', DRAIN_TIMEOUT: '0s' });
    });
    after(async () => {
      for (const session of sessions) session.drop();
      await server.stop();
    });

    async function open(answersPings: boolean): Promise<{ userId: string; session: RawSession }> {
      const userId = `${wire} user ${nextUser++}`;
      const session = await RawSession.open(wire, server, { userId, answersPings });
      sessions.push(session);
      return { userId, session };
    }

    it('a client that answers stays, and need send nothing else', async () => {
      const { session } = await open(true);
      await waitFor('more pings than could go without an answer', () => session.pings >= 15);
      assert.equal(session.closeCode, undefined);
    });

    it('a client that stops answering is given up, though its transport answers', async () => {
      const { userId, session } = await open(true);
      await waitFor('two pings', () => session.pings >= 2);
      session.isAlive = false;
      await session.endsWith('PING_TIMEOUT', 20_000);
      await waitFor('OFFLINE', async () => {
        const { data } = await server.client.getUserStatus({ userId });
        return data?.status === UserStatus.OFFLINE;
      });
    });

    it('a client that promised nothing is judged by its transport, as ever', async () => {
      const { session } = await open(false);
      session.isAlive = false;
      const other = await open(true);
      await waitFor('the time that a silent client has', () => other.session.pings >= 15);
      assert.equal(session.closeCode, undefined);
      // WebSocket pings reach the client through any proxy; those of HTTP/2 do not, and leave the stream quiet.
      assert.equal(session.pings > 0, wire === 'gRPC');
    });
  });
}
