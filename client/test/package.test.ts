/** What is published: small, complete, free of server code. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build, type Rolldown } from 'vite';

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

async function bundle(entry: string, external: string[]): Promise<string> {
  const result = await build({
    configFile: false,
    logLevel: 'silent',
    build: {
      write: false,
      minify: true,
      target: 'es2022',
      lib: { entry: at(entry), formats: ['es'] },
      rolldownOptions: { external },
    },
  });
  const [output] = result as Rolldown.RolldownOutput[];
  return (output as Rolldown.RolldownOutput).output
    .map((chunk) => ('code' in chunk ? chunk.code : ''))
    .join('');
}

describe('@pilotlight/client', () => {
  it('is less than 15 KB gzipped in a browser, and depends on nothing', async (context) => {
    const code = await bundle('../src/index.ts', []);
    const bytes = gzipSync(code).length;
    context.diagnostic(`${bytes} bytes gzipped`);
    assert.ok(bytes < 15_000, `${bytes} bytes`);
    assert.doesNotMatch(code, /\bfrom\s*["']|\bimport\s*\(|\bprocess\./, 'everything is in the bundle');
  });

  it('adds only React to that for its hooks', async (context) => {
    const code = await bundle('../src/react.ts', ['react']);
    const bytes = gzipSync(code).length;
    context.diagnostic(`${bytes} bytes gzipped`);
    const imported = [...code.matchAll(/from\s*["']([^"']+)["']/g)].map(([, name]) => name);
    assert.deepEqual([...new Set(imported)], ['react']);
  });

  it('is built as ESM with types for every entry', async () => {
    execFileSync(process.execPath, [at('../build.mjs')]);
    const { exports } = JSON.parse(readFileSync(at('../dist/package.json'), 'utf8')) as {
      exports: Record<string, { types: string; default: string }>;
    };
    assert.deepEqual(Object.keys(exports), ['.', './react', './grpc']);
    for (const { types, default: code } of Object.values(exports)) {
      assert.ok(readFileSync(at(`../dist/${types}`), 'utf8').length > 0);
      const entry = (await import(at(`../dist/${code}`))) as Record<string, unknown>;
      assert.ok(Object.keys(entry).length > 0);
    }
  });
});
