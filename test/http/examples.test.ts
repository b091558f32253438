/** The `curl` examples of docs/http.md, run as they stand, one after another. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runProcess } from '../support/child-process.ts';
import { startServer, type TestServer } from '../support/pilotlight.ts';

const guide = readFileSync(fileURLToPath(new URL('../../docs/http.md', import.meta.url)), 'utf8');
const examples = [...guide.matchAll(/```sh\n(curl .+)\n```\n```(?:json|text)\n([\s\S]*?)\n```/g)].map(
  ([, command, answer]) => ({ command: command as string, answer: answer as string }),
);

/** Times and versions differ from run to run. */
function withoutTimes(text: string): string {
  return text
    .replaceAll(/"1\d{12}(\d{3})?"/g, '"<time>"')
    .replaceAll(/^id: \d+$/gm, 'id: <time>')
    .trim();
}

describe('examples of docs/http.md', () => {
  let server: TestServer;

  before(async () => {
    server = await startServer({ USER_STATUS_TTL: '30s', HEARTBEAT_INTERVAL: '15s' });
  });
  after(() => server.stop());

  it('are all of its curl commands', () => {
    assert.equal(examples.length, guide.match(/^curl /gm)?.length);
    assert.ok(examples.length >= 10);
  });

  for (const { command, answer } of examples) {
    it(command, async () => {
      const { port } = new URL(server.httpUrl);
      const local = command.replace('localhost:8080', `127.0.0.1:${port}`);
      // A watch ends by its own time limit, which curl reports as a failure.
      const { code, out } = await runProcess('sh', ['-c', local.replace('curl', 'curl -s')]);
      assert.ok(code === 0 || code === 28, 'curl failed; is the Debian package curl installed?');
      assert.equal(withoutTimes(out), withoutTimes(answer));
    });
  }
});
