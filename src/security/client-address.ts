import { BlockList, isIP, isIPv6 } from 'node:net';

export const forwardedHeaders = ['x-forwarded-for', 'forwarded'] as const;
export type ForwardedHeader = (typeof forwardedHeaders)[number];

/** Hops looked at; a chain that is longer was made up. */
const maxHops = 16;
/** An IPv6 address with brackets and a port. */
const maxHopChars = 64;

/** Networks such as `10.0.0.0/8, 2001:db8::/32, 127.0.0.1`. @throws Error */
export function parseNetworks(text: string): BlockList | undefined {
  if (text === '') return undefined;
  const networks = new BlockList();
  for (const part of text.split(',')) {
    const [address = '', bits, ...more] = part.trim().split('/');
    const version = isIP(address);
    const most = version === 4 ? 32 : 128;
    const prefix = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : -1;
    if (version === 0 || more.length > 0 || prefix < 0 || prefix > most) {
      throw new Error('must name networks such as 10.0.0.0/8 or 2001:db8::/32, separated by commas');
    }
    networks.addSubnet(address, prefix, version === 4 ? 'ipv4' : 'ipv6');
  }
  return networks;
}

export function isWithin(networks: BlockList, address: string): boolean {
  return isIP(address) !== 0 && networks.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

/**
 * Where a call came from: the last hop that is no trusted proxy. Each proxy appends whom it heard, so what stands further
 * left may be made up and is not looked at. A hop that is no address ends the way: the proxy that told of it counts then.
 *
 * @param peer the other end of the connection
 * @param hops value of the header, as the last proxy sent it
 */
export function clientAddress(
  proxies: BlockList,
  header: ForwardedHeader,
  peer: string,
  hops: string | undefined,
): string {
  let address = peer;
  let end = hops?.length ?? 0;
  for (let hop = 0; hop < maxHops && end > 0 && hops && isWithin(proxies, address); hop++) {
    const start = hops.lastIndexOf(',', end - 1) + 1;
    const text = hops.slice(start, end).trim();
    const told = addressIn(header === 'forwarded' ? forParameter(text) : text);
    if (told === undefined) break;
    address = told;
    end = start - 1;
  }
  return address;
}

/** How the client reached the first proxy: `X-Forwarded-Proto`, or `proto` of the first element of `Forwarded`. */
export function forwardedScheme(
  kind: ForwardedHeader,
  header: (name: string) => string | undefined,
): 'http' | 'https' | undefined {
  const told = header(kind === 'forwarded' ? kind : 'x-forwarded-proto')?.slice(0, 1024);
  const [first = ''] = told?.split(',') ?? [];
  const text = kind === 'forwarded' ? /(?:^|;)\s*proto="?([a-z]+)"?\s*(?=;|$)/i.exec(first)?.[1] : first;
  const scheme = text?.trim().toLowerCase();
  return scheme === 'http' || scheme === 'https' ? scheme : undefined;
}

/** `for` of an element of RFC 7239. A comma within quotes makes two elements that are none, which ends the way. */
function forParameter(element: string): string {
  if (element.length > 1024) return '';
  const [, quoted, token] = /(?:^|;)\s*for=(?:"([^"\\]*)"|([^\s;",]+))\s*(?=;|$)/i.exec(element) ?? [];
  return quoted ?? token ?? '';
}

/** `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80`. */
function addressIn(text: string): string | undefined {
  if (text.length > maxHopChars) return undefined;
  const bare = /^\[(.*)\](?::\d{1,5})?$/.exec(text)?.[1] ?? /^([\d.]+):\d{1,5}$/.exec(text)?.[1] ?? text;
  return isIP(bare) === 0 || bare.includes('%') ? undefined : plain(bare);
}

/** An IPv4 address that came as an IPv6 one is the IPv4 one. */
function plain(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address;
}

/**
 * What limits by address count: of IPv6 the /64, since whoever has one address has all of that network.
 */
export function networkOf(address: string): string {
  if (!address.includes(':')) return address;
  const known = plain(address);
  if (!known.includes(':')) return known;
  const [left = '', right] = known.split('::');
  const head = left === '' ? [] : left.split(':');
  const tail = right === undefined || right === '' ? [] : right.split(':');
  const missing = right === undefined ? 0 : Math.max(0, 8 - head.length - tail.length);
  const groups = [...head, ...new Array<string>(missing).fill('0'), ...tail].slice(0, 4);
  return groups.map((group) => Number.parseInt(group, 16).toString(16)).join(':');
}
