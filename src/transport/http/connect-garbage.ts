import type { ConnectError, ConnectRouter } from '@connectrpc/connect';
import {
  createAsyncIterable,
  type UniversalHandler,
  type UniversalServerResponse,
} from '@connectrpc/connect/protocol';
import { errorToJsonBytes } from '@connectrpc/connect/protocol-connect';

type Handler = ConnectRouter['handlers'][number];

/** How the library begins what it says of a message that is no protobuf. */
const garbagePrefix = 'parse binary: ';

/**
 * A message that is no protobuf is the caller's mistake; the library answers it with 500, before any interceptor is asked.
 *
 * @param refusal what is answered instead
 */
export function blameCallers(router: ConnectRouter, refusal: ConnectError, httpStatus: number): void {
  for (const [index, handler] of router.handlers.entries()) {
    const answer: UniversalHandler = Object.assign(
      async (request: Parameters<Handler>[0]) => mended(await handler(request), refusal, httpStatus),
      handler,
    );
    router.handlers[index] = answer;
  }
}

async function mended(
  response: UniversalServerResponse,
  refusal: ConnectError,
  httpStatus: number,
): Promise<UniversalServerResponse> {
  if (response.status !== 500 || !response.body) return response;
  const chunks: Uint8Array[] = [];
  for await (const chunk of response.body) chunks.push(chunk);
  const { message } = JSON.parse(Buffer.concat(chunks).toString()) as { message?: string };
  if (!message?.startsWith(garbagePrefix)) return { ...response, body: createAsyncIterable(chunks) };
  const body = errorToJsonBytes(refusal, undefined);
  response.header?.set('content-length', String(body.length));
  return { ...response, status: httpStatus, body: createAsyncIterable([body]) };
}
