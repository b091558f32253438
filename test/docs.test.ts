/** Tables of the documentation, checked against the code in both directions. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { configOptions } from '../src/config.ts';
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

  it('links between documents lead somewhere', () => {
    const files = [
      'README.md',
      'ARCHITECTURE.md',
      'CONTRIBUTING.md',
      'SECURITY.md',
      ...readdirSync(join(root, 'docs'), { recursive: true })
        .map(String)
        .filter((file) => file.endsWith('.md'))
        .map((file) => `docs/${file}`),
    ];
    for (const file of files) {
      for (const [, target] of read(file).matchAll(/\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)/g)) {
        const path = join(root, file, '..', target as string);
        assert.doesNotThrow(
          () => readdirSync(join(path, '..')).includes(path.split('/').at(-1) as string) || assert.fail(),
          `${file} -> ${target}`,
        );
      }
    }
  });
});
