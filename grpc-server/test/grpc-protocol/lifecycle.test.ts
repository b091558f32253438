import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Code, data, Flag, goaway, message, ping, Type } from '../support/frames.ts';
import { deadline, eventually, type RawClient } from '../support/raw-client.ts';
import { call, callHeaders } from '../support/requests.ts';
import { useClient, useServer } from '../support/suite.ts';
import { BIDI, HANG, readAnswer, UNARY } from '../support/test-server.ts';

function goaways(client: RawClient): { last: number; code: number; debug: string }[] {
  return client.frames
    .filter((f) => f.type === Type.GOAWAY)
    .map((f) => ({
      last: f.payload.readUInt32BE(0),
      code: f.payload.readUInt32BE(4),
      debug: f.payload.subarray(8).toString(),
    }));
}

/** Answers every PING of the server from now on. */
function answerPings(client: RawClient): void {
  let seen = 0;
  client.socket.on('data', () => {
    const pings = client.frames.filter((f) => f.type === Type.PING && (f.flags & Flag.ACK) === 0);
    for (; seen < pings.length; seen++) client.send(ping(pings[seen]?.payload ?? Buffer.alloc(8), Flag.ACK));
  });
}

test('K1 drain: two GOAWAY frames around a PING, open calls finish, new connections are refused', async () => {
  await useServer({}, async (server) => {
    await useClient(server, async (client) => {
      client.send(callHeaders(1, BIDI), data(1, message('open')));
      await client.expectData(1);
      const drained = server.server.drain(20_000);
      await client.next((f) => f.type === Type.GOAWAY, 'the first GOAWAY');
      const asked = await client.next((f) => f.type === Type.PING, 'the PING of the drain');
      assert.deepEqual(goaways(client)[0]?.last, 0x7fffffff);
      assert.equal(goaways(client)[0]?.code, Code.NO_ERROR);
      // A call that was under way when the GOAWAY came is still served.
      client.send(call(3, UNARY, 'under way'));
      assert.equal((await readAnswer(client, 3)).status, 0);
      client.send(ping(asked.payload, Flag.ACK));
      await client.next((f) => f.type === Type.GOAWAY, 'the second GOAWAY');
      assert.deepEqual(
        goaways(client).map((one) => [one.last, one.code]),
        [
          [0x7fffffff, Code.NO_ERROR],
          [3, Code.NO_ERROR],
        ],
      );
      client.send(call(5, UNARY, 'too late'));
      client.send(data(1, message('more')), data(1, '', Flag.END_STREAM));
      const answer = await readAnswer(client, 1);
      assert.equal(answer.status, 0);
      assert.equal(answer.messages.length, 2);
      await client.expectClosedWithin(5_000);
      assert.equal(
        client.on(5).filter((f) => f.fields).length,
        0,
        'a call after the last stream id is not served',
      );
      await deadline(drained, 'drain()');
      await assert.rejects(server.connect());
    });
    assert.equal(server.server.stats().connections, 0);
  });
});

test('K1 drain closes idle connections at once and ends at its timeout with calls still open', async () => {
  await useServer({ limits: { drainPingTimeoutMs: 100 } }, async (server) => {
    const idle = await server.connect();
    answerPings(idle);
    const busy = await server.connect();
    busy.send(call(1, HANG, 'x'));
    await busy.expectData(1);
    const drained = server.server.drain(1_000);
    await idle.expectClosedWithin(5_000);
    assert.deepEqual(
      goaways(idle).map((one) => one.code),
      goaways(idle).map(() => Code.NO_ERROR),
    );
    // The busy client never answers the PING: the second GOAWAY comes after its timeout.
    await eventually(() => goaways(busy).length === 2, 'the second GOAWAY');
    await deadline(drained, 'drain() at its timeout');
    await busy.expectClosedWithin(5_000);
    assert.equal(server.server.stats().connections, 0);
    assert.equal(server.server.stats().streams, 0);
    await idle.close();
    await busy.close();
  });
});

test('K1 drain of a server without connections resolves', async () => {
  await useServer({}, async (server) => {
    await deadline(server.server.drain(1_000), 'drain()');
    await server.server.close();
  });
});

test('drain() and close() at the same time both resolve with the last connection', async () => {
  await useServer({}, async (server) => {
    const client = await server.connect();
    client.send(call(1, HANG, 'x'));
    await client.expectData(1);
    const drained = server.server.drain(20_000);
    const again = server.server.drain(20_000);
    const closed = server.server.close();
    await deadline(Promise.all([drained, again, closed]), 'all three');
    assert.equal(server.server.stats().connections, 0);
    await client.close();
  });
});

test('close() ends everything at once', async () => {
  await useServer({}, async (server) => {
    const client = await server.connect();
    client.send(call(1, HANG, 'x'));
    await client.expectData(1);
    await deadline(server.server.close(), 'close()');
    await client.expectClosedWithin(5_000);
    assert.equal(server.server.stats().connections, 0);
    assert.equal(server.server.stats().streams, 0);
    await client.close();
  });
});

test('K2 maxConnectionAge: GOAWAY, then the end after the grace', async () => {
  await useServer({ maxConnectionAgeMs: 300, maxConnectionAgeGraceMs: 300 }, async (server) => {
    await useClient(server, async (client) => {
      answerPings(client);
      client.send(call(1, HANG, 'x'));
      await client.expectData(1);
      await eventually(() => goaways(client).length === 2, 'both GOAWAY frames', 10_000);
      assert.match(goaways(client)[0]?.debug ?? '', /max_age/);
      await client.expectClosedWithin(10_000);
    });
  });
});

test('K2 maxConnectionIdle ends a connection without calls, not one with a call', async () => {
  await useServer({ maxConnectionIdleMs: 300 }, async (server) => {
    const busy = await server.connect();
    answerPings(busy);
    busy.send(call(1, HANG, 'x'));
    await busy.expectData(1);
    await useClient(server, async (client) => {
      answerPings(client);
      await eventually(() => goaways(client).length > 0, 'GOAWAY', 10_000);
      assert.match(goaways(client)[0]?.debug ?? '', /max_idle/);
      await client.expectClosedWithin(10_000);
    });
    assert.equal(goaways(busy).length, 0);
    await busy.expectAlive();
    await busy.close();
  });
});

const PATIENT = { timeMs: 7_200_000, timeoutMs: 20_000, minClientPingMs: 300_000, permitWithoutCalls: false };

test('K3 keepalive: a silent client is asked and, without an answer, dropped', async () => {
  await useServer({ keepalive: { ...PATIENT, timeMs: 200, timeoutMs: 200 } }, async (server) => {
    const dead = await server.connect();
    dead.send(call(1, HANG, 'x'));
    await dead.next((f) => f.type === Type.PING, 'a keepalive PING', 10_000);
    await dead.expectClosedWithin(10_000);
    await dead.close();
    const living = await server.connect();
    answerPings(living);
    for (let i = 0; i < 3; i++) await living.next((f) => f.type === Type.PING, 'a keepalive PING', 10_000);
    assert.equal(living.closed, false);
    await living.expectAlive();
    await living.close();
    await eventually(() => server.server.stats().connections === 0, 'no connection left');
  });
});

test('K4 more than two PINGs too many: every one answered, then ENHANCE_YOUR_CALM "too_many_pings"', async () => {
  await useServer({ keepalive: PATIENT }, async (server) => {
    await useClient(server, async (client) => {
      for (let i = 0; i < 10; i++) client.send(ping(`ping ${String(i).padStart(3)}`));
      const found = await client.expectGoaway(Code.ENHANCE_YOUR_CALM);
      assert.equal(found.payload.subarray(8).toString(), 'too_many_pings');
      const acks = client.frames.filter((f) => f.type === Type.PING).length;
      assert.ok(acks >= 3 && acks <= 5, `${acks} PINGs were answered`);
    });
  });
});

test('K4 sending HEADERS or DATA forgives the strikes', async () => {
  await useServer({ keepalive: PATIENT }, async (server) => {
    await useClient(
      server,
      async (client) => {
        for (let i = 0; i < 10; i++) {
          client.send(ping('strike 1'), ping('strike 2'), call(i * 2 + 1, UNARY, 'x'));
          assert.equal((await readAnswer(client, i * 2 + 1)).status, 0);
        }
        assert.equal(client.goaway(), undefined);
      },
      { returnCredit: true },
    );
  });
});

test('K4 K7 with a short minimum and permitWithoutCalls frequent PINGs are welcome', async () => {
  const keepalive = { ...PATIENT, minClientPingMs: 1, permitWithoutCalls: true };
  await useServer({ keepalive }, async (server) => {
    await useClient(server, async (client) => {
      for (let i = 0; i < 20; i++) {
        await client.expectAlive();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    });
  });
});

test('K6 a client that says GOAWAY is served to the end of its calls', async () => {
  await useServer({}, async (server) => {
    await useClient(server, async (client) => {
      client.send(callHeaders(1, UNARY), goaway(0, Code.NO_ERROR, 'bye'));
      await client.expectAlive();
      client.send(data(1, message('last'), Flag.END_STREAM));
      assert.equal((await readAnswer(client, 1)).messages[0]?.bytes.toString(), 'last');
      await client.expectClosedWithin(5_000);
    });
    await eventually(() => server.server.stats().connections === 0, 'no connection left');
  });
});
