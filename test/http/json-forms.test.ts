/** The forms that proto3 JSON gives a value, on every surface that takes JSON: one table, four ways in. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { Activity, LastSeenVisibility, UserStatus } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { WebSocket } from 'ws';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { waitFor } from '../support/wait.ts';

/** What a surface made of a request: nothing was wrong, or what the error says. */
type Outcome = { readonly code: string; readonly message: string } | null;
interface Surface {
  /** SetUserStatus, or the frame that says the same. */
  setStatus(userId: string, fields: string): Promise<Outcome>;
  /** undefined: it has no such request. */
  setPrivacy?(userId: string, fields: string): Promise<Outcome>;
  readonly ignoresUnknownFields: boolean;
}

let server: TestServer;
before(async () => {
  server = await startServer({ USER_STATUS_TTL: '1h', HEARTBEAT_INTERVAL: '15s', DRAIN_TIMEOUT: '100ms' });
});
after(() => server.stop());

async function rest(method: string, path: string, body: string): Promise<Outcome> {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(server.httpUrl + path, { method, headers, body });
  const answer = (await response.json()) as { error?: { code: string; message: string } };
  return answer.error ?? null;
}

async function connectJson(method: string, body: string): Promise<Outcome> {
  const response = await fetch(`${server.httpUrl}/presence.v1.PresenceService/${method}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  });
  const answer = (await response.json()) as {
    code?: string;
    message?: string;
    details?: { type: string; debug?: { reason: string }; value: string }[];
  };
  if (response.ok) return null;
  const info = answer.details?.find(({ type }) => type === 'google.rpc.ErrorInfo');
  const reason = /INVALID_(?:STATUS|ARGUMENT)/.exec(Buffer.from(info?.value ?? '', 'base64').toString())?.[0];
  return { code: reason ?? `${answer.code} without ErrorInfo`, message: answer.message ?? '' };
}

async function grpcWebJson(method: string, body: string): Promise<Outcome> {
  const message = Buffer.from(body);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  const response = await fetch(`${server.httpUrl}/presence.v1.PresenceService/${method}`, {
    method: 'POST',
    headers: { 'content-type': 'application/grpc-web+json', 'x-grpc-web': '1' },
    body: Buffer.concat([prefix, message]),
  });
  const text = Buffer.from(await response.arrayBuffer()).toString();
  const field = (name: string) =>
    response.headers.get(name) ?? new RegExp(`${name}: ([^\r\n]*)`).exec(text)?.[1] ?? '';
  if (field('grpc-status') === '0') return null;
  const details = Buffer.from(field('grpc-status-details-bin'), 'base64').toString();
  const code = /INVALID_(?:STATUS|ARGUMENT)/.exec(details)?.[0] ?? `grpc-status ${field('grpc-status')}`;
  return { code, message: decodeURIComponent(field('grpc-message')) };
}

const message = (userId: string, fields: string) => `{"userId":"${userId}"${fields && `,${fields}`}}`;

async function openWebSocket(): Promise<(userId: string, frame: string) => Promise<Outcome>> {
  const sockets = new Map<string, { socket: WebSocket; answers: Record<string, unknown>[] }>();
  return async (userId, frame) => {
    let session = sockets.get(userId);
    if (!session) {
      const socket = new WebSocket(`${server.httpUrl.replace('http', 'ws')}/v1/connect`, 'presence.v1.json');
      const answers: Record<string, unknown>[] = [];
      session = { socket, answers };
      sockets.set(userId, session);
      socket.on('error', () => {});
      socket.on('message', (data: Buffer) =>
        answers.push(JSON.parse(data.toString()) as Record<string, unknown>),
      );
      await once(socket, 'open');
      socket.send(`{"requestId":1,"hello":{"userId":"${userId}"}}`);
      await waitFor('the welcome', () => answers.length === 1);
    }
    const { socket, answers } = session;
    const before = answers.length;
    socket.send(`{"requestId":5,${frame}}`);
    await waitFor('an answer', () => answers.length > before);
    const answer = answers.at(-1) as { requestId: number; error?: { code: string; message: string } };
    assert.equal(answer.requestId, 5);
    return answer.error ?? null;
  };
}

const surfaces: Readonly<Record<string, () => Promise<Surface>>> = {
  REST: async () => ({
    setStatus: (userId, fields) => rest('PUT', `/v1/users/${userId}/status`, `{${fields}}`),
    setPrivacy: (userId, fields) => rest('PUT', `/v1/users/${userId}/privacy`, `{${fields}}`),
    ignoresUnknownFields: false,
  }),
  'Connect JSON': async () => ({
    setStatus: (userId, fields) => connectJson('SetUserStatus', message(userId, fields)),
    setPrivacy: (userId, fields) => connectJson('SetPrivacy', message(userId, fields)),
    ignoresUnknownFields: true,
  }),
  'gRPC-Web JSON': async () => ({
    setStatus: (userId, fields) => grpcWebJson('SetUserStatus', message(userId, fields)),
    setPrivacy: (userId, fields) => grpcWebJson('SetPrivacy', message(userId, fields)),
    ignoresUnknownFields: true,
  }),
  'WebSocket JSON': async () => {
    const ask = await openWebSocket();
    return {
      setStatus: (userId, fields) => ask(userId, `"setStatus":{${fields}}`),
      ignoresUnknownFields: true,
    };
  },
};

const { ACTIVE, AWAY, DO_NOT_DISTURB } = Activity;
const goodStatuses: readonly (readonly [fields: string, activity: Activity])[] = [
  ['"status":"ONLINE"', ACTIVE],
  ['"status":1', ACTIVE],
  ['"status":1.0', ACTIVE],
  ['"status":"ONLINE","activity":null', ACTIVE],
  ['"status":"ONLINE","activity":"ACTIVITY_UNSPECIFIED"', ACTIVE],
  ['"status":"ONLINE","activity":0', ACTIVE],
  ['"status":"ONLINE","activity":"ACTIVITY_AWAY"', AWAY],
  ['"status":1,"activity":3', AWAY],
  ['"status":"ONLINE","activity":4', DO_NOT_DISTURB],
  ['"activity":"ACTIVITY_\\u0041WAY","status":1e0', AWAY],
];
const badStatuses: readonly (readonly [fields: string, code: string, message: RegExp])[] = [
  ['"status":"AWAKE"', 'INVALID_STATUS', /^status must be ONLINE or OFFLINE/],
  ['"status":"online"', 'INVALID_STATUS', /^status /],
  ['"status":99', 'INVALID_STATUS', /^status /],
  ['"status":true', 'INVALID_STATUS', /^status /],
  [
    '"status":"ONLINE","activity":"AWAY"',
    'INVALID_ARGUMENT',
    /activity must be one of ACTIVITY_UNSPECIFIED, /,
  ],
  ['"status":"ONLINE","activity":"activity_away"', 'INVALID_ARGUMENT', /activity must be one of/],
  ['"status":"ONLINE","activity":""', 'INVALID_ARGUMENT', /activity must be one of/],
  ['"status":"ONLINE","activity":99', 'INVALID_ARGUMENT', /activity /],
  ['"status":"ONLINE","activity":1.5', 'INVALID_ARGUMENT', /activity must be one of/],
  ['"status":"ONLINE","activity":{}', 'INVALID_ARGUMENT', /activity must be one of/],
  ['"status":"ONLINE","activity":["ACTIVITY_AWAY"]', 'INVALID_ARGUMENT', /activity must be one of/],
  [
    '"status":"OFFLINE","activity":"ACTIVITY_IDLE"',
    'INVALID_ARGUMENT',
    /^activity is only for status ONLINE/,
  ],
];

const goodPrivacies: readonly (readonly [fields: string, expected: Record<string, unknown>])[] = [
  ['"invisible":true', { invisible: true }],
  ['"invisible":null', { invisible: false }],
  ['"last_seen":"LAST_SEEN_VISIBILITY_NOBODY"', { lastSeen: LastSeenVisibility.NOBODY }],
  ['"lastSeen":2', { lastSeen: LastSeenVisibility.NOBODY }],
  ['"lastSeen":null', { lastSeen: LastSeenVisibility.EVERYONE }],
  ['"add_blocked":["x"]', { blockedUserIds: ['x'] }],
  ['"addBlocked":["x","y"],"removeBlocked":null', { blockedUserIds: ['x', 'y'] }],
];
const badPrivacies: readonly (readonly [fields: string, message: RegExp])[] = [
  ['"lastSeen":"NOBODY"', /^last_seen must be one of LAST_SEEN_VISIBILITY_UNSPECIFIED, /],
  ['"last_seen":"everyone"', /^last_seen must be one of/],
  ['"lastSeen":99', /last_seen/],
  ['"invisible":"true"', /^invisible must be true or false/],
  ['"addBlocked":"x"', /^add_blocked must be a list/],
  ['"addBlocked":["x",null]', /^add_blocked\[1\] must be a string/],
  ['"addBlocked":["x",7]', /^add_blocked\[1\] must be a string/],
  ['"addBlocked":["x"],"add_blocked":["y"]', /SetPrivacyRequest/],
];

for (const [name, open] of Object.entries(surfaces)) {
  describe(`proto3 JSON over ${name}`, () => {
    let surface: Surface;
    let users = 0;
    const anyUser = () => `${name.toLowerCase().replaceAll(' ', '-')}-${users++}`;
    before(async () => {
      surface = await open();
    });

    for (const [fields, activity] of goodStatuses) {
      it(`takes {${fields}}`, async () => {
        const userId = anyUser();
        assert.equal(await surface.setStatus(userId, fields), null);
        const { data } = await server.client.getUserStatus({ userId });
        assert.deepEqual([data?.status, data?.activity], [UserStatus.ONLINE, activity]);
      });
    }

    for (const [fields, code, message] of badStatuses) {
      it(`refuses {${fields}}, and names the field`, async () => {
        const outcome = await surface.setStatus(anyUser(), fields);
        assert.equal(outcome?.code, code);
        assert.match(outcome.message, message);
      });
    }

    it('refuses a field that is given twice', async () => {
      for (const fields of [
        '"status":"ONLINE","status":"OFFLINE"',
        '"status":"ONLINE","st\\u0061tus":"ONLINE"',
      ]) {
        const outcome = await surface.setStatus('twice', fields);
        assert.equal(outcome?.code, 'INVALID_ARGUMENT', fields);
        assert.match(outcome?.message ?? '', /twice in one object/, fields);
      }
    });

    it('ignores unknown fields where a newer client may send them', async () => {
      const outcome = await surface.setStatus(anyUser(), '"status":"ONLINE","newer":{"a":[1]}');
      if (surface.ignoresUnknownFields) assert.equal(outcome, null);
      else assert.equal(outcome?.message, 'newer is not a field of this request');
      const both = await surface.setStatus(anyUser(), '"newer":1,"status":"ONLINE","activity":"AWAY"');
      assert.equal(both?.code, 'INVALID_ARGUMENT');
    });

    // Sessions do not set privacy.
    if (name === 'WebSocket JSON') return;

    for (const [fields, expected] of goodPrivacies) {
      it(`takes a privacy of {${fields}}`, async () => {
        assert.ok(surface.setPrivacy);
        const userId = anyUser();
        assert.equal(await surface.setPrivacy(userId, fields), null);
        const { privacy } = await server.client.getPrivacy({ userId });
        assert.partialDeepStrictEqual({ ...privacy }, expected);
      });
    }

    for (const [fields, message] of badPrivacies) {
      it(`refuses a privacy of {${fields}}`, async () => {
        assert.ok(surface.setPrivacy);
        const outcome = await surface.setPrivacy(anyUser(), fields);
        assert.equal(outcome?.code, 'INVALID_ARGUMENT');
        assert.match(outcome.message, message);
      });
    }
  });
}

describe('proto3 JSON, what one surface alone has', () => {
  it('lists of users: names of both kinds, null and nothing for none', async () => {
    for (const body of [
      '{"userIds":["a"]}',
      '{"user_ids":["a"]}',
      '{"userIds":[]}',
      '{"userIds":null}',
      '{}',
    ]) {
      assert.equal(await rest('POST', '/v1/users/status:batchGet', body), null, body);
      assert.equal(await connectJson('GetMultipleUserStatus', body), null, body);
    }
    for (const body of ['{"userIds":"a"}', '{"userIds":[null]}', '{"user_ids":[7]}', '[]', '"a"', 'null']) {
      for (const outcome of [
        await rest('POST', '/v1/users/status:batchGet', body),
        await connectJson('GetMultipleUserStatus', body),
      ]) {
        assert.equal(outcome?.code, 'INVALID_ARGUMENT', body);
      }
    }
  });

  it('64-bit numbers as text and as numbers', async () => {
    const ask = await openWebSocket();
    for (const value of ['"60000"', '60000', '6e4', 'null', '0']) {
      assert.equal(
        await ask('numbers', `"setCustomStatus":{"text":"x","expiresInMs":${value}}`),
        null,
        value,
      );
      assert.equal(
        await ask('numbers', `"set_custom_status":{"text":"x","expires_in_ms":${value}}`),
        null,
        value,
      );
    }
    for (const value of ['"x"', '1.5', '"1.5"', 'true', '99999999999999999999', '{}']) {
      const outcome = await ask('numbers', `"setCustomStatus":{"text":"x","expiresInMs":${value}}`);
      assert.equal(outcome?.code, 'INVALID_ARGUMENT', value);
      assert.match(outcome.message, /expires_in_ms/, value);
    }
  });
});
