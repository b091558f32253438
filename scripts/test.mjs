// npm test: installs what is missing, then runs every check. The test runner comes last, so that its summary closes.
import { ensureDashboard, ensureDebianPackages, ensurePackages, ensureValkey, node, run } from './setup.mjs';

ensurePackages();
ensureDebianPackages({
  'redis-server': ['redis-server', '--version'],
  chromium: ['chromium', '--version'],
  'nghttp2-client': ['h2load', '--version'],
  faketime: ['faketime', '--version'],
  curl: ['curl', '--version'],
  openssl: ['openssl', 'version'],
  prometheus: ['promtool', '--version'],
  nginx: ['/usr/sbin/nginx', '-v'],
  haproxy: ['/usr/sbin/haproxy', '-v'],
  'python3-grpcio': ['/usr/bin/python3', '-c', 'import grpc'],
});
ensureValkey();
ensureDashboard();
run('checking types', 'npm', ['run', '--silent', 'types']);
run('checking style', 'npm', ['run', '--silent', 'lint']);
run('checking the contract', node, ['scripts/check-proto.mjs']);
run('running the tests', node, ['test/runner/run-tests.ts']);
