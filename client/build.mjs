/** Builds what is published into dist/: ESM with types, and a package.json that names them. */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
rmSync(at('dist'), { recursive: true, force: true });
execFileSync(process.execPath, [at('../node_modules/typescript/bin/tsc'), '-p', at('tsconfig.build.json')], {
  stdio: 'inherit',
});

const {
  private: _,
  scripts: __,
  exports,
  ...manifest
} = JSON.parse(readFileSync(at('package.json'), 'utf8'));
const built = Object.fromEntries(
  Object.entries(exports).map(([name, source]) => {
    const file = source.replace('./src/', './').replace(/\.ts$/, '');
    return [name, { types: `${file}.d.ts`, default: `${file}.js` }];
  }),
);
const peers = {
  '@bufbuild/protobuf': '^2.17.0',
  '@connectrpc/connect': '^2.2.0',
  '@connectrpc/connect-node': '^2.2.0',
  '@pilotlight/proto': manifest.version,
  react: '>=18',
};
const peerDependenciesMeta = Object.fromEntries(Object.keys(peers).map((name) => [name, { optional: true }]));
writeFileSync(
  at('dist/package.json'),
  `${JSON.stringify({ ...manifest, exports: built, peerDependencies: peers, peerDependenciesMeta }, null, 2)}\n`,
);
