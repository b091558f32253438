/** Users who may not be watched: the client says so, and watches the others. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { apiKeysFile, secureEnvironment, token } from '../../test/security/support/credentials.ts';
import { Endpoint } from '../../test/security/support/endpoint.ts';
import { startServer } from '../../test/support/pilotlight.ts';
import { waitFor } from '../../test/support/wait.ts';
import { PresenceClient, PresenceError } from '../src/index.ts';

describe('a client under a watch policy', () => {
  it('watches all others of a list that was refused, and lets go of whom it may watch no longer', async () => {
    const keys = apiKeysFile();
    const policy = await Endpoint.start('allowed');
    policy.yes = new Set(['ada>bob', 'ada>cyd']);
    policy.cacheControl = 'max-age=1';
    const server = await startServer({
      ...secureEnvironment(keys.file),
      WATCH_POLICY: 'http',
      WATCH_POLICY_URL: policy.url,
      USER_STATUS_TTL: '1m',
    });
    const errors: PresenceError[] = [];
    const client = new PresenceClient({
      url: server.httpUrl,
      userId: 'ada',
      token: await token('ada'),
      onError: (error) => {
        assert.ok(error instanceof PresenceError);
        errors.push(error);
      },
    }).open();
    try {
      client.subscribe(['bob', 'eve', 'cyd', 'mallory'], () => {});
      await waitFor('bob and cyd', () => client.get('bob') !== undefined && client.get('cyd') !== undefined);
      assert.deepEqual(
        errors.map(({ code, userIds }) => [code, userIds]),
        [['UNAUTHORIZED', ['eve', 'mallory']]],
      );
      policy.yes.delete('ada>bob');
      await waitFor('the end of one', () => errors.length === 2);
      assert.deepEqual(errors[1]?.userIds, ['bob']);
      assert.equal(client.get('bob'), undefined);
      assert.equal(client.get('cyd')?.status, 'OFFLINE');
    } finally {
      client.close();
      await server.stop();
      policy.stop();
      keys.remove();
    }
  });
});
