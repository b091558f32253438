import type { IncomingMessage } from 'node:http';
import { PresenceError } from '../../core/errors.ts';
import type { AllowedHosts } from '../../security/allowed-hosts.ts';
import type { Audit } from '../../security/audit.ts';
import type { ClientAddresses } from '../../security/client-addresses.ts';

export interface PageRulesOptions {
  readonly hosts: AllowedHosts;
  readonly addresses: ClientAddresses;
  /** Origins of other hosts whose pages may use this server: ALLOWED_ORIGINS. */
  readonly allowedOrigins: readonly string[];
  readonly audit?: Audit;
}

/** Which pages may use this server, from a browser. */
export class PageRules {
  readonly #options: PageRulesOptions;

  constructor(options: PageRulesOptions) {
    this.#options = options;
  }

  /** Notes why a page was refused. */
  note({ socket }: IncomingMessage, error: PresenceError): void {
    const { addresses, audit } = this.#options;
    const address = addresses.ofConnection(socket.remoteAddress ?? '', socket.remotePort);
    audit?.refused({ address }, 'use the server from a page', error.message);
  }

  /** Why the server does not answer by this name; null: it does. */
  refusalOfHost({ headers: { host = '' } }: IncomingMessage): PresenceError | null {
    if (this.#options.hosts.has(host)) return null;
    const name = host.slice(0, 100);
    return new PresenceError(
      'UNAUTHORIZED',
      `this server is not reached by the name ${name}; if it is yours, add it to ALLOWED_HOSTS`,
    );
  }

  /** Why a page may not use this server; null: it may, or the request is of no page. */
  refusalOfOrigin({ headers, socket }: IncomingMessage): PresenceError | null {
    const { origin, host = '' } = headers;
    if (origin === undefined) return null;
    const { addresses, allowedOrigins } = this.#options;
    const told = addresses.schemeOfCall(socket.remoteAddress ?? '', socket.remotePort, (name) =>
      headers[name]?.toString(),
    );
    const scheme = told ?? ('encrypted' in socket ? 'https' : 'http');
    if (isAllowedOrigin(origin, `${scheme}://${host}`, allowedOrigins)) return null;
    return foreignPage();
  }
}

/** Why a page of another origin is refused. */
export function foreignPage(): PresenceError {
  return new PresenceError(
    'UNAUTHORIZED',
    'pages of this origin may not use this server; see ALLOWED_ORIGINS, and TRUSTED_PROXIES behind a proxy with TLS',
  );
}

/**
 * Whether a browser's page of `origin` may use this server. Pages of the server itself may, by the same scheme, host and
 * port, and those on the allow-list.
 *
 * @param origin the Origin header
 * @param own the server's own origin, as the page names it: `https://presence.example.com`
 * @param allowed ALLOWED_ORIGINS: `https://app.example.com`
 */
export function isAllowedOrigin(origin: string, own: string, allowed: readonly string[]): boolean {
  if (allowed.includes(origin)) return true;
  return URL.canParse(origin) && URL.canParse(own) && new URL(origin).origin === new URL(own).origin;
}
