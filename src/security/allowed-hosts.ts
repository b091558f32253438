import { isIP } from 'node:net';

/** A name by which this server may be reached. */
export interface AllowedHost {
  /** In lower case; after `*.` any name below it. */
  readonly name: string;
  /** Absent: any port. */
  readonly port: string | undefined;
}

export interface AllowedHostsOptions {
  /** ALLOWED_HOSTS. */
  readonly allowedHosts: readonly AllowedHost[];
  /** Whether callers have to prove who they are. */
  readonly auth: readonly string[];
  /** HOST: where the server listens. */
  readonly host: string;
  /** Whether other machines can reach that address. */
  readonly isExposed: boolean;
}

const hostForm = /^(\[[0-9a-f:.]{2,45}\]|[^\s:[\]/@?#\\]{1,253})(?::(\d{1,5}))?$/;

/** Names such as `presence.example.com, *.internal, pilotlight:8080`. @throws Error */
export function parseAllowedHosts(text: string): readonly AllowedHost[] {
  if (text === '') return [];
  return text.split(',').map((part) => {
    const host = parseHost(part.trim());
    if (!host || host.name.replace(/^\*\./, '').includes('*')) {
      throw new Error('must name hosts such as presence.example.com, *.internal or pilotlight:8080');
    }
    return host;
  });
}

/**
 * By which names a server may be reached over HTTP. A page whose own name was pointed at this machine (DNS rebinding) is of
 * the same origin as the server for its browser; the Host header still has the page's name.
 */
export class AllowedHosts {
  readonly #isOpen: boolean;
  readonly #takesAddresses: boolean;
  readonly #hosts: readonly AllowedHost[];

  constructor({ allowedHosts, auth, host, isExposed }: AllowedHostsOptions) {
    // The page knows no token, so it can do nothing.
    this.#isOpen = auth.length > 0 && allowedHosts.length === 0;
    // An address is no name, so nobody can point it elsewhere.
    this.#takesAddresses = isExposed;
    this.#hosts = [...allowedHosts, { name: host.toLowerCase(), port: undefined }];
  }

  /** @param header the Host header */
  has(header: string): boolean {
    if (this.#isOpen) return true;
    const host = parseHost(header);
    if (!host) return false;
    if (isLoopbackName(host.name)) return true;
    if (this.#takesAddresses && isIP(host.name.replace(/^\[|\]$/g, '')) !== 0) return true;
    return this.#hosts.some(({ name, port }) => {
      const isNamed = name.startsWith('*.') ? host.name.endsWith(name.slice(1)) : host.name === name;
      return isNamed && (port === undefined || port === host.port);
    });
  }
}

/** undefined: it is none. The root's dot at the end says nothing. */
function parseHost(text: string): AllowedHost | undefined {
  const [, name, port] = hostForm.exec(text.toLowerCase()) ?? [];
  return name === undefined ? undefined : { name: name.replace(/\.$/, ''), port };
}

function isLoopbackName(name: string): boolean {
  if (name === 'localhost' || name.endsWith('.localhost') || name === '[::1]') return true;
  return isIP(name) === 4 && name.startsWith('127.');
}
