import { toJson } from '@bufbuild/protobuf';
import { StatusUpdateEventSchema } from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { FastifyInstance } from 'fastify';
import type { UserState } from '../../core/presence.ts';
import type { Stats, Tick } from '../../observe/stats.ts';
import type { Gate } from '../../security/gate.ts';
import { toEvent } from '../grpc/codec.ts';
import type { EventStreams } from './event-stream.ts';

/** What the live pages show. */
export interface StatsSource {
  /** undefined: the first sample is still being taken. */
  stats(): Stats | undefined;
  recentTransitions(): readonly UserState[];
  /** @returns ends it */
  onTick(listener: (tick: Tick) => void): () => void;
  /** @returns ends it */
  onTransitions(listener: (states: readonly UserState[]) => void): () => void;
}

/** How often a live page is told of transitions, and of how many at most: a wall shows what an eye can follow. */
const transitionIntervalMs = 100;
const maxTransitionsAtOnce = 200;
/** Ticks kept for a reader who is slow; after more it is told everything again. */
const maxUntoldTicks = 10;

/** The live pages' own door: a snapshot, and a stream of what follows it. */
export function statsRoutes(
  app: FastifyInstance,
  source: StatsSource,
  streams: EventStreams,
  gate: Gate,
): void {
  app.get(
    '/v1/stats',
    {
      schema: {
        operationId: 'stats',
        summary: 'What the dashboard shows: nodes, engine, the last ten minutes.',
        response: { 200: { type: 'object', description: 'See src/observe/stats.ts.' } },
      },
    },
    async () => source.stats() ?? {},
  );

  app.get(
    '/v1/stats/live',
    {
      schema: {
        operationId: 'statsLive',
        summary:
          'The same as server-sent events: `stats`, then `tick` each second and `transitions` as they come.',
        response: {
          200: {
            description: 'The stream.',
            content: { 'text/event-stream': { schema: { type: 'string' } } },
          },
        },
      },
    },
    async (request, reply) => {
      const ends: (() => void)[] = [];
      let ticks: Tick[] = [];
      let untold: UserState[] = [];
      /** Whether more came than is kept for a reader who is slow: it is told anew of everything when it has room. */
      let hasMissed = false;
      const write = (event: string, data: unknown) =>
        stream.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
      /** Whole whatever its size, which is bounded: half of it would look like a system in which nothing happened. */
      const introduce = () => {
        hasMissed = false;
        ticks = [];
        untold = [];
        const stats = source.stats();
        if (stats) write('stats', stats);
        write('transitions', source.recentTransitions().map(toJsonEvent));
      };
      const tell = () => {
        if (stream.isFull) return;
        if (hasMissed) introduce();
        for (const tick of ticks) write('tick', tick);
        ticks = [];
        if (untold.length > 0) write('transitions', untold.slice(-maxTransitionsAtOnce).map(toJsonEvent));
        untold = [];
      };
      const stream = streams.add(reply.raw, {
        drained: tell,
        closed: () => {
          for (const end of ends) end();
        },
      });
      ends.push(
        gate.holdOperator(request.operator, ({ code, message }) => {
          stream.write(`event: end\ndata: ${JSON.stringify({ code, message })}\n\n`);
          stream.end();
        }),
      );
      introduce();
      ends.push(
        source.onTick((tick) => {
          ticks.push(tick);
          if (ticks.length > maxUntoldTicks) {
            hasMissed = true;
            ticks = [];
          }
          tell();
        }),
      );
      ends.push(
        source.onTransitions((states) => {
          untold.push(...states.slice(-maxTransitionsAtOnce));
          if (untold.length <= 2 * maxTransitionsAtOnce) return;
          if (stream.isFull) hasMissed = true;
          untold = untold.slice(-maxTransitionsAtOnce);
        }),
      );
      const timer = setInterval(tell, transitionIntervalMs);
      ends.push(() => clearInterval(timer));
      stream.open(reply);
      if (request.method === 'HEAD') stream.end();
    },
  );
}

function toJsonEvent(state: UserState): unknown {
  return toJson(StatusUpdateEventSchema, toEvent({ state, snapshot: false }), { alwaysEmitImplicit: true });
}
