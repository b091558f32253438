import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../../../test/support/child-process.ts';
import { GrpcServer } from '../../src/index.ts';
import { makeCertificate, runPython } from '../support/programs.ts';
import { eventually } from '../support/raw-client.ts';
import { registerTestService } from '../support/test-service.ts';

const CASES = [
  'empty_unary',
  'large_unary',
  'client_streaming',
  'server_streaming',
  'ping_pong',
  'empty_stream',
  'custom_metadata',
  'status_code_and_message',
  'special_status_message',
  'unimplemented',
  'cancel_after_first_response',
  'timeout_on_sleeping_server',
  'concurrent_large_unary',
  'compressed_unary',
];

for (const secure of [false, true]) {
  test(`Python gRPC (C-core) over ${secure ? 'TLS' : 'h2c'}: the interop cases`, async () => {
    const folder = temporaryFolder();
    const tls = secure ? makeCertificate() : undefined;
    const errors: unknown[] = [];
    const server = new GrpcServer({
      ...(tls && { tls }),
      compression: true,
      onError: (error) => errors.push(error),
    });
    registerTestService(server);
    try {
      const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
      const certificate = join(folder, 'cert.pem');
      if (tls) writeFileSync(certificate, tls.cert);
      const script = readFileSync(new URL('python_client.py', import.meta.url), 'utf8');
      const { code, out } = await runPython(script, [`localhost:${port}`, ...(tls ? [certificate] : [])]);
      assert.equal(code, 0, out);
      assert.deepEqual(
        [...out.matchAll(/^ok (\S+)$/gm)].map((found) => found[1]),
        CASES,
      );
      await eventually(() => server.stats().connections === 0, 'Python to be gone');
      assert.equal(server.stats().streams, 0);
      assert.deepEqual(errors, []);
    } finally {
      rmSync(folder, { recursive: true });
      await server.close();
    }
  });
}
