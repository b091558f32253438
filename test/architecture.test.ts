/** The house rules that a reader relies on: which room may import which, no cycles, a pure core. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const source = join(root, 'src');

/** What each room of src/ may import besides itself and packages. `.` is the composition root: everything. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  core: [],
  observe: ['core'],
  presence: ['core', 'observe'],
  store: ['core', 'observe'],
  security: ['core', 'observe', 'presence'],
  transport: ['core', 'observe', 'presence', 'security'],
  cli: ['core', 'observe'],
};

const forbiddenInCore =
  /\b(Date\.now|performance\.|setTimeout|setInterval|setImmediate|queueMicrotask|process\.|console\.|await |async |Math\.random|require\()/;

/** `import ... from 'x'`, `export ... from 'x'`, `import 'x'`, `import('x')`. */
const importPattern = /^(?:(?:import|export|\}).*\bfrom|import) '([^']+)';$|\bimport\('([^']+)'\)/gm;

interface Module {
  readonly file: string;
  readonly text: string;
  readonly imports: readonly string[];
}

function readModules(folder: string): Module[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name) && !/\.test\.tsx?$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .map((file) => {
      const text = readFileSync(file, 'utf8');
      const imports = [...text.matchAll(importPattern)].map(
        ([, name, dynamic]) => (name ?? dynamic) as string,
      );
      return { file, text, imports };
    });
}

/** Tests, and what only tests use. */
function testFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => !file.includes('/node_modules/') && /\.test\.ts$|\/test\//.test(file));
}

const modules = readModules(source);
const nameOf = (file: string) => relative(source, file);
const roomOf = (file: string) => (nameOf(file).includes('/') ? (nameOf(file).split('/')[0] as string) : '.');
const resolve = (from: string, name: string) => normalize(join(dirname(from), name));

describe('architecture', () => {
  it('has the rooms that ARCHITECTURE.md names, and no other', () => {
    const rooms = new Set(modules.map(({ file }) => roomOf(file)));
    rooms.delete('.');
    assert.deepEqual([...rooms].sort(), Object.keys(allowed).sort());
  });

  it('imports point one way', () => {
    for (const { file, imports } of modules) {
      const room = roomOf(file);
      if (room === '.') continue;
      for (const name of imports.filter((it) => it.startsWith('.'))) {
        const target = resolve(file, name);
        const ends = roomOf(target);
        const isAllowed = ends === room || allowed[room]?.includes(ends);
        assert.ok(isAllowed, `${nameOf(file)} must not import ${nameOf(target)}`);
      }
    }
  });

  it('has no import cycles', () => {
    const graph = new Map(
      modules.map(({ file, imports }) => {
        // Types are erased: they make no cycle at run time, and a cycle of them is a reader's, so they count too.
        const targets = imports.filter((name) => name.startsWith('.')).map((name) => resolve(file, name));
        return [file, targets];
      }),
    );
    const done = new Set<string>();
    const visit = (file: string, path: readonly string[]): void => {
      assert.ok(!path.includes(file), `cycle: ${[...path, file].map(nameOf).join(' -> ')}`);
      if (done.has(file)) return;
      for (const target of graph.get(file) ?? []) visit(target, [...path, file]);
      done.add(file);
    };
    for (const file of graph.keys()) visit(file, []);
  });

  it('core is pure: no packages, no time, no I/O', () => {
    for (const { file, text, imports } of modules.filter((it) => roomOf(it.file) === 'core')) {
      const outside = imports.filter((name) => !name.startsWith('./'));
      assert.deepEqual(outside, [], nameOf(file));
      const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
      const found = forbiddenInCore.exec(code)?.[0] ?? null;
      // An interface may promise what the core itself never does.
      if (nameOf(file) === 'core/store.ts') continue;
      assert.equal(found, null, nameOf(file));
    }
  });

  it('only main.ts and bench know the process', () => {
    for (const { file, text } of modules) {
      if (nameOf(file) === 'main.ts') continue;
      assert.doesNotMatch(
        text.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, ''),
        /\bprocess\.(env|argv|exit|on|stdout|stderr)/,
        nameOf(file),
      );
    }
  });

  it('tests start processes and make folders where they cannot stay behind', () => {
    const forbidden =
      /\b(spawn|fork|exec|execFile|mkdtemp|mkdtempSync)\b[^']* from 'node:(child_process|fs|fs\/promises)'/;
    const folders = ['src', 'test', 'client', 'dashboard', 'grpc-server'];
    for (const file of folders.flatMap((folder) => testFiles(join(root, folder)))) {
      // The module itself, its test, and the runner, which has a keeper of its own.
      if (/\/(child-process|child-process\.test|run-tests)\.ts$/.test(file)) continue;
      const found = forbidden.exec(readFileSync(file, 'utf8'))?.[0];
      assert.equal(found, undefined, `${relative(root, file)} must use test/support/child-process.ts`);
    }
  });

  it('the gRPC server knows nothing of presence', () => {
    for (const { file, imports } of readModules(join(root, 'grpc-server/src'))) {
      for (const name of imports) assert.match(name, /^(\.\/|node:)/, relative(root, file));
    }
  });
});
