import type { DescMessage, JsonValue } from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouter, createContextKey } from '@connectrpc/connect';
import type { Compression, UniversalHandler } from '@connectrpc/connect/protocol';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { PresenceError } from '../../core/errors.ts';
import type { Gate } from '../../security/gate.ts';
import { busy } from '../../security/limits.ts';
import { checkJson, checkProto, type ListBounds, maxItems } from '../message-shape.ts';
import { readJson } from '../proto-json.ts';
import type { BodyBudget } from './body-budget.ts';
import { answerError } from './http-errors.ts';

/** A body may inflate to this many times its size, or to 64 KiB if that is more. Lists of ids deflate to a tenth. */
const maxInflateRatio = 100;
const minBodyBytes = 64 * 1024;
/** A user id in JSON: 128 bytes of quotes, each escaped, between quotes, and a comma. */
const maxJsonUserIdBytes = 260;

/** Most bytes of a body that names up to so many users. */
export function maxBodyBytes(users: number): number {
  return Math.max(minBodyBytes, users * maxJsonUserIdBytes);
}

/** Most bytes that a body may inflate to. */
export function maxInflatedBytes(bytes: number, maxBytes: number): number {
  return Math.min(maxBytes, Math.max(minBodyBytes, bytes * maxInflateRatio));
}

/** The same compression, that makes of a little only so much. */
export function bounded(compression: Compression): Compression {
  return {
    ...compression,
    decompress: (bytes, maxBytes) => compression.decompress(bytes, maxInflatedBytes(bytes.length, maxBytes)),
  };
}

/** JSON is looked at before it is parsed. */
export function boundJson(app: FastifyInstance, bounds: ListBounds): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  const items = maxItems(bounds);
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    try {
      checkJson(body, items);
    } catch (error) {
      done(PresenceError.from(error));
      return;
    }
    void parse(request, body.toString(), done);
  });
}

/** Bodies on their way in are counted against the budget, by who sends them. After it is known who that is. */
export class BudgetedBodies {
  readonly #budget: BodyBudget;
  readonly #gate: Gate;

  constructor(budget: BodyBudget, gate: Gate) {
    this.#budget = budget;
    this.#gate = gate;
  }

  /** Of all routes but those of Connect, whose callers are settled later. */
  register(app: FastifyInstance): void {
    app.addHook('preParsing', async (request, reply) => {
      if (request.entered === undefined) return;
      try {
        this.take(request, request.routeOptions.bodyLimit ?? minBodyBytes);
      } catch (error) {
        answerError(reply, PresenceError.from(error));
        return reply;
      }
    });
  }

  /** @throws PresenceError RATE_LIMITED */
  take({ headers, ip, raw }: FastifyRequest, maxBytes: number): void {
    // Without a length it may be as long as the route takes.
    const hasLength = headers['transfer-encoding'] === undefined;
    const bytes = hasLength ? Number(headers['content-length'] ?? 0) : maxBytes;
    if (bytes === 0 || bytes > maxBytes) return;
    const caller = this.#gate.isOpen ? ip : (headers.authorization ?? ip);
    const reservation = this.#budget.reserve(caller, bytes, () => raw.destroy());
    if (!reservation) throw busy();
    raw.once('close', reservation.release).once('end', reservation.release);
  }
}

/** Takes room for the body of a request of Connect. Throws PresenceError RATE_LIMITED. */
export const roomKey = createContextKey<(maxBytes: number) => void>(() => {});

export interface MessageBounds extends ListBounds {
  readonly compressions: readonly Compression[];
  readonly toError: (error: PresenceError) => ConnectError;
}

/** Messages of Connect and gRPC-Web are looked at before the library parses them. */
export function boundMessages(router: ConnectRouter, bounds: MessageBounds): void {
  for (const [index, handler] of router.handlers.entries()) {
    const check = new MessageCheck(handler, bounds);
    const answer: UniversalHandler = Object.assign((request: Parameters<UniversalHandler>[0]) => {
      const { body, header, contextValues } = request;
      if (typeof body !== 'object' || body === null || !(Symbol.asyncIterator in body))
        return handler(request);
      // Read only when the library reads: what its gate refuses is never read.
      const checked = check.checked(body as AsyncIterable<Uint8Array>, header, contextValues?.get(roomKey));
      return handler({ ...request, body: checked });
    }, handler);
    router.handlers[index] = answer;
  }
}

const prefixBytes = 5;

/** The library takes names of enum values that it does not know for fields left out. What is no JSON it refuses by itself. */
function checkValues(desc: DescMessage, bytes: Uint8Array): void {
  let json: JsonValue;
  try {
    json = JSON.parse(Buffer.from(bytes).toString()) as JsonValue;
  } catch {
    return;
  }
  readJson(desc, json);
}

class MessageCheck {
  readonly #handler: UniversalHandler;
  readonly #bounds: MessageBounds;
  readonly #items: number;
  readonly #maxBytes: number;

  constructor(handler: UniversalHandler, bounds: MessageBounds) {
    this.#handler = handler;
    this.#bounds = bounds;
    this.#items = maxItems(bounds);
    const users: Readonly<Record<string, number>> = {
      GetMultipleUserStatus: bounds.maxBulkUsers,
      SubscribeStatusUpdates: bounds.maxWatchedUsers,
      SetPrivacy: 2 * bounds.maxBlockedUsers,
    };
    this.#maxBytes = maxBodyBytes(users[handler.method.name] ?? 1);
  }

  /** The same body, in one piece. */
  async *checked(
    body: AsyncIterable<Uint8Array>,
    header: Headers,
    takeRoom: ((maxBytes: number) => void) | undefined,
  ): AsyncGenerator<Uint8Array> {
    try {
      takeRoom?.(this.#maxBytes);
      const bytes = await this.#read(body);
      await this.#check(bytes, header);
      yield bytes;
    } catch (error) {
      throw error instanceof PresenceError ? this.#bounds.toError(error) : error;
    }
  }

  async #read(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    let length = 0;
    for await (const chunk of body) {
      length += chunk.length;
      if (length > this.#maxBytes + prefixBytes) throw this.#tooLarge();
      chunks.push(chunk);
    }
    return Buffer.concat(chunks, length);
  }

  async #check(bytes: Uint8Array, header: Headers): Promise<void> {
    const type = header.get('content-type') ?? '';
    const isEnveloped = /^application\/(?:connect\+|grpc)/i.test(type);
    const encoding = header.get(
      !isEnveloped ? 'content-encoding' : /grpc/i.test(type) ? 'grpc-encoding' : 'connect-content-encoding',
    );
    const isCompressed = isEnveloped ? ((bytes[0] ?? 0) & 1) === 1 : encoding !== null;
    const message = isEnveloped ? bytes.subarray(prefixBytes) : bytes;
    const compression = isCompressed && this.#bounds.compressions.find(({ name }) => name === encoding);
    // What is in an encoding that nobody knows is refused by the library.
    const plain = compression ? await compression.decompress(message, this.#maxBytes) : message;
    if (plain.length > this.#maxBytes) throw this.#tooLarge();
    if (isCompressed && !compression) return;
    const { input } = this.#handler.method;
    if (/json/i.test(type)) {
      checkJson(plain, this.#items);
      checkValues(input, plain);
    } else {
      checkProto(input, plain, this.#items);
    }
  }

  /** As the library says it. */
  #tooLarge(): ConnectError {
    const message = `message is larger than the limit of ${this.#maxBytes} bytes`;
    return new ConnectError(message, Code.ResourceExhausted);
  }
}
