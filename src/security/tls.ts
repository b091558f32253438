import { constants } from 'node:crypto';
import { createSecureContext, type TlsOptions } from 'node:tls';
import type { Log } from '../observe/log.ts';
import { WatchedFiles } from './watched-file.ts';

export interface TlsFilesOptions {
  readonly tlsCert: string;
  readonly tlsKey: string;
  /** Who signs the certificates that clients must have; undefined: they need none. */
  readonly tlsClientCa: string | undefined;
  readonly log: Log;
}

/** Certificate and key from files that are read again when they change, for both ports. */
export class TlsFiles {
  readonly #files: WatchedFiles;
  readonly #listeners: ((options: TlsOptions) => void)[] = [];
  #options: TlsOptions;

  /** @throws Error when a file cannot be read, or when they do not belong together */
  constructor({ tlsCert, tlsKey, tlsClientCa, log }: TlsFilesOptions) {
    const paths = [tlsCert, tlsKey, ...(tlsClientCa === undefined ? [] : [tlsClientCa])];
    const load = (contents: readonly Buffer[]): void => {
      this.#options = optionsOf(contents);
      for (const listener of this.#listeners) listener(this.#options);
    };
    this.#files = new WatchedFiles({ paths, load, log });
    this.#options = optionsOf(this.#files.contents());
  }

  get options(): TlsOptions {
    return this.#options;
  }

  /** Who is given the new options after a change; open connections keep the old ones. */
  onChange(listener: (options: TlsOptions) => void): void {
    this.#listeners.push(listener);
  }

  start(): void {
    this.#files.start();
  }

  stop(): void {
    this.#files.stop();
  }
}

/** Ephemeral keys and authenticated encryption only, on both ports. */
const ciphers = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':');

function optionsOf([cert, key, ca]: readonly Buffer[]): TlsOptions {
  const options: TlsOptions = {
    cert: cert as Buffer,
    key: key as Buffer,
    minVersion: 'TLSv1.2',
    ciphers,
    honorCipherOrder: true,
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_COMPRESSION,
    ...(ca !== undefined && { ca, requestCert: true, rejectUnauthorized: true }),
  };
  // Throws where key and certificate are not a pair: while a renewal is under way, one may come before the other.
  createSecureContext(options);
  return options;
}
