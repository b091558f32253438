import type { FastifyInstance } from 'fastify';

export interface OperationsRoutesOptions {
  /** Why calls cannot be served now; empty: they can. */
  readonly notReadyReasons: () => readonly string[];
  readonly metrics: { readonly contentType: string; text(): Promise<string> };
}

const probeSchema = {
  type: 'object',
  required: ['status'],
  properties: { status: { type: 'string' }, reasons: { type: 'array', items: { type: 'string' } } },
} as const;

/** What probes and Prometheus ask. */
export function operationsRoutes(
  app: FastifyInstance,
  { notReadyReasons, metrics }: OperationsRoutesOptions,
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
          200: { ...probeSchema, description: 'Calls can be served.' },
          503: { ...probeSchema, description: 'Calls cannot be served; reasons says why.' },
        },
      },
    },
    async (_request, reply) => {
      const reasons = notReadyReasons();
      if (reasons.length === 0) return { status: 'ready' };
      return reply.code(503).send({ status: 'not ready', reasons });
    },
  );

  app.get('/metrics', { schema: { hide: true } }, async (_request, reply) =>
    reply.header('content-type', metrics.contentType).send(await metrics.text()),
  );
}
