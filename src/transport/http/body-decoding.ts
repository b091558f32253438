import { type Readable, Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';
import type { FastifyInstance } from 'fastify';
import { PresenceError } from '../../core/errors.ts';
import { maxInflatedBytes } from './bounded-body.ts';
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
    const decoded: DecodedBody & Transform = bombWall(() => decoded.receivedEncodedLength ?? 0);
    decoded.receivedEncodedLength = 0;
    payload.on('data', (chunk: Buffer) => {
      decoded.receivedEncodedLength = (decoded.receivedEncodedLength ?? 0) + chunk.length;
    });
    payload.on('error', (error) => decoded.destroy(error));
    // The answer may come first, and nobody asks for the rest.
    decoder.on('error', (error) => {
      payload.unpipe(decoder);
      decoded.destroy(error);
    });
    decoded.on('error', () => decoder.destroy());
    return payload.pipe(decoder).pipe(decoded);
  });
}

/** Lets through what a body of so many bytes may inflate to. */
function bombWall(receivedBytes: () => number): Transform {
  let bytes = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      if (bytes <= maxInflatedBytes(receivedBytes(), Number.POSITIVE_INFINITY)) done(null, chunk);
      else done(PresenceError.invalidArgument('the body', 'inflates too much'));
    },
  });
}
