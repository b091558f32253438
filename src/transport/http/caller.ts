import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { PresenceError } from '../../core/errors.ts';
import type { Principal } from '../../core/principal.ts';
import type { PresenceApi } from '../../presence/presence-api.ts';
import type { Caller, Gate } from '../../security/gate.ts';
import { busy } from '../../security/limits.ts';
import type { Doorway } from '../presence-calls.ts';
import { answerError } from './http-errors.ts';
import { type KnownPaths, pathOf } from './known-paths.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** What the caller of one of our calls may do, settled before the body is read. */
    entered?: PresenceApi;
  }
}

export function callerOf({ raw, entered }: Pick<FastifyRequest, 'raw' | 'entered'>): Caller {
  return { ...callerOfRequest(raw, raw.headers.authorization), entered };
}

/** @param authorization as its Authorization header would say it */
export function callerOfRequest(
  { headers, socket }: IncomingMessage,
  authorization: string | undefined,
): Caller {
  return {
    authorization,
    address: socket.remoteAddress ?? '',
    port: socket.remotePort,
    header: (name) => headers[name]?.toString(),
  };
}

/** Who calls, by the head of a request: nothing is read of a body before that is known. After the hooks of CORS. */
export function settleCallers(app: FastifyInstance, doorway: Doorway): void {
  app.addHook('preParsing', async (request, reply) => {
    const { operationId } = (request.routeOptions.schema ?? {}) as { operationId?: string };
    if (operationId === undefined || !callRoutes.test(`${request.routeOptions.url}/`)) return;
    try {
      const method = `${operationId.charAt(0).toUpperCase()}${operationId.slice(1)}`;
      request.entered = await doorway.enter(method, callerOf(request));
    } catch (error) {
      answerError(reply, PresenceError.from(error));
      return reply;
    }
  });
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Whom an operator's route let pass; null: no credentials are asked for. */
    operator: Principal | null;
  }
}

/** What anybody may ask: probes, which say nothing of anybody, and sessions, whose credentials come later. */
const openRoutes: ReadonlySet<string> = new Set(['/livez', '/readyz', '/v1/connect']);
/** What passes the gate by itself, call by call. */
const callRoutes = /^\/(?:v1\/(?:users|events|tokens)|presence\.v1\.PresenceService)\//;

/** Calls for which the server has no time are refused before their bodies are read, and after the hooks of CORS. */
export function refuseWhenBusy(app: FastifyInstance, gate: Gate): void {
  app.addHook('preParsing', async (request, reply) => {
    if (!callRoutes.test(`${request.routeOptions.url ?? ''}/`) || gate.limits.mayCall()) return;
    answerError(reply, busy());
    return reply;
  });
}

/** Everything else is for operators: dashboard, metrics, statistics, the API's description, and what there is not. */
export function guardOperatorRoutes(app: FastifyInstance, gate: Gate, paths: KnownPaths): void {
  app.decorateRequest('operator', null);
  // After the hooks of CORS, so that a page can read why it was refused.
  app.addHook('preParsing', async (request, reply) => {
    const route = request.routeOptions.url ?? '';
    if (request.method === 'OPTIONS' || openRoutes.has(route) || callRoutes.test(`${route}/`)) return;
    // A method that a path does not have: the answer says only what the documentation does.
    if (request.is404 && paths.methodsOf(pathOf(request)).length > 0) return;
    try {
      request.operator = await gate.operate(callerOf(request));
    } catch (error) {
      const known = PresenceError.from(error);
      // A browser asks its user then, and sends the answer with everything that the page asks for.
      if (known.isUnauthenticated)
        reply.header('www-authenticate', 'Basic realm="Pilotlight", charset="UTF-8"');
      answerError(reply, known);
      return reply;
    }
  });
}
