// The contract: lint, no breaking change against the baseline (the spec's messages), and generated code up to date.
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './setup.mjs';

const folder = mkdtempSync(join(tmpdir(), 'pilotlight-proto-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

run('linting the proto files', 'buf', ['lint']);

// buf refuses a baseline that lies within the module it is compared with.
cpSync('proto/baseline', join(folder, 'baseline'), { recursive: true });
run('comparing the contract with its baseline', 'buf', ['breaking', '--against', join(folder, 'baseline')]);

run('generating messages', 'buf', ['generate', '--output', folder]);
run('comparing them with proto/gen (npm run proto:generate updates it)', 'diff', [
  '-r',
  join(folder, 'proto/gen'),
  'proto/gen',
]);
