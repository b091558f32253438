import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { PresenceError } from '../../core/errors.ts';
import { answerSocket } from './http-errors.ts';

/** What is asked before a body or a tunnel begins: no body is called for that would be refused (RFC 9110, section 10.1.1). */
export function refuseExpectations(app: FastifyInstance, maxBodyBytes: number): void {
  const { server } = app;
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    if (!(Number(request.headers['content-length']) > maxBodyBytes)) response.writeContinue();
    server.emit('request', request, response);
  });
  server.on('checkExpectation', ({ socket }: IncomingMessage) =>
    answerSocket(
      socket,
      '417 Expectation Failed',
      PresenceError.invalidArgument('Expect', 'must be 100-continue'),
    ),
  );
  server.on('connect', (_request: IncomingMessage, socket: Socket) =>
    answerSocket(
      socket,
      '405 Method Not Allowed\r\nallow: ',
      PresenceError.invalidArgument('CONNECT', 'is not a method of this server'),
    ),
  );
}
