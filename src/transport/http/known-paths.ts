import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { PresenceError } from '../../core/errors.ts';
import { answerError } from './http-errors.ts';

/** What a client may try on a path, by the routes that there are. */
export class KnownPaths {
  readonly #routes = new Map<string, { readonly pattern: RegExp; readonly methods: Set<string> }>();

  /** @param isRpc whether a route is one of Connect, whose library takes all methods to refuse all but one */
  constructor(app: FastifyInstance, isRpc: (url: string) => boolean) {
    app.addHook('onRoute', ({ url, method }) => {
      // Wildcards stand for no path: CORS, and files whose route says for itself which there are.
      if (!url.includes('*')) this.add(url, isRpc(url) ? ['POST'] : [method].flat());
    });
  }

  add(url: string, methods: readonly string[]): void {
    const route = this.#routes.get(url) ?? { pattern: patternOf(url), methods: new Set<string>() };
    for (const method of methods) route.methods.add(method);
    this.#routes.set(url, route);
  }

  /**
   * Whether the router took a path that has a route of its own for one with a parameter, for want of the method there.
   * `/v1/users/status:batchGet` is never a user; one of that name is written `status%3AbatchGet`.
   */
  isOfAnother(request: FastifyRequest): boolean {
    const { url } = request.routeOptions;
    if (!url?.includes('/:')) return false;
    const own = this.#routes.get(routeOf(decoded(pathOf(request))));
    return own !== undefined && !own.methods.has(request.method);
  }

  /** The methods of a path; empty: there is no such path. `*` is the server itself. */
  methodsOf(path: string): readonly string[] {
    const compared = decoded(path);
    const own = this.#routes.get(routeOf(compared));
    const routes = own
      ? [own]
      : [...this.#routes.values()].filter(({ pattern }) => path === '*' || pattern.test(compared));
    const methods = new Set(routes.flatMap((route) => [...route.methods]));
    return methods.size === 0 ? [] : [...methods.add('OPTIONS')].sort();
  }
}

/** As routes are written: the router reads one colon as the start of a parameter, two as a colon. */
function routeOf(path: string): string {
  return path.replaceAll(':', '::');
}

/** The path of a request, which proxies may ask for with its host. */
export function pathOf({ url }: Pick<FastifyRequest, 'url'>): string {
  return (url.split('?', 1)[0] as string).replace(/^https?:\/\/[^/]*/i, '');
}

/** As the router compares paths: what may stand in one as it is, is decoded. */
function decoded(path: string): string {
  try {
    return decodeURI(path);
  } catch {
    return path;
  }
}

/** 405 with what is allowed where the path is known, else 404: HTTP's own statuses, which proxies and clients go by. */
export function answerUnknown(paths: KnownPaths, request: FastifyRequest, reply: FastifyReply): void {
  const path = pathOf(request);
  const methods = paths.methodsOf(path);
  const shown = path.slice(0, 200);
  if (methods.length === 0) {
    answerError(reply, new PresenceError('INVALID_ARGUMENT', `there is no ${request.method} ${shown}`), 404);
    return;
  }
  reply.header('allow', methods.join(', '));
  const error = `${request.method} is not a method of ${shown}; it has ${methods.join(', ')}`;
  answerError(reply, new PresenceError('INVALID_ARGUMENT', error), 405);
}

/** OPTIONS without CORS headers: what is allowed. */
export function answerOptions(paths: KnownPaths, request: FastifyRequest, reply: FastifyReply): void {
  const methods = paths.methodsOf(pathOf(request));
  if (methods.length === 0) answerUnknown(paths, request, reply);
  else reply.code(204).header('allow', methods.join(', ')).send();
}

function patternOf(url: string): RegExp {
  const segments = url.split('/').map((segment) => {
    // The router reads one colon as the start of a parameter, two as a colon.
    if (/^:[^:]/.test(segment)) return '[^/]*';
    return segment.replaceAll('::', ':').replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  });
  return new RegExp(`^${segments.join('/')}$`);
}
