import { existsSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import fastifyStatic from '@fastify/static';
import type { FastifyInstance } from 'fastify';
import type { KnownPaths } from './known-paths.ts';

const folder = fileURLToPath(new URL('../../../dashboard/dist', import.meta.url));

/** The built dashboard at `/`; where it was not built, how to. */
export async function dashboardRoutes(
  app: FastifyInstance,
  { paths }: { readonly paths: KnownPaths },
): Promise<void> {
  if (existsSync(folder)) {
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      paths.add(`/${relative(folder, join(entry.parentPath, entry.name))}`, ['GET', 'HEAD']);
    }
    paths.add('/', ['GET', 'HEAD']);
    await app.register(fastifyStatic, {
      root: folder,
      // Files under assets/ have their content's hash in their name.
      setHeaders: (reply, path) => {
        const isHashed = path.includes('/assets/');
        reply.header('cache-control', isHashed ? 'public, max-age=31536000, immutable' : 'no-cache');
      },
    });
    return;
  }
  app.get('/', { schema: { hide: true } }, async (_request, reply) =>
    reply.type('text/plain; charset=utf-8').send('The dashboard is not built: run npm run build:dashboard\n'),
  );
}
