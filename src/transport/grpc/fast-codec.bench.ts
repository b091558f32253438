import type { UserState } from '../../core/presence.ts';
import { decodeStrings, encodeEvent, encodeHeartbeat, encodeStates } from './fast-codec.ts';

const state = (number: number): UserState => ({
  userId: `user-${number}`,
  status: 'ONLINE',
  activity: 'ACTIVE',
  cause: 'SET',
  sinceMs: 1_790_000_000_000,
  changedAtMs: 1_790_000_000_000,
  lastSeenMs: 1_790_000_012_345,
  customStatus: null,
  version: 1_790_000_000_000_000,
});
const states = Array.from({ length: 1000 }, (_, number) => state(number));
const event = { state: state(1), snapshot: false };
const request = Buffer.from('\n\x0buser-123456');

export const benchmarks = {
  'codec: decode a heartbeat, encode its answer': (iterations: number) => {
    for (let i = 0; i < iterations; i++) {
      decodeStrings(request);
      encodeHeartbeat(true, 15_000);
    }
  },
  'codec: encode an event': (iterations: number) => {
    for (let i = 0; i < iterations; i++) encodeEvent(event);
  },
  'codec: encode 1,000 states': (iterations: number) => {
    for (let i = 0; i < iterations; i++) encodeStates(states);
  },
};
