import type { FastifyInstance } from 'fastify';

export interface OperationsRoutesOptions {
  /** Why calls cannot be served now; empty: they can. */
  readonly notReadyReasons: () => readonly string[];
  /** What is refused while the rest is served. */
  readonly refused: () => readonly string[];
  readonly metrics: { readonly contentType: string; text(): Promise<string> };
}

const probeSchema = {
  type: 'object',
  required: ['status'],
  properties: {
    status: { type: 'string' },
    reasons: { type: 'array', items: { type: 'string' } },
    refused: { type: 'array', items: { type: 'string' } },
  },
} as const;

/** What probes and Prometheus ask. */
export function operationsRoutes(
  app: FastifyInstance,
  { notReadyReasons, refused, metrics }: OperationsRoutesOptions,
): void {
  app.get(
    '/livez',
    {
      schema: {
        operationId: 'livez',
        summary: 'Whether the process runs. It never depends on the engine: restarting would not help.',
        response: { 200: { ...probeSchema, description: 'It runs.' } },
      },
    },
    async () => ({ status: 'alive' }),
  );

  app.get(
    '/readyz',
    {
      schema: {
        operationId: 'readyz',
        summary:
          'Whether calls can be served: the engine answers, the feed is caught up, the server is not draining.',
        response: {
          200: { ...probeSchema, description: 'Calls can be served, but for what refused names.' },
          503: { ...probeSchema, description: 'Calls cannot be served; reasons says why.' },
        },
      },
    },
    async (_request, reply) => {
      const reasons = notReadyReasons();
      const refusals = refused();
      const rest = refusals.length === 0 ? {} : { refused: refusals };
      if (reasons.length === 0) return { status: 'ready', ...rest };
      return reply.code(503).send({ status: 'not ready', reasons, ...rest });
    },
  );

  app.get('/metrics', { schema: { hide: true } }, async (_request, reply) =>
    reply.header('content-type', metrics.contentType).send(await metrics.text()),
  );
}
