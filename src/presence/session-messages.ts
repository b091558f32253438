import type { CustomStatusRequest } from '../core/custom-status.ts';
import type { PresenceError } from '../core/errors.ts';
import type { Activity, Status, UserState } from '../core/presence.ts';
import type { SessionEnd } from './session-ends.ts';
import type { WatchEvent } from './subscription.ts';

/** What a client asks for. `requestId` 0: only failures are answered. */
export type SessionRequest = { readonly requestId: number } & (
  | {
      readonly kind: 'hello';
      readonly userId: string;
      readonly device: string;
      readonly resumeToken: string;
      readonly activity: Activity | null;
      /** Empty: that of the handshake, if there was one. */
      readonly token: string;
      /** Whether the client answers pings by frames; otherwise the transport's pings have to do. */
      readonly answersPings: boolean;
    }
  | { readonly kind: 'authenticate'; readonly token: string }
  | { readonly kind: 'set-status'; readonly status: Status | null; readonly activity: Activity | null }
  | { readonly kind: 'set-custom-status'; readonly request: CustomStatusRequest }
  | { readonly kind: 'watch'; readonly userIds: readonly string[]; readonly knownVersions: readonly number[] }
  | { readonly kind: 'unwatch'; readonly userIds: readonly string[] }
  | { readonly kind: 'query'; readonly userIds: readonly string[] }
  | { readonly kind: 'heartbeat'; readonly activity: Activity | null }
  | { readonly kind: 'goodbye' }
);

/** What a client is told. */
export type SessionMessage =
  | {
      readonly kind: 'welcome';
      readonly requestId: number;
      readonly sessionId: string;
      /** Empty: an observer session, which has nothing to resume. */
      readonly resumeToken: string;
      readonly isResumed: boolean;
      /** The engine's clock; 0 and null for one who only looks on. */
      readonly serverTimeMs: number;
      readonly state: UserState | null;
      /** How often the client is pinged by a frame that it must answer; 0: not at all. */
      readonly pingIntervalMs: number;
    }
  | { readonly kind: 'ping' }
  | { readonly kind: 'events'; readonly events: readonly WatchEvent[] }
  | { readonly kind: 'ack'; readonly requestId: number; readonly state: UserState | null }
  | { readonly kind: 'error'; readonly requestId: number; readonly error: PresenceError }
  | { readonly kind: 'states'; readonly requestId: number; readonly states: readonly UserState[] }
  | { readonly kind: 'token-expiring'; readonly expiresInMs: number }
  | { readonly kind: 'going-away'; readonly end: SessionEnd; readonly reconnectInMs: number };

/** A session's way to its client: a stream, a socket. */
export interface SessionLink {
  /** Takes a message. false: it is full now; `Session.drained` is called when there is room again. */
  send(message: SessionMessage): boolean;
  /**
   * Closes after what was sent; for ends that say that nobody reads, soon even if nobody does.
   *
   * @param retryAfterMs when to come back, where it is known
   */
  close(end: SessionEnd, retryAfterMs?: number): void;
  /** Whether `ping` reaches the client of this session, rather than whoever holds the connection. */
  readonly canPing: boolean;
  /** Asks for a sign of life by the transport's own means; `Session.receiveControl` is called with the answer. */
  ping(): void;
  /** Takes no more from the client, and goes on. */
  pause(): void;
  resume(): void;
}
