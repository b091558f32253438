/** Tables of the documentation, checked against the code in both directions. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { configOptions } from '../src/config.ts';
import { securityOptions } from '../src/config-security.ts';
import { errorCatalogue } from '../src/core/errors.ts';
import { refusalTable } from '../src/store/redis/refusals.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (file: string) => readFileSync(join(root, file), 'utf8');

/** Cells of every table row whose first cell is code, such as `REDIS_URL`. */
function rows(markdown: string): string[][] {
  return markdown
    .split('\n')
    .filter((line) => /^\| `[^`]+` \|/.test(line))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim().replace(/^`|`$/g, '')),
    );
}

describe('documentation', () => {
  it('docs/configuration.md has every option, its default and its bounds, and no other', () => {
    const documented = rows(read('docs/configuration.md')).map((cells) => cells.slice(0, 3));
    const options = Object.values(configOptions).map(({ name, default: fallback, bounds }) => [
      name,
      fallback === '' ? 'unset' : fallback,
      bounds,
    ]);
    assert.deepEqual(documented.toSorted(), options.toSorted());
  });

  it('docs/errors.md has every code of the catalogue, and no other', () => {
    const documented = rows(read('docs/errors.md')).map((cells) => cells.slice(0, 4));
    const catalogue = Object.entries(errorCatalogue).map(([code, { grpcStatus, httpStatus, retryable }]) => [
      code,
      grpcStatus,
      String(httpStatus),
      retryable ? 'yes' : 'no',
    ]);
    assert.deepEqual(
      documented.map(([code, grpc, http, retry]) => [code, grpc?.split(' ')[0], http?.split(' ')[0], retry]),
      catalogue,
    );
  });

  it('docs/redis.md has every refusal of Redis, and what is done about it', () => {
    const documented = rows(read('docs/redis.md')).filter((cells) => cells.length === 5);
    const table = Object.entries(refusalTable).map(([code, { reason, action, isReady, isLogged }]) => [
      code,
      reason,
      action,
      isReady ? 'ready' : 'not ready',
      isLogged ? 'once' : 'no',
    ]);
    assert.deepEqual(documented, table);
  });

  it('ARCHITECTURE.md has every key of Redis that keys.ts has, with its type, and no other', () => {
    const comment = read('src/store/redis/keys.ts').replaceAll(/^ \* /gm, '');
    const table = (text: string) =>
      [...text.matchAll(/^\| ((?:channel )?`(?:user|presence):?[^`]*`) \| ([^|]+) \|/gm)].map(
        ([, key, type]) => `${key} ${type}`,
      );
    assert.deepEqual(table(read('ARCHITECTURE.md')), table(comment));
    assert.ok(table(comment).length > 10);
  });

  it('docs/security.md names every option of security', () => {
    const text = read('docs/security.md');
    const names = Object.values(securityOptions).map(({ name }) => name);
    assert.deepEqual(
      names.filter((name) => !new RegExp(`\\b${name}\\b`).test(text)),
      [],
    );
  });

  it('links between documents lead somewhere, also to their headings', () => {
    const files = [
      'README.md',
      'ARCHITECTURE.md',
      'CONTRIBUTING.md',
      'SECURITY.md',
      'grpc-server/README.md',
      ...readdirSync(join(root, 'docs'), { recursive: true })
        .map(String)
        .filter((file) => file.endsWith('.md'))
        .map((file) => `docs/${file}`),
    ];
    const broken: string[] = [];
    for (const file of files) {
      for (const [, target = '', heading] of read(file).matchAll(
        /\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)/g,
      )) {
        const path = target === '' ? join(root, file) : join(root, file, '..', target);
        if (!existsSync(path)) broken.push(`${file} -> ${target}`);
        else if (heading && !headingsOf(path).includes(heading))
          broken.push(`${file} -> ${target}#${heading}`);
      }
    }
    assert.deepEqual(broken, []);
  });
});

/** Names by which links lead to the headings of a document, as GitHub makes them. */
function headingsOf(path: string): string[] {
  const text = readFileSync(path, 'utf8').replaceAll(/^```.*?^```/gms, '');
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
