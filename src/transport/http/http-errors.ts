import type { Socket } from 'node:net';
import type { FastifyError, FastifyInstance, FastifyReply } from 'fastify';
import { errorCatalogue, PresenceError } from '../../core/errors.ts';
import type { Log } from '../../observe/log.ts';
import { closeLingering } from './unread-body.ts';

/** The spec's error body. */
export interface ErrorBody {
  readonly success: false;
  readonly error: { readonly code: string; readonly message: string };
}

function errorBody({ code, message }: PresenceError): ErrorBody {
  return { success: false, error: { code, message } };
}

export const errorSchema = {
  type: 'object',
  title: 'Error',
  additionalProperties: false,
  required: ['success', 'error'],
  properties: {
    success: { const: false },
    error: {
      type: 'object',
      additionalProperties: false,
      required: ['code', 'message'],
      properties: {
        code: { type: 'string', enum: Object.keys(errorCatalogue) },
        message: { type: 'string', description: 'One sentence for people.' },
      },
    },
  },
} as const;

/** Every failure of a request leaves as the catalogue's status and the spec's body. */
export function answerErrors(app: FastifyInstance, log: Log): void {
  app.setErrorHandler((error, request, reply) => {
    const known = toPresenceError(error as FastifyError, request.routeOptions.bodyLimit ?? 0);
    if (known.code === 'INTERNAL') log.error({ err: error }, 'internal error');
    answerError(reply, known);
  });
}

/** @param status default: the catalogue's */
export function answerError(
  reply: FastifyReply,
  error: PresenceError,
  status: number = error.httpStatus,
): void {
  if (status === 401 && !reply.hasHeader('www-authenticate')) reply.header('www-authenticate', 'Bearer');
  if (error.retryAfterMs !== undefined) reply.header('retry-after', retryAfterSeconds(error.retryAfterMs));
  reply.code(status).send(errorBody(error));
}

/** The Retry-After header: whole seconds, never too early. */
export function retryAfterSeconds(retryAfterMs: number): number {
  return Math.max(1, Math.ceil(retryAfterMs / 1000));
}

/** What is no HTTP, has too long a head or comes too slowly never becomes a request: the socket itself is answered. */
export function refuseSocket(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  answerSocket(socket, ...socketProblem(error));
}

/** An answer where there is no request to answer, and the end of the connection. */
export function answerSocket(socket: Socket, status: string, problem: PresenceError): void {
  const body = JSON.stringify(errorBody(problem));
  socket.write(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
  closeLingering.call(socket);
}

function socketProblem({ code }: NodeJS.ErrnoException): [status: string, problem: PresenceError] {
  if (code === 'HPE_HEADER_OVERFLOW') {
    return ['400 Bad Request', PresenceError.invalidArgument('the URL and headers', 'are too long')];
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return ['408 Request Timeout', PresenceError.invalidArgument('the request', 'took too long to come')];
  }
  return ['400 Bad Request', PresenceError.invalidArgument('the request', 'is not valid HTTP')];
}

function toPresenceError(error: FastifyError, maxBodyBytes: number): PresenceError {
  switch (error.code) {
    case 'FST_ERR_VALIDATION':
      return invalid(error);
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return PresenceError.invalidArgument('the body', `must have at most ${maxBodyBytes} bytes`);
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return PresenceError.invalidArgument('content-type', 'must be application/json');
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
      return PresenceError.invalidArgument('the body', 'is not valid JSON');
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return PresenceError.invalidArgument('content-length', 'does not match the body');
    case 'ECONNRESET':
      return PresenceError.invalidArgument('the body', 'was cut off');
    case 'FST_ERR_BAD_URL':
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return PresenceError.invalidArgument('the URL', 'is malformed');
    default:
      if (decodingErrors.test(error.code)) {
        return PresenceError.invalidArgument('the body', 'is not what content-encoding says');
      }
      return isOfTheCaller(error)
        ? PresenceError.invalidArgument('the request', 'is not one that this server takes')
        : PresenceError.from(error);
  }
}

/** Of zlib and of brotli. */
const decodingErrors = /^(?:Z_|ERR__ERROR_)/;

/** What the framework refuses by itself, such as a QUERY without a content type. */
function isOfTheCaller({ code, statusCode = 500 }: FastifyError): boolean {
  return code?.startsWith('FST_') && statusCode >= 400 && statusCode < 500;
}

/** What the schema refused, in the words that the use cases would use. */
function invalid(error: FastifyError): PresenceError {
  const [problem] = error.validation ?? [];
  if (!problem) return PresenceError.from(error);
  const path = problem.instancePath.slice(1).replaceAll('/', '.');
  const missing = problem.params.missingProperty;
  if (missing !== undefined) return PresenceError.invalidArgument(String(missing), 'is required');
  const where = path === '' ? 'the body' : path;
  return PresenceError.invalidArgument(where, problem.message ?? 'is not valid');
}
