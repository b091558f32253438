// npm run test:conformance: suites that nobody here wrote, against grpc-server. They are Go programs, installed here at
// the versions below; where Go is missing they do not run.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureDebianPackages, ensurePackages, fail, node, root } from './setup.mjs';

const INSTALL_LIMIT_MS = 300_000;
const RUN_LIMIT_MS = 300_000;

const tools = {
  connect: { module: 'connectrpc.com/conformance', program: 'cmd/connectconformance', version: 'v1.0.7' },
  h2spec: { module: 'github.com/summerwind/h2spec', program: 'cmd/h2spec', version: 'v2.2.1+incompatible' },
  interop: { module: 'google.golang.org/grpc', program: 'interop/client', version: 'v1.85.0' },
};

/** All cases of the interop client that need neither a cloud nor load reports. */
const interopCases = [
  'empty_unary',
  'large_unary',
  'client_streaming',
  'server_streaming',
  'ping_pong',
  'empty_stream',
  'timeout_on_sleeping_server',
  'cancel_after_begin',
  'cancel_after_first_response',
  'status_code_and_message',
  'special_status_message',
  'custom_metadata',
  'unimplemented_method',
  'unimplemented_service',
];

const suites = join(root, 'grpc-server', 'test', 'conformance-suites');
const cache = join(root, 'node_modules', '.cache', 'conformance');
const say = (sentence) => process.stderr.write(`conformance: ${sentence}\n`);

/** Process groups that run now: killed with this process. */
const running = new Set();

function killAll() {
  for (const child of running) kill(child);
}

function kill(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch (error) {
    // It has ended by itself.
    if (error.code !== 'ESRCH') throw error;
  }
}

function start(program, args, options) {
  const child = spawn(program, args, { cwd: root, detached: true, ...options });
  running.add(child);
  child.once('close', () => running.delete(child));
  child.once('error', () => running.delete(child));
  return child;
}

/** Runs a program to its end. What it printed and whether it ended well; at the time limit its group is killed. */
async function run(program, args, { limitMs = RUN_LIMIT_MS, ...options } = {}) {
  const child = start(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  let out = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => (out += text));
  const timer = setTimeout(() => {
    out += `\nkilled after ${limitMs / 1000} s\n`;
    kill(child);
  }, limitMs);
  const ok = await new Promise((resolve) => {
    child.once('error', (error) => {
      out += error.message;
      resolve(false);
    });
    child.once('close', (code) => resolve(code === 0));
  });
  clearTimeout(timer);
  return { ok, out };
}

/** The path of a tool; each version has a folder of its own. */
async function install({ module, program, version }) {
  const name = program.split('/').at(-1);
  const folder = join(cache, `${module.replaceAll('/', '_')}@${version}`);
  const path = join(folder, name);
  if (existsSync(path)) return path;
  say(`installing ${module} ${version} (once)`);
  mkdirSync(folder, { recursive: true });
  const env = { ...process.env, GOBIN: folder, GOFLAGS: '' };
  const args = ['install', `${module}/${program}@${version}`];
  const { ok, out } = await run('go', args, { cwd: folder, env, limitMs: INSTALL_LIMIT_MS });
  if (!ok || !existsSync(path)) throw new Error(`${module} ${version} cannot be installed: ${out.trim()}`);
  return path;
}

/** The messages of the Connect suite, from the .proto files of the version that runs. */
async function describeMessages({ module, version }, path) {
  const env = { ...process.env, GOFLAGS: '' };
  const args = ['mod', 'download', '-json', `${module}@${version}`];
  const { status, stdout } = spawnSync('go', args, { cwd: cache, env, timeout: INSTALL_LIMIT_MS });
  if (status !== 0) throw new Error(`the sources of ${module} ${version} cannot be found: ${stdout}`);
  const protos = join(JSON.parse(String(stdout)).Dir, 'proto');
  const { ok, out } = await run(join(root, 'node_modules', '.bin', 'buf'), ['build', protos, '-o', path]);
  if (!ok) throw new Error(`the messages of ${module} cannot be read: ${out}`);
}

/** Starts a server, and waits until what it prints matches. */
async function startServer(args, pattern, options) {
  const child = start(node, args, { stdio: ['pipe', 'pipe', 'pipe'], ...options });
  const ended = new Promise((resolve) => child.once('close', (code) => resolve(code === 0)));
  const timer = setTimeout(() => kill(child), RUN_LIMIT_MS);
  const server = { child, ended, out: '' };
  const found = await new Promise((resolve) => {
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text) => {
        server.out += text;
        if (pattern.test(server.out)) resolve(pattern.exec(server.out));
      });
    child.once('close', () => resolve(null));
  });
  clearTimeout(timer);
  if (found === null) throw new Error(`${args[0]} did not start: ${server.out}`);
  return { server, found };
}

/** The whole product, in memory, as it runs without any setting. */
function startProduct() {
  const env = { PATH: process.env.PATH, GRPC_PORT: '0', HTTP_PORT: '0' };
  return startServer([join(root, 'src', 'main.ts'), 'serve'], /gRPC on \S+:(\d+),/, { env });
}

/** Tells a server to end, and reports how it did. */
async function stopServer(name, server) {
  server.child.stdin.end();
  server.child.kill('SIGTERM');
  const timer = setTimeout(() => kill(server.child), RUN_LIMIT_MS);
  const ok = await server.ended;
  clearTimeout(timer);
  report(name, ok, ok ? 'ended in order' : 'ended badly', server.out);
}

let failures = 0;

function report(suite, ok, summary, details) {
  if (!ok) {
    failures++;
    process.stderr.write(`${details.trimEnd()}\n`);
  }
  say(`${ok ? 'passed' : 'FAILED'}  ${suite}: ${summary}`);
}

async function runConnect(program, folder) {
  const messages = join(folder, 'messages.binpb');
  await describeMessages(tools.connect, messages);
  const config = join(suites, 'connect-suite.yaml');
  const server = [node, join(suites, 'connect-server.ts'), messages];
  const { ok, out } = await run(program, [
    ...['--mode', 'server', '--conf', config, '--parallel', '4', '--'],
    ...server,
  ]);
  const [, total, passed] = /^Total cases: (\d+)\n(\d+) passed/m.exec(out) ?? [];
  report(
    'Connect conformance, gRPC',
    ok && total === passed && total === '570',
    `${passed} of ${total}`,
    out,
  );
}

async function runH2spec(program, target, port, args) {
  const { ok, out } = await run(program, ['-h', '127.0.0.1', '-p', String(port), '-o', '5', ...args]);
  const summary = /^\d+ tests, .*$/m.exec(out)?.[0] ?? 'did not end';
  const total = args.includes('--strict') ? 146 : 145;
  const allPassed = summary === `${total} tests, ${total} passed, 0 skipped, 0 failed`;
  report(`h2spec, ${target}`, ok && allPassed, summary, out);
}

/** All cases against the product: exactly those of h2spec-product.txt do not pass. */
async function runH2specOnProduct(program, port, folder) {
  const junit = join(folder, 'h2spec.xml');
  const args = ['-h', '127.0.0.1', '-p', port, '-o', '5', '--strict', '-j', junit];
  const { out } = await run(program, args);
  const cases = existsSync(junit) ? readFileSync(junit, 'utf8').split('<testcase ').slice(1) : [];
  const nameOf = (text) => {
    const [, section, title] = /^package="([^"]*)" classname="([^"]*)"/.exec(text);
    return `${section}: ${title}`.replaceAll(/&#34;|&quot;/g, '"');
  };
  const others = cases.filter((text) => /<(error|failure|skipped)/.test(text)).map(nameOf);
  const list = readFileSync(join(suites, 'h2spec-product.txt'), 'utf8').split('\n');
  const known = list.filter((line) => line !== '' && !line.startsWith('#'));
  const unexpected = [
    ...others.filter((name) => !known.includes(name)).map((name) => `does not pass: ${name}`),
    ...known.filter((name) => !others.includes(name)).map((name) => `passes, or is gone: ${name}`),
  ];
  const summary = `${cases.length - others.length} of ${cases.length}, ${known.length} cannot pass`;
  const ok = cases.length === 146 && unexpected.length === 0;
  report("h2spec, the product's port, strict", ok, summary, [out, ...unexpected].join('\n'));
}

async function runInterop(program, target, port, args) {
  let passed = 0;
  let details = '';
  for (const name of interopCases) {
    const to = ['--server_host', '127.0.0.1', '--server_port', String(port), '--test_case', name];
    const { ok, out } = await run(program, [...to, ...args], { limitMs: 60_000 });
    if (ok) passed++;
    else details += `${name}: ${out}\n`;
  }
  const all = interopCases.length;
  report(`grpc-go interop client, ${target}`, passed === all, `${passed} of ${all}`, details);
}

async function runSuites(folder) {
  const [connect, h2spec, interop] = [
    await install(tools.connect),
    await install(tools.h2spec),
    await install(tools.interop),
  ];
  await runConnect(connect, folder);
  const certificate = join(folder, 'cert.pem');
  const args = [join(suites, 'suite-servers.ts'), certificate];
  const { server, found } = await startServer(args, /^\{.*\}$/m);
  const ports = JSON.parse(found[0]);
  await runH2spec(h2spec, 'h2c', ports.plain, []);
  await runH2spec(h2spec, 'h2c, strict', ports.plain, ['--strict']);
  await runH2spec(h2spec, 'TLS, strict', ports.tls, ['--strict', '--tls', '--insecure']);
  await runInterop(interop, 'h2c', ports.plain, []);
  const tls = ['--use_tls', '--use_test_ca', '--ca_file', certificate, '--server_host_override', 'localhost'];
  await runInterop(interop, 'TLS', ports.tls, tls);
  await stopServer('their servers', server);
  const product = await startProduct();
  await runH2specOnProduct(h2spec, product.found[1], folder);
  await stopServer('the product', product.server);
}

if (spawnSync('go', ['version'], { stdio: 'ignore' }).status !== 0) {
  say('Go is not installed: the conformance suites do not run');
} else {
  ensurePackages();
  ensureDebianPackages({ openssl: ['openssl', 'version'] });
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), 'pilotlight-conformance-'));
  const clear = () => {
    killAll();
    rmSync(folder, { recursive: true, force: true });
  };
  process.once('exit', clear);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));
  try {
    await runSuites(folder);
  } catch (error) {
    fail(error.message);
  }
  process.exit(failures === 0 ? 0 : 1);
}
