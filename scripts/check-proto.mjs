// The contract: lint, no breaking change against the baseline (the spec's messages), and generated code up to date.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fail, run } from './setup.mjs';

run('linting the proto files', 'buf', ['lint']);
run('comparing the contract with its baseline', 'buf', ['breaking', 'proto', '--against', 'proto/baseline']);

const folder = mkdtempSync(join(tmpdir(), 'pilotlight-proto-'));
try {
  run('generating messages', 'buf', ['generate', '--output', folder]);
  run('comparing them with those in the tree', 'diff', ['-r', join(folder, 'proto/gen'), 'proto/gen']);
} catch (error) {
  fail(`proto/gen is not what the proto files say; run: npm run proto:generate (${error.message})`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
