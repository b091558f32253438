import { connect } from 'node:http2';

/** What `grpc.health.v1.Health/Check` says of the server as a whole: 1 SERVING, 2 NOT_SERVING. */
export function grpcHealth(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const session = connect(`http://127.0.0.1:${port}`);
    session.on('error', reject);
    const stream = session.request({
      ':method': 'POST',
      ':path': '/grpc.health.v1.Health/Check',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', reject);
    stream.on('end', () => {
      session.close();
      // Five bytes of prefix, then field 1 as a varint.
      resolve(Buffer.concat(chunks)[6] ?? 0);
    });
    stream.end(Buffer.alloc(5));
  });
}
