import type { IncomingMessage, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Server as TlsServer } from 'node:tls';
import { createContextValues } from '@connectrpc/connect';
import { fastifyConnectPlugin } from '@connectrpc/connect-fastify';
import cors from '@fastify/cors';
import helmet from '@fastify/helmet';
import swagger from '@fastify/swagger';
import { PresenceService as PresenceContract } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { type FastifyInstance, type FastifyReply, type FastifySchema, fastify } from 'fastify';
import { PresenceError } from '../../core/errors.ts';
import type { Log } from '../../observe/log.ts';
import type { CallMeter } from '../../observe/measure.ts';
import type { Tracing } from '../../observe/tracing.ts';
import type { Gate } from '../../security/gate.ts';
import type { TlsFiles } from '../../security/tls.ts';
import type { ListBounds } from '../message-shape.ts';
import { Doorway } from '../presence-calls.ts';
import { BodyBudget } from './body-budget.ts';
import { decodeBodies } from './body-decoding.ts';
import { BudgetedBodies, boundJson, maxBodyBytes, roomKey } from './bounded-body.ts';
import { callerOf, guardOperatorRoutes, refuseWhenBusy, settleCallers } from './caller.ts';
import { callerKey, compressions, connectGate, connectRoutes, toConnectError } from './connect-routes.ts';
import { dashboardRoutes } from './dashboard-routes.ts';
import { EventStreams } from './event-stream.ts';
import { eventsRoute } from './events-route.ts';
import { refuseExpectations } from './expectations.ts';
import { answerError, answerErrors, refuseSocket } from './http-errors.ts';
import { answerOptions, answerUnknown, KnownPaths, pathOf } from './known-paths.ts';
import { type OperationsRoutesOptions, operationsRoutes } from './operations-routes.ts';
import { foreignPage, type PageRules } from './origins.ts';
import { privacyRoutes } from './privacy-routes.ts';
import { plainContentHeaders, problemOfHead } from './request-head.ts';
import { SocketGuard } from './socket-guard.ts';
import { type StatsSource, statsRoutes } from './stats-routes.ts';
import { tokenRoutes } from './token-routes.ts';
import { HttpResponse } from './unread-body.ts';
import { usersRoutes } from './users-routes.ts';
import { type WebSocketDoor, WebSocketRoute } from './web-socket-route.ts';

export interface HttpTransportOptions extends OperationsRoutesOptions, ListBounds {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly gate: Gate;
  /** undefined: plain text. */
  readonly tls: TlsFiles | undefined;
  /** Origins of other hosts whose pages may use this server. */
  readonly allowedOrigins: readonly string[];
  readonly pages: PageRules;
  readonly maxConnections: number;
  /** How long a client may take to send a request, or for its TLS handshake. */
  readonly requestTimeoutMs: number;
  readonly stats: StatsSource;
  readonly webSocket: WebSocketDoor;
  /** Version of the program, for the OpenAPI document. */
  readonly version: string;
  readonly log: Log;
  readonly tracing: Tracing;
}

/** Room for a watch list in the URL of `/v1/events`. */
const maxHeadBytes = 64 * 1024;
/** Of bodies of which something is still to come, all connections together; at least eight of the largest. */
const unfinishedBodyBytes = 64 * 1024 * 1024;

/** They tell of nobody, and those who probe name a server as they like. */
const probePaths: ReadonlySet<string> = new Set(['/livez', '/readyz']);

/** Where presence is told or changed. */
const presencePaths = /^\/(?:v1|presence\.v1\.PresenceService)\//;

/** The HTTP face of the server: JSON API, server-sent events, Connect and gRPC-Web, probes, metrics, dashboard. */
export class HttpTransport {
  readonly #options: HttpTransportOptions;
  readonly #app: FastifyInstance;
  readonly #guard: SocketGuard;
  readonly #streams = new EventStreams();
  readonly #json: Doorway;
  readonly #connect: Doorway;

  constructor(options: HttpTransportOptions) {
    this.#options = options;
    this.#json = new Doorway({ ...options, transport: 'http', toError: (error) => error });
    this.#connect = new Doorway({ ...options, transport: 'connect', toError: toConnectError });
    this.#app = this.#createApp();
    this.#guard = new SocketGuard(this.#app.server, options.requestTimeoutMs);
  }

  /** The server underneath, for what HTTP is upgraded to. */
  get server(): Server {
    return this.#app.server;
  }

  /** How many calls, and how long they took, by what they came as. */
  get calls(): { readonly http: CallMeter; readonly connect: CallMeter } {
    return { http: this.#json.calls, connect: this.#connect.calls };
  }

  stats(): ReturnType<EventStreams['stats']> {
    return this.#streams.stats();
  }

  async start(): Promise<{ host: string; port: number }> {
    this.#streams.start();
    this.#guard.start();
    await this.#app.ready();
    this.#options.gate.addresses.readPreambles(this.#app.server);
    await this.#app.listen({ host: this.#options.host, port: this.#options.port });
    const { address, port } = this.#app.server.address() as AddressInfo;
    return { host: address, port };
  }

  async stop(): Promise<void> {
    this.#streams.stop();
    this.#guard.stop();
    await this.#app.close();
  }

  #createApp(): FastifyInstance {
    const { gate, tls, allowedOrigins, pages, maxBulkUsers, requestTimeoutMs, log, tracing } = this.#options;
    const { maxBlockedUsers, maxWatchedUsers } = this.#options;
    const largestBodyBytes = maxBodyBytes(Math.max(maxBulkUsers, maxWatchedUsers, 2 * maxBlockedUsers));
    const webSocket = new WebSocketRoute(this.#options.webSocket);
    const app = fastify({
      bodyLimit: maxBodyBytes(1),
      ...listenerOptions(tls, requestTimeoutMs, webSocket.shouldUpgrade),
      clientErrorHandler: refuseSocket,
      requestTimeout: requestTimeoutMs,
      // Longer than proxies keep theirs, so that they do not send into a connection that closes.
      keepAliveTimeout: 72_000,
      forceCloseConnections: true,
      // An id that is too long is the use case's to refuse, with its reason.
      routerOptions: { maxParamLength: 2000 },
      ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
      frameworkErrors: (_error, _request, reply: FastifyReply) => {
        answerError(reply, PresenceError.invalidArgument('the URL', 'is malformed'));
      },
    });
    app.server.maxConnections = this.#options.maxConnections;
    app.server.on('connection', (socket) => {
      if (!gate.mayConnect(socket.remoteAddress ?? '', socket.remotePort)) socket.destroy();
    });
    tls?.onChange((options) => (app.server as unknown as TlsServer).setSecureContext(options));
    // A form or a text is no message: JSON is asked for by name, which also makes browsers ask for leave first (CORS).
    app.removeContentTypeParser('text/plain');
    // Messages are written by protobuf-es, in full and as they are; the response schemas describe, they do not filter.
    app.setSerializerCompiler(() => JSON.stringify);
    answerErrors(app, log);
    refuseExpectations(app, maxBodyBytes(Math.max(maxBulkUsers, 2 * maxBlockedUsers)));
    const paths = new KnownPaths(app, isRpc);
    app.setNotFoundHandler((request, reply) => answerUnknown(paths, request, reply));
    app.addHook('onRequest', async ({ headers, url, raw }, reply) => {
      // On the response itself, which the library of Connect answers by.
      if (presencePaths.test(url)) reply.raw.setHeader('cache-control', 'no-store');
      const problem = problemOfHead(raw);
      if (problem) throw problem;
      headers.host ??= 'localhost';
      // What cannot be put together to a URL would fail later, in the middle of an answer.
      if (!URL.canParse(url, `http://${headers.host}`)) {
        throw PresenceError.invalidArgument('the URL or the Host header', 'is malformed');
      }
      // Neither a picture nor a link of another site names its origin: its GET could set a user online.
      const isForeign = headers.origin === undefined && headers['sec-fetch-site'] === 'cross-site';
      const refused =
        (probePaths.has(pathOf({ url })) ? null : pages.refusalOfHost(raw)) ??
        (isForeign && presencePaths.test(url) ? foreignPage() : pages.refusalOfOrigin(raw));
      if (refused === null) return;
      pages.note(raw, refused);
      throw refused;
    });
    if (tracing.isOn) {
      app.addHook('onRequest', ({ headers }, _reply, done) => {
        const caller = { get: (name: string) => headers[name] as string | undefined };
        tracing.continue(caller, done);
      });
    }
    app.addHook('onRequest', async (request, reply) => {
      const { method, headers } = request;
      if (method === 'OPTIONS' && !(headers.origin && headers['access-control-request-method'])) {
        answerOptions(paths, request, reply);
        return reply;
      }
      // The library of Connect answers for all methods of its routes, and does not say which it has.
      if ((method !== 'POST' && isRpc(request.routeOptions.url)) || paths.isOfAnother(request)) {
        answerUnknown(paths, request, reply);
        return reply;
      }
      if (isRpc(request.routeOptions.url)) plainContentHeaders(request.raw);
    });
    guardOperatorRoutes(app, gate, paths);
    // Not for the handler of what was not found, which would have the body read first.
    app.addHook('preParsing', async (request, reply) => {
      if (!request.is404) return;
      answerUnknown(paths, request, reply);
      return reply;
    });
    refuseWhenBusy(app, gate);
    settleCallers(app, this.#json);
    const bodies = new BudgetedBodies(
      new BodyBudget(Math.max(unfinishedBodyBytes, 8 * largestBodyBytes)),
      gate,
    );
    bodies.register(app);
    app.register(cors, { origin: [...allowedOrigins], methods: ['GET', 'PUT', 'POST'], maxAge: 600 });
    app.register(helmet, {
      ...securityHeaders,
      // Whoever ends TLS decides on it.
      strictTransportSecurity: tls !== undefined && { maxAge: 31_536_000, includeSubDomains: false },
    });
    app.register(swagger, openApi(this.#options.version));
    app.register(async (api) => {
      boundJson(api, this.#options);
      decodeBodies(api);
      webSocket.register(api);
      usersRoutes(api, { doorway: this.#json, maxBulkUsers });
      privacyRoutes(api, this.#json, maxBodyBytes(2 * maxBlockedUsers));
      tokenRoutes(api, this.#json);
      eventsRoute(api, { doorway: this.#json, streams: this.#streams });
      statsRoutes(api, this.#options.stats, this.#streams, gate);
      operationsRoutes(api, this.#options);
      api.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
    });
    app.register(fastifyConnectPlugin, {
      routes: connectRoutes(this.#connect, this.#options),
      requestGate: connectGate(this.#connect),
      acceptCompression: compressions,
      grpc: false,
      contextValues: (request) =>
        createContextValues()
          .set(callerKey, callerOf(request))
          .set(roomKey, (maxBytes) => bodies.take(request, maxBytes)),
      readMaxBytes: largestBodyBytes,
      shutdownTimeoutMs: 0,
    });
    app.register(dashboardRoutes, { paths });
    return app;
  }
}

function isRpc(url: string | undefined): boolean {
  return url?.startsWith(`/${PresenceContract.typeName}/`) ?? false;
}

/** Fastify gives the server another type with `https`; what is used of it here is the same. */
function listenerOptions(
  tls: TlsFiles | undefined,
  requestTimeoutMs: number,
  shouldUpgradeCallback: (request: IncomingMessage) => boolean,
): object {
  const options = {
    shouldUpgradeCallback,
    ServerResponse: HttpResponse,
    // Answered with the documented body instead.
    requireHostHeader: false,
    maxHeaderSize: maxHeadBytes,
    headersTimeout: requestTimeoutMs,
    requestTimeout: requestTimeoutMs,
    // Node looks for those who are too slow this often.
    connectionsCheckingInterval: Math.min(1000, requestTimeoutMs / 4),
  };
  if (tls === undefined) return { http: options };
  return { https: { ...tls.options, ...options, handshakeTimeout: requestTimeoutMs } };
}

const securityHeaders = {
  contentSecurityPolicy: {
    useDefaults: false,
    directives: {
      defaultSrc: ["'none'"],
      scriptSrc: ["'self'"],
      styleSrc: ["'self'"],
      imgSrc: ["'self'", 'data:'],
      fontSrc: ["'self'"],
      connectSrc: ["'self'"],
      manifestSrc: ["'self'"],
      baseUri: ["'none'"],
      formAction: ["'none'"],
      frameAncestors: ["'none'"],
    },
  },
  // Pages on the allow-list read answers by CORS.
  crossOriginResourcePolicy: { policy: 'cross-origin' },
} as const;

function openApi(version: string) {
  return {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Pilotlight',
        version,
        description:
          'Who is online. Messages are those of presence.v1 in proto3 JSON: 64-bit numbers are strings.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/' }],
    },
    // The contract's own rpcs are described by the contract.
    transform: ({ schema, url }: { schema: FastifySchema; url: string }) => ({
      schema: url.startsWith(`/${PresenceContract.typeName}/`) ? { ...schema, hide: true } : schema,
      url,
    }),
  };
}
