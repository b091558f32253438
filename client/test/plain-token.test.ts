import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { waitFor } from '../../test/support/wait.ts';
import { PresenceClient } from '../src/index.ts';

describe('a token sent in plain text', () => {
  it('is warned of once for each host, and not on this machine or by TLS', async (context) => {
    const warn = context.mock.method(console, 'warn', () => {});
    const urls = [
      'http://presence.invalid:1',
      'ws://presence.invalid:2',
      'https://presence.invalid:3',
      'http://127.0.0.1:1',
      'http://localhost:1',
    ];
    let asked = 0;
    const token = () => {
      asked++;
      return 'secret';
    };
    for (const url of urls) {
      const client = new PresenceClient({ url, token });
      const privacy = client.getPrivacy().catch(() => {});
      await privacy;
      client.close();
    }
    const client = new PresenceClient({ url: 'http://without.invalid:1' });
    await client.getPrivacy().catch(() => {});
    client.close();
    await waitFor('all to be asked', () => asked >= urls.length);
    const lines = warn.mock.calls.map(({ arguments: [line] }) => String(line));
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? '', /sent to presence\.invalid in plain text/);
    assert.doesNotMatch(lines.join(), /secret/);
  });
});
