import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Code,
  data,
  Flag,
  frame,
  goaway,
  headers,
  message,
  PREFACE,
  paddedData,
  ping,
  priorityFields,
  rstStream,
  Setting,
  settings,
  settingsAck,
  Type,
  windowUpdate,
} from '../support/frames.ts';
import { encode, literalIndexed } from '../support/hpack.ts';
import { eventually } from '../support/raw-client.ts';
import { call, callHeaders, get, plainFields, post, request } from '../support/requests.ts';
import { Suite, useClient, useServer } from '../support/suite.ts';
import { BIDI, bytesMethod, HANG, readAnswer, SERVER_STREAM, value } from '../support/test-server.ts';
import { answered } from './case.ts';

const END = Flag.END_HEADERS | Flag.END_STREAM;
const BLOCK = encode(plainFields());
const NO_HANDSHAKE = { handshake: false } as const;
const suite = new Suite();

test('x/1 the preface byte by byte, and everything in one segment', async () => {
  await suite.use(async (client) => {
    const bytes = Buffer.concat([PREFACE, settings(), get(1)]);
    client.note(bytes);
    for (const byte of bytes) {
      client.sendRaw(Buffer.from([byte]));
      await client.flushed();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await answered(1)(client);
  }, NO_HANDSHAKE);
  await suite.use(async (client) => {
    client.send(Buffer.concat([PREFACE, settings(), get(1)]));
    await answered(1)(client);
  }, NO_HANDSHAKE);
});

test('x/2 any wrong byte of the preface ends the connection cleanly', async () => {
  const attempts = Array.from({ length: 23 }, (_, i) =>
    suite.use(async (client) => {
      client.sendRaw(Buffer.concat([PREFACE.subarray(0, i), Buffer.from('X')]));
      await client.expectClosedWithin(3_000);
      assert.equal(client.ended, true, `after ${i} right bytes: a FIN`);
      assert.equal(client.socketError, undefined);
    }, NO_HANDSHAKE),
  );
  await Promise.all(attempts);
});

test('x/3 a first frame other than SETTINGS, or SETTINGS with ACK', async () => {
  for (const first of [ping('h2spec!!'), get(1), windowUpdate(0, 1), settingsAck()]) {
    await suite.use(async (client) => {
      client.send(Buffer.concat([PREFACE, first]));
      await client.expectGoaway(Code.PROTOCOL_ERROR);
    }, NO_HANDSHAKE);
  }
});

test('x/4 a silent client, and one that stops after the preface, are cut off', async () => {
  await useServer({ limits: { handshakeTimeoutMs: 200, firstSettingsTimeoutMs: 200 } }, async (server) => {
    await Promise.all(
      [Buffer.alloc(0), PREFACE.subarray(0, 10), PREFACE].map((bytes) =>
        useClient(
          server,
          async (client) => {
            client.sendRaw(bytes);
            await client.expectClosedWithin(5_000);
            assert.equal(client.socketError, undefined);
          },
          NO_HANDSHAKE,
        ),
      ),
    );
    await eventually(() => server.server.stats().connections === 0, 'no connection left');
  });
});

test('x/5 the server announces its limits and never server push', async () => {
  await suite.use(async (client) => {
    assert.equal(client.serverSettings.get(Setting.ENABLE_PUSH) ?? 0, 0);
    const streams = client.serverSettings.get(Setting.MAX_CONCURRENT_STREAMS);
    assert.ok(streams !== undefined && streams >= 100 && streams <= 1_000, `${streams} streams`);
    const list = client.serverSettings.get(Setting.MAX_HEADER_LIST_SIZE);
    assert.ok(list !== undefined && list >= 8_192 && list <= 65_536, `${list} bytes of header list`);
    assert.ok((client.serverSettings.get(Setting.MAX_FRAME_SIZE) ?? 16_384) >= 16_384);
  });
});

test('x/6 SETTINGS ACK for nothing, and SETTINGS with too many entries', async () => {
  await suite.use(async (client) => {
    await client.expectAlive();
    client.send(settingsAck());
    await client.expectGoaway(Code.PROTOCOL_ERROR);
  });
  await suite.use(async (client) => {
    client.send(settings(Array.from({ length: 33 }, (_, i) => [0x100 + i, 1] as const)));
    await client.expectGoaway(Code.ENHANCE_YOUR_CALM);
  });
  await suite.use(async (client) => {
    client.send(settings(Array.from({ length: 32 }, (_, i) => [0x100 + i, 1] as const)));
    await client.expectSettingsAck();
    await client.expectAlive();
  });
});

test('x/7 one ACK for each SETTINGS, values in force before it', async () => {
  await suite.use(async (client) => {
    client.send(
      settings([[Setting.INITIAL_WINDOW_SIZE, 10]]),
      settings([[Setting.INITIAL_WINDOW_SIZE, 3]]),
      get(1),
      settings([[Setting.INITIAL_WINDOW_SIZE, 5]]),
      ping('after it'),
    );
    await client.expectPingAck('after it');
    const acks = client.frames.filter((f) => f.type === Type.SETTINGS && f.flags === Flag.ACK);
    assert.equal(acks.length, 4, 'the handshake and three more');
    await client.expectData(1);
    await eventually(() => sent() === 5, 'the five bytes that the last window allows');
    function sent(): number {
      return client.on(1).reduce((sum, f) => sum + (f.type === Type.DATA ? f.payload.length : 0), 0);
    }
    await client.expectAlive();
    assert.equal(sent(), 5);
  });
});

test('x/8 a client that never acknowledges SETTINGS', async () => {
  await useServer({ limits: { settingsAckTimeoutMs: 200 } }, async (server) => {
    await useClient(
      server,
      async (client) => {
        await client.expectGoaway(Code.SETTINGS_TIMEOUT);
      },
      { ackSettings: false },
    );
  });
});

test('x/9 unknown frame types are ignored, but not above MAX_FRAME_SIZE', async () => {
  await suite.use(async (client) => {
    for (let type = 11; type <= 255; type++) client.send(frame(type, 0, 0));
    await client.expectAlive();
    client.send(frame(0x20, 0xff, 0, Buffer.alloc(16_384)), frame(0x20, 0xff, 9, Buffer.alloc(100)));
    await client.expectAlive();
    client.send(frame(0x16, 0, 0, Buffer.alloc(16_385)));
    await client.expectGoaway(Code.FRAME_SIZE_ERROR);
  });
});

test('x/10 padding and priority that do not fit', async () => {
  const tooShort = [
    frame(Type.HEADERS, END | Flag.PRIORITY, 1, Buffer.alloc(4)),
    frame(Type.HEADERS, END | Flag.PADDED, 1),
    frame(Type.HEADERS, END | Flag.PADDED | Flag.PRIORITY, 1, Buffer.from([0, 0, 0, 0, 0])),
  ];
  for (const bytes of tooShort) {
    await suite.use(async (client) => {
      client.send(bytes);
      await client.expectGoaway(Code.FRAME_SIZE_ERROR);
    });
  }
  await suite.use(async (client) => {
    client.send(post(1), frame(Type.DATA, Flag.PADDED, 1));
    await client.expectStreamError(1, Code.FRAME_SIZE_ERROR);
  });
  const tooMuchPadding = [
    frame(Type.HEADERS, END | Flag.PADDED, 1, Buffer.concat([Buffer.from([BLOCK.length + 1]), BLOCK])),
    frame(
      Type.HEADERS,
      END | Flag.PADDED | Flag.PRIORITY,
      1,
      Buffer.concat([Buffer.from([BLOCK.length + 1]), priorityFields(0, 1), BLOCK]),
    ),
  ];
  for (const bytes of tooMuchPadding) {
    await suite.use(async (client) => {
      client.send(bytes);
      await client.expectGoaway(Code.PROTOCOL_ERROR);
    });
  }
  await suite.use(async (client) => {
    client.send(post(1), frame(Type.DATA, Flag.PADDED, 1, Buffer.from([4, 0, 0, 0])));
    await client.expectGoaway(Code.PROTOCOL_ERROR);
  });
  await suite.use(async (client) => {
    const both = Buffer.concat([Buffer.from([3]), priorityFields(0, 1), BLOCK, Buffer.alloc(3)]);
    client.send(frame(Type.HEADERS, Flag.END_HEADERS | Flag.PADDED | Flag.PRIORITY, 1, both));
    client.send(paddedData(1, '', 255), paddedData(1, '', 0), data(1, '', Flag.END_STREAM));
    await answered(1)(client);
  });
});

test('x/11 GOAWAY from the client: too short, and with a call in flight', async () => {
  await suite.use(async (client) => {
    client.send(frame(Type.GOAWAY, 0, 0, Buffer.alloc(7)));
    await client.expectGoaway(Code.FRAME_SIZE_ERROR);
  });
  await suite.use(async (client) => {
    client.send(callHeaders(1, BIDI), data(1, message('one')));
    await client.expectData(1);
    client.send(goaway(0, Code.NO_ERROR), data(1, message('two')), data(1, '', Flag.END_STREAM));
    const answer = await readAnswer(client, 1);
    assert.equal(answer.status, 0);
    assert.deepEqual(
      answer.messages.map((m) => m.bytes.toString()),
      ['one', 'two'],
    );
    await client.expectClosedWithin(5_000);
  });
});

test('x/12 RST_STREAM and WINDOW_UPDATE on a closed stream are ignored', async () => {
  await suite.use(async (client) => {
    client.send(get(1));
    await client.expectEndStream(1);
    client.send(rstStream(1, Code.CANCEL), windowUpdate(1, 10), rstStream(1, Code.NO_ERROR));
    client.send(post(3), rstStream(3, Code.CANCEL), windowUpdate(3, 10), rstStream(3, Code.CANCEL));
    await client.expectAlive();
    assert.equal(
      client.frames.filter((f) => f.type === Type.RST_STREAM).length,
      0,
      'no reset answers a reset',
    );
  });
});

test('x/13 frames on a stream that the server has reset still count for HPACK and flow control', async () => {
  await suite.use(async (client) => {
    // Before it sees the reset, the client has sent DATA and trailers that add to the dynamic table.
    client.send(
      callHeaders(1, BIDI),
      windowUpdate(1, 0x7fffffff),
      data(1, message('too late')),
      headers(1, literalIndexed('x-late', 'late'), END),
      headers(3, Buffer.concat([encode(plainFields()), Buffer.from([0xbe])]), END),
    );
    await client.expectRst(1, Code.FLOW_CONTROL_ERROR);
    await answered(3)(client);
  });
});

test('x/13 two hundred calls answered before their requests have ended do not cost the connection', async () => {
  await suite.use(async (client) => {
    // To the server it looks as if all the messages were under way when it refused the calls.
    const ids = Array.from({ length: 200 }, (_, i) => i * 2 + 1);
    client.send(...ids.map((id) => callHeaders(id, '/no.Such/Method')));
    for (const id of ids) assert.equal((await readAnswer(client, id)).status, 12);
    client.send(...ids.map((id) => data(id, message('x'), Flag.END_STREAM)));
    await client.expectAlive();
  });
});

test('x/14 DATA beyond the window of a stream', async () => {
  await useServer(
    {},
    async (server) => {
      await useClient(server, async (client) => {
        const window = client.serverSettings.get(Setting.INITIAL_WINDOW_SIZE) ?? 65_535;
        client.send(callHeaders(1, '/test.Paused/Bidi'));
        await client.expectAlive();
        const small = Buffer.concat(Array.from({ length: 16 }, () => message(Buffer.alloc(1019))));
        for (let sent = 0; sent < window; sent += small.length) {
          await eventually(() => client.connectionCredit >= small.length, 'credit on the connection');
          client.send(data(1, small));
        }
        client.send(data(1, small));
        await client.expectStreamError(1, Code.FLOW_CONTROL_ERROR);
        assert.equal(client.grantedOn.get(1) ?? 0, 0, 'a paused stream grants nothing');
      });
    },
    (server) => {
      server.bidi(bytesMethod('/test.Paused/Bidi', 'bidi'), (stream) => {
        stream.onMessage(() => {});
        stream.pause();
      });
    },
  );
});

test('x/14 padding is given back: a stream of nothing but padding does not starve', async () => {
  await suite.use(
    async (client) => {
      client.send(callHeaders(1, BIDI));
      const window = client.serverSettings.get(Setting.INITIAL_WINDOW_SIZE) ?? 65_535;
      const padding = paddedData(1, message('x'), 249);
      let sent = 0;
      for (; sent < 2 * Math.max(window, 65_535); sent += 256) {
        const allowed = window + (client.grantedOn.get(1) ?? 0);
        if (allowed - sent < 256 || client.connectionCredit < 256) {
          await eventually(
            () => client.connectionCredit >= 256 && window + (client.grantedOn.get(1) ?? 0) - sent >= 256,
            `credit after ${sent} bytes`,
          );
        }
        client.send(padding);
      }
      client.send(data(1, '', Flag.END_STREAM));
      assert.equal((await readAnswer(client, 1)).messages.length, sent / 256);
    },
    { returnCredit: true },
  );
});

test('x/15 SETTINGS that push an open stream above 2^31-1', async () => {
  await suite.use(async (client) => {
    client.send(callHeaders(1, BIDI), windowUpdate(1, 0x7fffffff - 65_535));
    await client.expectAlive();
    client.sendSettings([[Setting.INITIAL_WINDOW_SIZE, 65_536]]);
    await client.expectGoaway(Code.FLOW_CONTROL_ERROR);
  });
});

test('x/16 DATA of calls that are refused or cancelled returns its connection credit', async () => {
  await suite.use(async (client) => {
    let streamId = 1;
    for (let sent = 0; sent < 200_000; sent += 8_192) {
      await eventually(() => client.connectionCredit >= 8_192, `credit after ${sent} bytes`);
      const path = streamId % 4 === 1 ? '/no.Such/Method' : HANG;
      client.send(callHeaders(streamId, path), data(streamId, Buffer.alloc(8_192)));
      if (path === HANG) client.send(rstStream(streamId, Code.CANCEL));
      streamId += 2;
    }
    await client.expectAlive();
  });
});

test('x/17 END_STREAM needs no window', async () => {
  await suite.use(
    async (client) => {
      client.send(request(1, plainFields('HEAD')));
      await client.expectEndStream(1);
      client.send(callHeaders(3, SERVER_STREAM), data(3, message('\0'), Flag.END_STREAM));
      assert.equal((await readAnswer(client, 3)).status, 0);
    },
    { settings: [[Setting.INITIAL_WINDOW_SIZE, 0]] },
  );
});

test('x/18 skipped stream ids are closed, not idle', async () => {
  await suite.use(async (client) => {
    client.send(get(1), get(7), rstStream(3, Code.CANCEL), windowUpdate(5, 1));
    await client.expectAlive();
    client.send(data(5, 'x'));
    await client.expectStreamError(5, Code.STREAM_CLOSED);
  });
});

test('x/19 the last stream id works and is the last', async () => {
  await suite.use(async (client) => {
    client.send(get(0x7fffffff));
    const { fields } = await client.expectHeaders(0x7fffffff);
    assert.equal(value(fields, ':status'), '200');
    await client.expectGoaway(Code.NO_ERROR);
  });
});

test('x/20 large answers are cut into legal frames and header blocks stay whole', async () => {
  const long = 'v'.repeat(15_000);
  await useServer(
    {},
    async (server) => {
      await useClient(
        server,
        async (client) => {
          for (const streamId of [1, 3, 5]) client.send(call(streamId, '/test.Large/Unary'));
          for (const streamId of [1, 3, 5]) {
            const answer = await readAnswer(client, streamId);
            assert.equal(answer.messages[0]?.bytes.length, 300_000);
            assert.equal(value(answer.trailers, 'x-long-1'), long);
            assert.equal(value(answer.trailers, 'x-long-2'), long);
          }
          assert.ok(
            client.frames.some((f) => f.type === Type.CONTINUATION),
            'the trailers need CONTINUATION',
          );
        },
        { returnCredit: true },
      );
    },
    (server) => {
      server.unary(bytesMethod('/test.Large/Unary', 'unary'), (_request, one) => {
        one.setTrailer('x-long-1', long);
        one.setTrailer('x-long-2', long);
        return Buffer.alloc(300_000, 'm');
      });
    },
  );
});
