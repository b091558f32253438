/** Every route of the JSON API with good and with bad input: status and body by the catalogue. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { type Answer, errorOf, request } from '../support/http.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';
import { freePort } from '../support/redis-server.ts';
import { waitFor } from '../support/wait.ts';

interface StatusAnswer {
  readonly data: { readonly userId: string; readonly status: string; readonly lastSeen: string };
}

describe('HTTP API', () => {
  let server: TestServer;
  let url: string;
  const call = (method: string, path: string, body?: unknown, headers?: Record<string, string>) =>
    request(url + path, method, body, headers);

  before(async () => {
    server = await startServer({ USER_STATUS_TTL: '30s', HEARTBEAT_INTERVAL: '2500ms', MAX_BULK_USERS: '5' });
    url = server.httpUrl;
  });
  after(() => server.stop());

  it('sets, gets and puts out a user', async () => {
    const on = await call('PUT', '/v1/users/ada/status', { status: 'ONLINE' });
    assert.equal(on.status, 200);
    assert.equal(on.headers.get('content-type'), 'application/json; charset=utf-8');
    assert.partialDeepStrictEqual(on.body, {
      success: true,
      message: 'ada is ONLINE',
      data: { userId: 'ada', status: 'ONLINE', activity: 'ACTIVITY_ACTIVE' },
    });
    const { data } = (await call('GET', '/v1/users/ada/status')).body as StatusAnswer;
    assert.equal(data.status, 'ONLINE');
    assert.match(data.lastSeen, /^\d{13}$/);
    const off = await call('PUT', '/v1/users/ada/status', { status: 'OFFLINE' });
    assert.partialDeepStrictEqual(off.body, {
      success: true,
      data: { status: 'OFFLINE', activity: 'ACTIVITY_UNSPECIFIED' },
    });
  });

  it('sets an activity', async () => {
    const body = { status: 'ONLINE', activity: 'ACTIVITY_DO_NOT_DISTURB' };
    const { body: answer } = await call('PUT', '/v1/users/bea/status', body);
    assert.partialDeepStrictEqual(answer, { data: { activity: 'ACTIVITY_DO_NOT_DISTURB' } });
  });

  it('answers OFFLINE, never seen, for a user nobody heard of', async () => {
    const answer = await call('GET', '/v1/users/nobody/status');
    assert.equal(answer.status, 200);
    assert.partialDeepStrictEqual(answer.body, {
      success: true,
      data: { userId: 'nobody', status: 'OFFLINE', lastSeen: '0', since: '0' },
    });
  });

  it('takes heartbeats, and refuses those after a sign-out', async () => {
    const beat = await call('POST', '/v1/users/cat/heartbeat');
    assert.deepEqual(beat.body, {
      success: true,
      nextHeartbeatInSeconds: '2',
      nextHeartbeatInMs: '2500',
    });
    await call('PUT', '/v1/users/cat/status', { status: 'OFFLINE' });
    const late = await call('POST', '/v1/users/cat/heartbeat');
    assert.equal(late.status, 200);
    assert.partialDeepStrictEqual(late.body, { success: false });
  });

  it('gets many users in the order asked for', async () => {
    await call('PUT', '/v1/users/dan/status', { status: 'ONLINE' });
    const answer = await call('POST', '/v1/users/status:batchGet', { userIds: ['nobody', 'dan', 'nobody'] });
    assert.equal(answer.status, 200);
    const { data } = answer.body as { data: { userId: string; status: string }[] };
    assert.deepEqual(
      data.map(({ userId, status }) => `${userId} ${status}`),
      ['nobody OFFLINE', 'dan ONLINE', 'nobody OFFLINE'],
    );
    const none = await call('POST', '/v1/users/status:batchGet', { userIds: [] });
    assert.deepEqual(none.body, { success: true, data: [] });
  });

  it('takes any user id, percent-encoded', async () => {
    for (const id of ['a/b', 'ü ñ', '100%', 'a?b#c', 'status:batchGet', '🔥', 'x'.repeat(128)]) {
      const path = `/v1/users/${encodeURIComponent(id)}/status`;
      const { body } = await call('PUT', path, { status: 'ONLINE' });
      assert.partialDeepStrictEqual(body, { success: true, data: { userId: id, status: 'ONLINE' } }, id);
    }
  });

  describe('refuses', () => {
    const big = 'x'.repeat(70_000);
    const cases: [
      name: string,
      send: () => Promise<Answer>,
      status: number,
      code: string,
      message: string,
    ][] = [
      [
        'bad JSON',
        () => call('PUT', '/v1/users/a/status', '{"status":', { 'content-type': 'application/json' }),
        400,
        'INVALID_ARGUMENT',
        'the body is not valid JSON',
      ],
      [
        'an empty body',
        () => call('PUT', '/v1/users/a/status', '', { 'content-type': 'application/json' }),
        400,
        'INVALID_ARGUMENT',
        'the body is not valid JSON',
      ],
      [
        'a body that is no object',
        () => call('PUT', '/v1/users/a/status', [1]),
        400,
        'INVALID_ARGUMENT',
        'the JSON must be an object',
      ],
      [
        'a body over the limit',
        () => call('POST', '/v1/users/status:batchGet', { userIds: [big] }),
        400,
        'INVALID_ARGUMENT',
        'the body must have at most 65536 bytes',
      ],
      [
        'another media type',
        () =>
          call('PUT', '/v1/users/a/status', 'status=ONLINE', {
            'content-type': 'application/x-www-form-urlencoded',
          }),
        400,
        'INVALID_ARGUMENT',
        'content-type must be application/json',
      ],
      [
        'plain text',
        () => call('PUT', '/v1/users/a/status', '{"status":"ONLINE"}', { 'content-type': 'text/plain' }),
        400,
        'INVALID_ARGUMENT',
        'content-type must be application/json',
      ],
      [
        'no status',
        () => call('PUT', '/v1/users/a/status', {}),
        400,
        'INVALID_STATUS',
        'status must be ONLINE or OFFLINE',
      ],
      [
        'an unknown status',
        () => call('PUT', '/v1/users/a/status', { status: 'online' }),
        400,
        'INVALID_STATUS',
        'status must be ONLINE or OFFLINE',
      ],
      [
        'a status of the wrong type',
        () => call('PUT', '/v1/users/a/status', { status: true }),
        400,
        'INVALID_STATUS',
        'status must be ONLINE or OFFLINE',
      ],
      [
        'an unknown activity',
        () => call('PUT', '/v1/users/a/status', { status: 'ONLINE', activity: 'BUSY' }),
        400,
        'INVALID_ARGUMENT',
        'activity must be one of ACTIVITY_UNSPECIFIED, ACTIVITY_ACTIVE, ACTIVITY_IDLE, ACTIVITY_AWAY, ACTIVITY_DO_NOT_DISTURB',
      ],
      [
        'an activity while OFFLINE',
        () => call('PUT', '/v1/users/a/status', { status: 'OFFLINE', activity: 'ACTIVITY_IDLE' }),
        400,
        'INVALID_ARGUMENT',
        'activity is only for status ONLINE',
      ],
      [
        'an unknown field',
        () => call('PUT', '/v1/users/a/status', { status: 'ONLINE', ttl: 5 }),
        400,
        'INVALID_ARGUMENT',
        'ttl is not a field of this request',
      ],
      [
        'an id that is too long',
        () => call('GET', `/v1/users/${'x'.repeat(129)}/status`),
        400,
        'INVALID_ARGUMENT',
        'user_id must have at most 128 bytes',
      ],
      [
        'an id with control characters',
        () => call('POST', '/v1/users/a%00b/heartbeat'),
        400,
        'INVALID_ARGUMENT',
        'user_id must not contain control characters',
      ],
      [
        'an empty id',
        () => call('GET', '/v1/users//status'),
        400,
        'INVALID_ARGUMENT',
        'user_id must not be empty',
      ],
      [
        'a broken escape',
        () => call('GET', '/v1/users/%zz/status'),
        400,
        'INVALID_ARGUMENT',
        'the URL is malformed',
      ],
      [
        'a list of the wrong type',
        () => call('POST', '/v1/users/status:batchGet', { userIds: 'ada' }),
        400,
        'INVALID_ARGUMENT',
        'user_ids must be a list',
      ],
      [
        'an id of the wrong type',
        () => call('POST', '/v1/users/status:batchGet', { userIds: ['ada', 7] }),
        400,
        'INVALID_ARGUMENT',
        'user_ids[1] must be a string',
      ],
      [
        'a list that is too long',
        () => call('POST', '/v1/users/status:batchGet', { userIds: Array(6).fill('a') }),
        400,
        'INVALID_ARGUMENT',
        'user_ids must name at most 5 users',
      ],
      [
        'a bad id in a list',
        () => call('POST', '/v1/users/status:batchGet', { userIds: ['ada', ''] }),
        400,
        'INVALID_ARGUMENT',
        'user_ids[1] must not be empty',
      ],
      ['no watch list', () => call('GET', '/v1/events'), 400, 'INVALID_ARGUMENT', 'watch is required'],
      [
        'an empty watch list',
        () => call('GET', '/v1/events?watch='),
        400,
        'INVALID_ARGUMENT',
        'watch_user_ids[0] must not be empty',
      ],
      [
        'a bad Last-Event-ID',
        () => call('GET', '/v1/events?watch=a', undefined, { 'last-event-id': 'yesterday' }),
        400,
        'INVALID_ARGUMENT',
        'last-event-id must match pattern "^([0-9]{1,16})?$"',
      ],
      [
        'a head that is too long',
        () => call('GET', `/v1/events?watch=${big}`),
        400,
        'INVALID_ARGUMENT',
        'the URL and headers are too long',
      ],
      [
        'an unknown route',
        () => call('GET', '/v1/nothing?x=1'),
        404,
        'INVALID_ARGUMENT',
        'there is no GET /v1/nothing',
      ],
      [
        'an unknown method',
        () => call('DELETE', '/v1/users/a/status'),
        405,
        'INVALID_ARGUMENT',
        'DELETE is not a method of /v1/users/a/status; it has GET, HEAD, OPTIONS, PUT',
      ],
    ];
    for (const [name, send, status, code, message] of cases) {
      it(name, async () => {
        const answer = await send();
        assert.deepEqual(answer.body, errorOf(code, message));
        assert.equal(answer.status, status);
      });
    }
  });
});

describe('HTTP API while the engine is away', () => {
  let server: TestServer;

  before(async () => {
    server = await startServer({
      REDIS_URL: `redis://127.0.0.1:${await freePort()}`,
      REDIS_TIMEOUT: '100ms',
    });
  });
  after(() => server.stop());

  it('answers REDIS_ERROR to everything that needs it', async () => {
    const routes: [string, string, unknown?][] = [
      ['GET', '/v1/users/ada/status'],
      ['PUT', '/v1/users/ada/status', { status: 'ONLINE' }],
      ['POST', '/v1/users/ada/heartbeat'],
      ['POST', '/v1/users/status:batchGet', { userIds: ['ada'] }],
      ['GET', '/v1/events?watch=ada'],
    ];
    for (const [method, path, body] of routes) {
      const answer = await request(server.httpUrl + path, method, body);
      assert.equal(answer.status, 503, path);
      assert.partialDeepStrictEqual(answer.body, { success: false, error: { code: 'REDIS_ERROR' } });
    }
  });

  it('is alive, and not ready, with the reason', async () => {
    assert.deepEqual((await request(`${server.httpUrl}/livez`)).body, { status: 'alive' });
    const reasons = ['the engine does not answer', "CONNECTION_REFUSED: nobody listens at Redis' address"];
    await waitFor('the reason', async () => {
      const { status, body } = await request(`${server.httpUrl}/readyz`);
      assert.equal(status, 503);
      return isDeepStrictEqual(body, { status: 'not ready', reasons });
    });
  });

  it('still has metrics, and statistics that say so', async () => {
    const { status, text } = await request(`${server.httpUrl}/metrics`);
    assert.equal(status, 200);
    assert.match(text, /^pilotlight_redis_up 0$/m);
    assert.match(text, /^pilotlight_ready 0$/m);
    assert.doesNotMatch(text, /^pilotlight_online_users \d/m);
  });
});
