/**
 * The frames of a session as proto3 JSON (docs/protocol.md), written by hand so that a browser loads no protobuf library.
 * What comes from a server is checked: a frame that is not what it should be throws.
 */
import type { PresenceErrorCode } from './errors.ts';
import type { Activity, CustomStatus, Status, UserState } from './types.ts';

/** Frames to the server, as JSON. */
export type ClientFrame = { readonly requestId?: number } & (
  | {
      readonly hello: {
        readonly userId: string;
        readonly device: string;
        readonly resumeToken: string;
        readonly activity?: string;
        readonly token?: string;
        readonly answersPings: boolean;
      };
    }
  | { readonly authenticate: { readonly token: string } }
  | { readonly setStatus: { readonly status?: Status; readonly activity?: string } }
  | {
      readonly setCustomStatus: {
        readonly text: string;
        readonly emoji: string;
        readonly expiresInMs: number;
      };
    }
  | { readonly watch: { readonly userIds: readonly string[]; readonly knownVersions: readonly string[] } }
  | { readonly unwatch: { readonly userIds: readonly string[] } }
  | { readonly query: { readonly userIds: readonly string[] } }
  | { readonly heartbeat: { readonly activity?: string } }
  | { readonly goodbye: Record<string, never> }
);

/** Frames from the server, decoded. */
export type ServerFrame =
  | {
      readonly kind: 'welcome';
      readonly requestId: number;
      readonly sessionId: string;
      readonly resumeToken: string;
      readonly heartbeatIntervalMs: number;
      readonly pongTimeoutMs: number;
      /** 0: never. */
      readonly idleAfterMs: number;
      readonly maxFrameBytes: number;
      /** 0: the server sends no pings. */
      readonly pingIntervalMs: number;
      readonly state: UserState | null;
    }
  | { readonly kind: 'events'; readonly states: readonly UserState[] }
  | { readonly kind: 'ack'; readonly requestId: number; readonly state: UserState | null }
  | {
      readonly kind: 'error';
      readonly requestId: number;
      readonly code: PresenceErrorCode;
      readonly message: string;
      readonly retryable: boolean;
      /** Users that the error is about. */
      readonly userIds: readonly string[];
    }
  | { readonly kind: 'states'; readonly requestId: number; readonly states: readonly UserState[] }
  | {
      readonly kind: 'going-away';
      readonly closeCode: number;
      readonly reason: string;
      readonly reconnectInMs: number;
    }
  | { readonly kind: 'token-expiring' }
  | { readonly kind: 'ping' }
  /** Of a newer server; to be ignored. */
  | { readonly kind: 'unknown' };

const prefix = 'ACTIVITY_';

export function activityName(activity: Activity): string {
  return prefix + activity;
}

type Json = Readonly<Record<string, unknown>>;

/** @throws TypeError: the server does not speak this protocol */
export function decodeFrame(json: unknown): ServerFrame {
  const frame = object(json, 'frame');
  const requestId = number(frame.requestId);
  if (frame.events !== undefined) {
    return { kind: 'events', states: list(object(frame.events, 'events').events).map((it) => state(it)) };
  }
  if (frame.ack !== undefined) {
    const ack = object(frame.ack, 'ack');
    return { kind: 'ack', requestId, state: ack.state === undefined ? null : state(ack.state) };
  }
  if (frame.welcome !== undefined) {
    const welcome = object(frame.welcome, 'welcome');
    return {
      kind: 'welcome',
      requestId,
      sessionId: string(welcome.sessionId),
      resumeToken: string(welcome.resumeToken),
      heartbeatIntervalMs: number(welcome.heartbeatIntervalMs),
      pongTimeoutMs: number(welcome.pongTimeoutMs),
      idleAfterMs: number(welcome.idleAfterMs),
      maxFrameBytes: number(welcome.maxFrameBytes),
      pingIntervalMs: number(welcome.pingIntervalMs),
      state: welcome.state === undefined ? null : state(welcome.state),
    };
  }
  if (frame.states !== undefined) {
    const states = list(object(frame.states, 'states').states).map((it) => state(it));
    return { kind: 'states', requestId, states };
  }
  if (frame.error !== undefined) {
    const error = object(frame.error, 'error');
    return {
      kind: 'error',
      requestId,
      code: string(error.code) as PresenceErrorCode,
      message: string(error.message),
      retryable: error.retryable === true,
      userIds: list(error.userIds).map(string),
    };
  }
  if (frame.goingAway !== undefined) {
    const away = object(frame.goingAway, 'goingAway');
    return {
      kind: 'going-away',
      closeCode: number(away.closeCode),
      reason: string(away.reason),
      reconnectInMs: number(away.reconnectInMs),
    };
  }
  if (frame.ping !== undefined) return { kind: 'ping' };
  if (frame.tokenExpiring !== undefined) return { kind: 'token-expiring' };
  return { kind: 'unknown' };
}

/** UserStatusData and StatusUpdateEvent have the same names for the same things. */
function state(json: unknown): UserState {
  const data = object(json, 'state');
  const { status, activity } = data;
  if (status !== 'ONLINE' && status !== 'OFFLINE') throw new TypeError(`no status: ${String(status)}`);
  const userId = string(data.userId);
  if (userId === '') throw new TypeError('a state without a user');
  return {
    userId,
    status,
    activity: activityOf(activity),
    lastSeen: number(data.lastSeen),
    customStatus: data.customStatus === undefined ? null : customStatus(data.customStatus),
    version: number(data.version),
  };
}

function activityOf(value: unknown): Activity | null {
  const name = string(value);
  return name === '' || name === 'ACTIVITY_UNSPECIFIED' ? null : (name.slice(prefix.length) as Activity);
}

function customStatus(json: unknown): CustomStatus {
  const { text, emoji, expiresAt } = object(json, 'customStatus');
  return { text: string(text), emoji: string(emoji), expiresAt: number(expiresAt) };
}

function object(value: unknown, name: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new TypeError(`${name} is no object`);
  return value as Json;
}

function list(value: unknown): readonly unknown[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new TypeError('no list');
  return value;
}

function string(value: unknown): string {
  if (value === undefined) return '';
  if (typeof value !== 'string') throw new TypeError('no string');
  return value;
}

/** 64-bit numbers are strings in proto3 JSON; ours stay below 2^53. */
function number(value: unknown): number {
  const result = Number(value ?? 0);
  if (!Number.isFinite(result) || result < 0) throw new TypeError('no number');
  return result;
}
