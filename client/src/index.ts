/** @pilotlight/client: presence for browsers and Node. See docs/client.md. */
export type { BackoffOptions } from './backoff.ts';
export { PresenceClient, type PresenceClientOptions } from './client.ts';
export { comesBack } from './close-codes.ts';
export type { ConnectionState } from './connection.ts';
export { PresenceError, type PresenceErrorCode } from './errors.ts';
export { type Connect, type Link, type LinkEvents, webSocketLink } from './link.ts';
export type { LastSeenVisibility, Privacy, PrivacyChange } from './privacy.ts';
export type { Activity, CustomStatus, PresenceChange, Status, UserState } from './types.ts';
