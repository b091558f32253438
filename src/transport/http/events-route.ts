import { toJsonString } from '@bufbuild/protobuf';
import { StatusUpdateEventSchema } from '@pilotlight/proto/presence/v1/presence_pb.js';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { PresenceError } from '../../core/errors.ts';
import type { EndableSink, PresenceApi, RunningWatch } from '../../presence/presence-api.ts';
import type { WatchEvent } from '../../presence/subscription.ts';
import { toEvent } from '../grpc/codec.ts';
import type { Doorway } from '../presence-calls.ts';
import { callerOf } from './caller.ts';
import type { EventStream, EventStreams } from './event-stream.ts';
import { errorResponses } from './http-schemas.ts';

/**
 * Versions are microseconds of the engine's clock, ordered within a partition; partitions may be told apart by as much
 * as it takes to close a gap. So a client that comes back is told again of users who changed up to this long before the
 * last event that it saw.
 */
const resumeOverlapMicroseconds = 60_000_000;

export interface EventsRouteOptions {
  readonly doorway: Doorway;
  readonly streams: EventStreams;
}

/** `GET /v1/events?watch=a,b`: a watch as server-sent events. */
export function eventsRoute(app: FastifyInstance, { doorway, streams }: EventsRouteOptions): void {
  const encoder = new EventEncoder();
  app.get<{ Querystring: { user_id?: string } }>(
    '/v1/events',
    {
      schema: {
        operationId: 'subscribeStatusUpdates',
        summary: 'Watch users: their present states, then every change, as server-sent events.',
        description:
          'Each event is a StatusUpdateEvent. Its id, sent back as Last-Event-ID, spares a client that comes back the states that did not change.',
        querystring: {
          type: 'object',
          required: ['watch'],
          properties: {
            watch: {
              description:
                'Users to watch, separated by commas; may be repeated. A comma inside an id is written %2C.',
              anyOf: [{ type: 'string' }, { type: 'array', items: { type: 'string' } }],
            },
            user_id: {
              type: 'string',
              description: 'Who watches: while the stream is open it counts as a connection of this user.',
            },
          },
        },
        headers: {
          type: 'object',
          properties: {
            'last-event-id': {
              type: 'string',
              pattern: '^([0-9]{1,16})?$',
              description: 'Id of the last event seen.',
            },
          },
        },
        response: {
          200: {
            description: 'A stream of StatusUpdateEvent.',
            content: { 'text/event-stream': { schema: { type: 'string' } } },
          },
          ...errorResponses,
        },
      },
    },
    (request, reply) =>
      doorway.pass('SubscribeStatusUpdates', callerOf(request), (presence) => {
        const resumeAfter = resumePoint(request.headers['last-event-id']);
        const sink = new EventSink(encoder, resumeAfter);
        return openStream(streams, presence, request, reply, sink);
      }),
  );
}

async function openStream(
  streams: EventStreams,
  presence: PresenceApi,
  request: FastifyRequest<{ Querystring: { user_id?: string } }>,
  reply: FastifyReply,
  sink: EventSink,
): Promise<void> {
  const watchUserIds = watchedUsers(request.raw.url as string);
  const userId = ownUser(request.raw.url as string);
  const isHead = request.method === 'HEAD';
  // Asking for the head alone connects nobody.
  const watch = presence.watch(isHead ? null : userId, sink);
  const stream = streams.add(reply.raw, {
    drained: () => sink.drained(watch),
    closed: () => void watch.close(),
  });
  sink.attach(stream);
  try {
    await watch.add(watchUserIds);
  } catch (error) {
    await watch.close();
    throw error;
  }
  stream.open(reply);
  if (isHead) stream.end();
  else sink.introduced();
}

/** A watcher's events as text. An id is sent only with what leaves nothing untold before it. */
class EventSink implements EndableSink {
  readonly #encoder: EventEncoder;
  readonly #resumeAfter: number;
  #stream: EventStream | undefined;
  #highestVersion = 0;
  /** Whether the watcher has been told everything that is known. */
  #isUpToDate = false;

  constructor(encoder: EventEncoder, resumeAfter: number) {
    this.#encoder = encoder;
    this.#resumeAfter = resumeAfter;
  }

  attach(stream: EventStream): void {
    this.#stream = stream;
  }

  send(event: WatchEvent): boolean {
    const stream = this.#stream as EventStream;
    const { version } = event.state;
    this.#highestVersion = Math.max(this.#highestVersion, version);
    // Version 0 is a user never heard of, or forgotten: the client may believe otherwise.
    if (event.snapshot && version !== 0 && version <= this.#resumeAfter) return !stream.isFull;
    const id = this.#isUpToDate ? `id: ${this.#highestVersion}\n` : '';
    const hasRoom = stream.write(`${id}data: ${this.#encoder.encode(event)}\n\n`);
    if (!hasRoom) this.#isUpToDate = false;
    return hasRoom;
  }

  /** Shaped like TokenExpiring of the contract. */
  expiring(expiresInMs: number): void {
    this.#stream?.write(`event: token_expiring\ndata: {"expiresInMs":"${Math.ceil(expiresInMs)}"}\n\n`);
  }

  end({ code, message, retryAfterMs }: PresenceError): void {
    const retry = retryAfterMs === undefined ? '' : `retry: ${Math.ceil(retryAfterMs)}\n`;
    this.#stream?.write(`${retry}event: end\ndata: ${JSON.stringify({ code, message })}\n\n`);
    this.#stream?.end();
  }

  /** The snapshot was handed over. */
  introduced(): void {
    const stream = this.#stream as EventStream;
    if (stream.isFull) return;
    this.#isUpToDate = true;
    if (this.#highestVersion > 0) stream.write(`id: ${this.#highestVersion}\n\n`);
  }

  drained(watch: RunningWatch): void {
    watch.drained();
    this.introduced();
  }
}

/** Fan-out offers one event to many streams in a row: it is encoded for the first. */
class EventEncoder {
  #event: WatchEvent | undefined;
  #encoded = '';

  encode(event: WatchEvent): string {
    if (event !== this.#event) {
      this.#event = event;
      this.#encoded = toJsonString(StatusUpdateEventSchema, toEvent(event), { alwaysEmitImplicit: true });
    }
    return this.#encoded;
  }
}

function resumePoint(lastEventId: string | string[] | undefined): number {
  return Math.max(0, Number(lastEventId ?? 0) - resumeOverlapMicroseconds);
}

/** Split before they are decoded, so that an id can hold a comma. */
function watchedUsers(url: string): string[] {
  return parametersOf(url)
    .filter((parameter) => parameter.startsWith('watch='))
    .flatMap((parameter) => parameter.slice('watch='.length).split(','))
    .map((text) => decoded('watch', text));
}

/** Decoded anew, since the framework's reader puts U+FFFD for what is no UTF-8: another user. */
function ownUser(url: string): string | null {
  const text = parametersOf(url)
    .find((parameter) => parameter.startsWith('user_id='))
    ?.slice('user_id='.length);
  return text === undefined ? null : decoded('user_id', text);
}

function parametersOf(url: string): string[] {
  return url.includes('?') ? url.slice(url.indexOf('?') + 1).split('&') : [];
}

function decoded(name: string, text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch (error) {
    throw new PresenceError('INVALID_ARGUMENT', `${name} is not percent-encoded UTF-8`, { cause: error });
  }
}
