import { createHmac, randomBytes } from 'node:crypto';

/** Of this process: who knew a connection by its id cannot compute what it is called later. */
const secret = randomBytes(32);

/** The id of a connection for those who see it only since a time. Shaped like any other (a UUID of version 4). */
export function nameSince(connectionId: string, sinceMs: number): string {
  const hex = createHmac('sha256', secret).update(`${sinceMs} ${connectionId}`).digest('hex');
  const variant = '89ab'[Number.parseInt(hex.charAt(16), 16) % 4];
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `4${hex.slice(13, 16)}`,
    variant + hex.slice(17, 20),
    hex.slice(20, 32),
  ].join('-');
}
