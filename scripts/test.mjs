// npm test: installs what is missing, then runs every check. The test runner comes last, so that its summary closes.
import { ensurePackages, ensurePrograms, node, run } from './setup.mjs';

ensurePackages();
ensurePrograms({
  'redis-server': 'redis-server',
  'redis-sentinel': 'redis-sentinel',
  chromium: 'chromium',
  h2load: 'nghttp2-client',
  curl: 'curl',
  openssl: 'openssl',
});
run('checking types', 'npm', ['run', '--silent', 'types']);
run('checking style', 'npm', ['run', '--silent', 'lint']);
run('checking the contract', node, ['scripts/check-proto.mjs']);
run('running the tests', 'npm', ['run', '--silent', 'test:unit']);
