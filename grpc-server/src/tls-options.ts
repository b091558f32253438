import { constants } from 'node:crypto';
import type { TlsOptions } from 'node:tls';

/** RFC 9113 §9.2.2 prohibits every TLS 1.2 suite without ephemeral keys and AEAD: only these are left. */
const TLS12_SUITES = [
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
];
const TLS13_SUITES = ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'];

/** The given options with what HTTP/2 demands (RFC 9113 §9.2): ALPN, TLS 1.2+, no renegotiation, no compression. */
export function secureTlsOptions(given: TlsOptions, handshakeTimeoutMs: number): TlsOptions {
  return {
    ciphers: [...TLS13_SUITES, ...TLS12_SUITES].join(':'),
    minVersion: 'TLSv1.2',
    honorCipherOrder: true,
    handshakeTimeout: handshakeTimeoutMs,
    ...given,
    ALPNProtocols: ['h2'],
    secureOptions:
      (given.secureOptions ?? 0) | constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_COMPRESSION,
  };
}
