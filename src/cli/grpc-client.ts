import type { Transport } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';

/**
 * @param address host and port, or a URL for TLS: https://presence.example.com:50051
 * @param token sent with every call; undefined: none
 */
export function grpcTransport(
  address: string,
  token: string | undefined,
  defaultTimeoutMs?: number,
): Transport {
  return createGrpcTransport({
    baseUrl: /^https?:\/\//.test(address) ? address : `http://${address}`,
    ...(defaultTimeoutMs !== undefined && { defaultTimeoutMs }),
    interceptors: [
      (next) => (request) => {
        if (token !== undefined) request.header.set('authorization', `Bearer ${token}`);
        return next(request);
      },
    ],
  });
}
