import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { temporaryFolder } from '../../../test/support/child-process.ts';
import { message } from '../support/frames.ts';
import { makeCertificate, run } from '../support/programs.ts';
import { eventually } from '../support/raw-client.ts';
import { PLAIN_BODY, startServer, type TestServer, UNARY } from '../support/test-server.ts';

const tls = makeCertificate();
const GRPC_HEADERS = ['content-type: application/grpc', 'te: trailers'];

/** Command-line clients; each is another HTTP/2 implementation or another way to drive one. */
for (const secure of [false, true]) {
  describe(`programs over ${secure ? 'TLS' : 'h2c'}`, () => {
    let server: TestServer;
    let folder: string;
    let url: string;
    let requestFile: string;

    before(async () => {
      server = await startServer(secure ? { tls } : {});
      folder = temporaryFolder();
      requestFile = join(folder, 'request');
      writeFileSync(requestFile, message('hello'));
      url = `${secure ? 'https' : 'http'}://127.0.0.1:${server.port}`;
    });
    after(async () => {
      rmSync(folder, { recursive: true });
      await eventually(() => server.server.stats().connections === 0, 'the programs to be gone');
      await server.close();
      assert.deepEqual(server.errors, []);
    });

    test('curl: the plain route and a unary call', async () => {
      const base = ['-sS', '-k', '--max-time', '20', '-i', secure ? '--http2' : '--http2-prior-knowledge'];
      const plain = await run('curl', [...base, `${url}/`], 'curl');
      assert.equal(plain.code, 0, plain.out);
      assert.match(plain.out, /^HTTP\/2 200/);
      assert.ok(plain.out.endsWith(PLAIN_BODY), plain.out);
      const headers = GRPC_HEADERS.flatMap((one) => ['-H', one]);
      const args = [...base, '--data-binary', `@${requestFile}`, ...headers, url + UNARY];
      const grpc = await run('curl', args, 'curl');
      assert.equal(grpc.code, 0, grpc.out);
      assert.match(grpc.out, /^HTTP\/2 200/);
      assert.ok(grpc.out.includes('\0\0\0\0\x05hello'), JSON.stringify(grpc.out));
      assert.match(grpc.out, /grpc-status: 0/);
    });

    test('nghttp: 100 requests, padding, priorities, small windows', async () => {
      const args = ['-nvy', '-m100', '--padding=16', '-w10', '-W12', '--peer-max-concurrent-streams=100'];
      const one = await run('nghttp', [...args, `${url}/`], 'nghttp2-client');
      assert.equal(one.code, 0, one.out.slice(-2_000));
      assert.equal(one.out.match(/:status: 200/g)?.length, 100);
      assert.doesNotMatch(one.out, /recv RST_STREAM|protocol error|COMPRESSION_ERROR/i);
      const continued = await run('nghttp', ['-nvy', '--continuation', `${url}/`], 'nghttp2-client');
      assert.equal(continued.code, 0);
      assert.match(continued.out, /:status: 200|:status: 431/);
    });

    test('nghttp: a unary call with a body and trailers', async () => {
      const headers = GRPC_HEADERS.map((one) => `-H${one}`);
      const args = ['-vy', '-d', requestFile, ...headers, '-H:method: POST', '--no-dep', url + UNARY];
      const one = await run('nghttp', args, 'nghttp2-client');
      assert.equal(one.code, 0, one.out.slice(-2_000));
      assert.match(one.out, /grpc-status: 0/);
    });

    test('h2load: 20,000 unary calls on 10 connections of 20 streams, none fails', async () => {
      const headers = GRPC_HEADERS.flatMap((one) => ['-H', one]);
      const args = ['-n20000', '-c10', '-m20', '-t1', '-d', requestFile, ...headers, url + UNARY];
      const one = await run('h2load', args, 'nghttp2-client');
      assert.equal(one.code, 0, one.out.slice(-2_000));
      assert.match(
        one.out,
        /20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout/,
      );
      assert.match(one.out, /status codes: 20000 2xx/);
    });

    test('h2load: header tables of other sizes and tiny windows', async () => {
      const headers = GRPC_HEADERS.flatMap((one) => ['-H', one]);
      for (const extra of [
        ['--header-table-size=0'],
        ['--header-table-size=64K', '--encoder-header-table-size=0'],
        ['-w4', '-W16'],
      ]) {
        const args = ['-n2000', '-c4', '-m10', '-t1', ...extra, '-d', requestFile, ...headers, url + UNARY];
        const one = await run('h2load', args, 'nghttp2-client');
        assert.match(
          one.out,
          /2000 succeeded, 0 failed, 0 errored, 0 timeout/,
          `${extra}: ${one.out.slice(-1_000)}`,
        );
      }
    });
  });
}
