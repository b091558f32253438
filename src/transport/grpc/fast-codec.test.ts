import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  Activity,
  Cause,
  CustomStatusSchema,
  GetMultipleUserStatusRequestSchema,
  GetMultipleUserStatusResponseSchema,
  GetUserStatusRequestSchema,
  GetUserStatusResponseSchema,
  SendHeartbeatResponseSchema,
  StatusUpdateEventSchema,
  UserStatus,
  UserStatusDataSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import fc from 'fast-check';
import type { UserState } from '../../core/presence.ts';
import { decodeStrings, encodeEvent, encodeHeartbeat, encodeStates } from './fast-codec.ts';

const times = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 300 }), fc.maxSafeNat());
const states: fc.Arbitrary<UserState> = fc.record({
  userId: fc.oneof(
    fc.string({ minLength: 1, maxLength: 128 }),
    fc.string({ unit: 'grapheme', maxLength: 60 }),
  ),
  status: fc.constantFrom('ONLINE', 'OFFLINE'),
  activity: fc.constantFrom(null, 'ACTIVE', 'IDLE', 'AWAY', 'DO_NOT_DISTURB'),
  cause: fc.constantFrom(null, 'SET', 'HEARTBEAT', 'CONNECT', 'DISCONNECT', 'EXPIRED', 'NODE_LOST'),
  sinceMs: times,
  changedAtMs: times,
  lastSeenMs: times,
  version: times,
  customStatus: fc.option(
    fc.record({
      text: fc.string({ unit: 'grapheme', maxLength: 140 }),
      emoji: fc.string({ unit: 'grapheme', maxLength: 8 }),
      expiresAtMs: times,
    }),
  ),
}) as fc.Arbitrary<UserState>;

const activityOf = (state: UserState) => (state.activity === null ? 0 : Activity[state.activity]);

function customOf({ customStatus }: UserState) {
  if (customStatus === null) return {};
  const { text, emoji, expiresAtMs } = customStatus;
  return { customStatus: create(CustomStatusSchema, { text, emoji, expiresAt: BigInt(expiresAtMs) }) };
}

function dataOf(state: UserState) {
  return create(UserStatusDataSchema, {
    userId: state.userId,
    status: UserStatus[state.status],
    lastSeen: BigInt(state.lastSeenMs),
    activity: activityOf(state),
    since: BigInt(state.sinceMs),
    version: BigInt(state.version),
    ...customOf(state),
  });
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('the hand-written codec writes what the generated one writes', () => {
  it('of one state and of many', () => {
    fc.assert(
      fc.property(fc.array(states, { maxLength: 400 }), (many) => {
        const message = create(GetMultipleUserStatusResponseSchema, {
          success: true,
          data: many.map(dataOf),
        });
        assert.equal(hex(encodeStates(many)), hex(toBinary(GetMultipleUserStatusResponseSchema, message)));
      }),
      { numRuns: 60 },
    );
    fc.assert(
      fc.property(states, (state) => {
        const message = create(GetUserStatusResponseSchema, { success: true, data: dataOf(state) });
        assert.equal(hex(encodeStates([state])), hex(toBinary(GetUserStatusResponseSchema, message)));
      }),
    );
  });

  it('of an event', () => {
    fc.assert(
      fc.property(states, fc.boolean(), (state, snapshot) => {
        const message = create(StatusUpdateEventSchema, {
          userId: state.userId,
          status: UserStatus[state.status],
          timestamp: BigInt(state.changedAtMs),
          snapshot,
          activity: activityOf(state),
          lastSeen: BigInt(state.lastSeenMs),
          cause: state.cause === null ? 0 : Cause[state.cause],
          version: BigInt(state.version),
          ...customOf(state),
        });
        assert.equal(hex(encodeEvent({ state, snapshot })), hex(toBinary(StatusUpdateEventSchema, message)));
      }),
    );
  });

  it('of a heartbeat', () => {
    fc.assert(
      fc.property(fc.boolean(), fc.integer({ min: 50, max: 43_200_000 }), (success, nextInMs) => {
        const message = create(SendHeartbeatResponseSchema, {
          success,
          nextHeartbeatInSeconds: BigInt(Math.max(1, Math.floor(nextInMs / 1000))),
          nextHeartbeatInMs: BigInt(nextInMs),
        });
        assert.equal(
          hex(encodeHeartbeat(success, nextInMs)),
          hex(toBinary(SendHeartbeatResponseSchema, message)),
        );
      }),
    );
  });
});

describe('the hand-written decoder', () => {
  it('reads what the generated codec wrote, or leaves it alone', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary', maxLength: 140 })), (userIds) => {
        const bytes = toBinary(
          GetMultipleUserStatusRequestSchema,
          create(GetMultipleUserStatusRequestSchema, { userIds }),
        );
        const isPlain = userIds.every((id) => /^[\0-\x7f]{0,127}$/.test(id));
        assert.deepEqual(decodeStrings(bytes), isPlain ? userIds : undefined);
      }),
    );
    const one = toBinary(GetUserStatusRequestSchema, create(GetUserStatusRequestSchema, { userId: 'ada' }));
    assert.deepEqual(decodeStrings(one), ['ada']);
  });

  it('leaves alone what is cut short or has other fields', () => {
    for (const bytes of [[0x0a], [0x0a, 2, 0x61], [0x10, 1], [0x0a, 1, 0x61, 0x10, 1], [0x0a, 0x80, 1]]) {
      assert.equal(decodeStrings(Uint8Array.from(bytes)), undefined);
    }
    assert.deepEqual(decodeStrings(new Uint8Array()), []);
  });
});
