import type { Readable, Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';
import type { FastifyInstance } from 'fastify';
import { PresenceError } from '../../core/errors.ts';
import { answerError } from './http-errors.ts';

const decoders: Readonly<Record<string, () => Transform>> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
};
export const acceptedEncodings = 'gzip, deflate, br';

/** A stream whose bytes the framework bounds as they come out, and compares with content-length as they went in. */
type DecodedBody = Readable & { receivedEncodedLength?: number };

/** Takes bodies in the usual content codings; what comes out of them counts against the limit of a body. */
export function decodeBodies(app: FastifyInstance): void {
  app.addHook('preParsing', async (request, reply, payload) => {
    const encoding = request.headers['content-encoding']?.trim().toLowerCase() ?? 'identity';
    if (encoding === 'identity' || encoding === '') return payload;
    const decoder = Object.hasOwn(decoders, encoding) ? decoders[encoding]?.() : undefined;
    if (!decoder) {
      reply.header('accept-encoding', acceptedEncodings);
      const error = PresenceError.invalidArgument('content-encoding', `must be one of ${acceptedEncodings}`);
      answerError(reply, error, 415);
      return reply;
    }
    const decoded: DecodedBody = decoder;
    decoded.receivedEncodedLength = 0;
    payload.on('data', (chunk: Buffer) => {
      decoded.receivedEncodedLength = (decoded.receivedEncodedLength ?? 0) + chunk.length;
    });
    payload.on('error', (error) => decoder.destroy(error));
    // The answer may come first, and nobody asks for the rest.
    decoder.on('error', () => payload.unpipe(decoder));
    return payload.pipe(decoder);
  });
}
