/** The OpenAPI document against what the server really answers. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { request } from '../support/http.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';

interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly requestBody?: { readonly content: Record<string, { readonly schema: object }> };
  readonly responses: Record<string, { readonly content?: Record<string, { readonly schema: object }> }>;
}

interface Document {
  readonly openapi: string;
  readonly paths: Record<string, Record<string, Operation>>;
}

describe('OpenAPI document', () => {
  let server: TestServer;
  let document: Document;
  const ajv = new Ajv2020({ strict: true, allErrors: true });

  before(async () => {
    server = await startServer();
    document = (await request(`${server.httpUrl}/openapi.json`)).body as Document;
  });
  after(() => server.stop());

  const operation = (method: string, path: string) => {
    const found = document.paths[path]?.[method];
    assert.ok(found, `${method} ${path} is not in the document`);
    return found;
  };

  it('is 3.1 and has every route of the API, and no other', () => {
    assert.equal(document.openapi, '3.1.0');
    const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method} ${path}`),
    );
    assert.deepEqual(routes.sort(), [
      'delete /v1/users/{id}',
      'get /livez',
      'get /readyz',
      'get /v1/events',
      'get /v1/stats',
      'get /v1/stats/live',
      'get /v1/users/{id}/connections',
      'get /v1/users/{id}/privacy',
      'get /v1/users/{id}/status',
      'post /v1/tokens/revoke',
      'post /v1/users/status:batchGet',
      'post /v1/users/{id}/heartbeat',
      'put /v1/users/{id}/privacy',
      'put /v1/users/{id}/status',
    ]);
    for (const [path, methods] of Object.entries(document.paths)) {
      for (const [method, { operationId, summary }] of Object.entries(methods)) {
        assert.ok(operationId && summary, `${method} ${path} says nothing of itself`);
      }
    }
  });

  const calls: [method: string, path: string, route: string, body?: unknown][] = [
    ['put', '/v1/users/ada/status', '/v1/users/{id}/status', { status: 'ONLINE', activity: 'ACTIVITY_IDLE' }],
    ['put', '/v1/users/ada/status', '/v1/users/{id}/status', { status: 'ON' }],
    ['get', '/v1/users/ada/status', '/v1/users/{id}/status'],
    ['get', '/v1/users/nobody/status', '/v1/users/{id}/status'],
    ['delete', '/v1/users/nobody', '/v1/users/{id}'],
    ['delete', '/v1/users/%00', '/v1/users/{id}'],
    ['get', '/v1/users/%00/status', '/v1/users/{id}/status'],
    ['get', '/v1/users/ada/connections', '/v1/users/{id}/connections'],
    ['get', '/v1/users/ada/privacy', '/v1/users/{id}/privacy'],
    ['put', '/v1/users/ada/privacy', '/v1/users/{id}/privacy', { addBlocked: ['bob'] }],
    ['put', '/v1/users/ada/privacy', '/v1/users/{id}/privacy', { addBlocked: ['ada'] }],
    ['post', '/v1/users/ada/heartbeat', '/v1/users/{id}/heartbeat'],
    ['post', '/v1/users/status:batchGet', '/v1/users/status:batchGet', { userIds: ['ada', 'nobody'] }],
    ['post', '/v1/users/status:batchGet', '/v1/users/status:batchGet', { userIds: 1 }],
    ['get', '/livez', '/livez'],
    ['get', '/readyz', '/readyz'],
  ];

  for (const [method, path, route, body] of calls) {
    it(`describes the answer of ${method} ${path} ${body === undefined ? '' : JSON.stringify(body)}`, async () => {
      const answer = await request(server.httpUrl + path, method.toUpperCase(), body);
      const described = operation(method, route).responses[answer.status]?.content?.['application/json']
        ?.schema;
      assert.ok(described, `status ${answer.status} is not described`);
      const validate = ajv.compile(described);
      assert.ok(validate(answer.body), `${answer.text}: ${ajv.errorsText(validate.errors)}`);
    });
  }

  it('notices an answer that is not as described', () => {
    const schema = operation('get', '/v1/users/{id}/status').responses[200]?.content?.['application/json']
      ?.schema;
    const validate = ajv.compile(schema as object);
    assert.equal(validate({ success: true, data: { userId: 'ada' } }), false);
    assert.equal(validate({ success: true, extra: 1 }), false);
  });

  it('describes request bodies with the schemas that requests are held to', async () => {
    const body = operation('put', '/v1/users/{id}/status').requestBody?.content['application/json']?.schema;
    const validate = ajv.compile(body as object);
    for (const candidate of [
      { status: 'ONLINE' },
      { status: 'OFFLINE' },
      { status: 'x' },
      {},
      { status: 'ONLINE', x: 1 },
    ]) {
      const { status } = await request(`${server.httpUrl}/v1/users/ada/status`, 'PUT', candidate);
      assert.equal(validate(candidate), status === 200, JSON.stringify(candidate));
    }
  });
});
