/**
 * The servers that h2spec and the interop client of grpc-go talk to: one in plain, one over TLS. Writes the certificate
 * to `argv[2]`, tells the ports in one line of JSON, and ends when stdin ends: with 1 if a server had an internal error.
 */
import { writeFileSync } from 'node:fs';
import { makeCertificate } from '../support/programs.ts';
import { startServer } from '../support/test-server.ts';
import { registerTestService } from '../support/test-service.ts';

const tls = makeCertificate();
writeFileSync(process.argv[2] as string, tls.cert);
const plain = await startServer({}, registerTestService);
const secure = await startServer({ tls }, registerTestService);
process.stdout.write(`${JSON.stringify({ plain: plain.port, tls: secure.port })}\n`);

// SIGTERM is sent too, for programs that do not read stdin.
process.on('SIGTERM', () => {});
for await (const _ of process.stdin);
await Promise.all([plain.close(), secure.close()]);
for (const error of [...plain.errors, ...secure.errors]) {
  process.stderr.write(`internal error of the server: ${error}\n`);
  process.exitCode = 1;
}
