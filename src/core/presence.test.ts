import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  apply,
  type LeasePolicy,
  nextCheckMs,
  nextVersion,
  type PresenceEvent,
  type PresenceRecord,
  stateOf,
  unknownRecord,
} from './presence.ts';

const policy: LeasePolicy = { ttlMs: 30_000, disconnectGraceMs: 3000 };
const startMs = 1_700_000_000_000;

/** A user's history: each event happens `afterMs` later than the one before. */
function history(...steps: [afterMs: number, event: PresenceEvent][]) {
  let record: PresenceRecord = unknownRecord;
  let nowMs = startMs;
  let outcome = { record, changed: false, accepted: true };
  for (const [afterMs, event] of steps) {
    nowMs += afterMs;
    outcome = apply(record, event, nowMs, policy, nextVersion(record.version, nowMs));
    record = outcome.record;
  }
  return { ...outcome, nowMs, state: stateOf('u', record, policy.ttlMs) };
}

const online: PresenceEvent = { kind: 'set-online', activity: null };
const offline: PresenceEvent = { kind: 'set-offline' };
const heartbeat: PresenceEvent = { kind: 'heartbeat' };
const sweep: PresenceEvent = { kind: 'sweep' };
const opened: PresenceEvent = { kind: 'connection-opened' };
const lastClosed: PresenceEvent = { kind: 'connection-closed', connectionsLeft: 0 };

describe('rule 1: SetUserStatus(ONLINE)', () => {
  it('lights the lease for one TTL', () => {
    const { record, changed, state } = history([0, online]);
    assert.equal(changed, true);
    assert.equal(record.deadlineMs, startMs + 30_000);
    assert.deepEqual(state, {
      userId: 'u',
      status: 'ONLINE',
      activity: 'ACTIVE',
      cause: 'SET',
      sinceMs: startMs,
      changedAtMs: startMs,
      lastSeenMs: startMs,
      version: startMs * 1000,
    });
  });

  it('repeated only renews', () => {
    const { record, changed, state } = history([0, online], [10_000, online]);
    assert.equal(changed, false);
    assert.equal(record.deadlineMs, startMs + 40_000);
    assert.equal(state.lastSeenMs, startMs + 10_000);
    assert.equal(state.version, startMs * 1000);
  });

  it('with another activity is a change, and keeps since', () => {
    const { changed, state } = history([0, online], [5000, { kind: 'set-online', activity: 'AWAY' }]);
    assert.equal(changed, true);
    assert.equal(state.activity, 'AWAY');
    assert.equal(state.sinceMs, startMs);
    assert.equal(state.changedAtMs, startMs + 5000);
  });

  it('without an activity leaves it as it is', () => {
    const { changed, state } = history([0, { kind: 'set-online', activity: 'IDLE' }], [1, online]);
    assert.equal(changed, false);
    assert.equal(state.activity, 'IDLE');
  });
});

describe('rule 2: heartbeat', () => {
  it('renews', () => {
    const { record, changed } = history([0, online], [15_000, heartbeat]);
    assert.equal(changed, false);
    assert.equal(record.deadlineMs, startMs + 45_000);
  });

  it('lights an unknown user', () => {
    const { changed, state } = history([0, heartbeat]);
    assert.equal(changed, true);
    assert.equal(state.status, 'ONLINE');
    assert.equal(state.cause, 'HEARTBEAT');
  });

  it('lights an expired user', () => {
    const { changed, state } = history([0, online], [30_001, sweep], [1, heartbeat]);
    assert.equal(changed, true);
    assert.equal(state.cause, 'HEARTBEAT');
  });

  it('is refused within one TTL of a sign-out, and changes nothing', () => {
    const before = history([0, online], [1000, offline]);
    const after = history([0, online], [1000, offline], [29_999, heartbeat]);
    assert.equal(after.accepted, false);
    assert.equal(after.changed, false);
    assert.deepEqual(after.record, before.record);
  });

  it('lights again one TTL after a sign-out', () => {
    const { accepted, state } = history([0, online], [1000, offline], [30_000, heartbeat]);
    assert.equal(accepted, true);
    assert.equal(state.status, 'ONLINE');
  });

  it('is accepted after a sign-out that SetUserStatus(ONLINE) took back', () => {
    const { accepted, changed } = history([0, offline], [1, online], [1, heartbeat]);
    assert.equal(accepted, true);
    assert.equal(changed, false);
  });
});

describe('rule 3: SetUserStatus(OFFLINE)', () => {
  it('is immediate, with last seen now', () => {
    const { changed, state } = history([0, online], [7000, offline]);
    assert.equal(changed, true);
    assert.equal(state.status, 'OFFLINE');
    assert.equal(state.activity, null);
    assert.equal(state.cause, 'SET');
    assert.equal(state.lastSeenMs, startMs + 7000);
  });

  it('of an OFFLINE user is no change, and still refuses stragglers', () => {
    assert.equal(history([0, online], [30_001, sweep], [0, offline]).changed, false);
    assert.equal(history([0, online], [30_001, sweep], [0, offline], [5000, heartbeat]).accepted, false);
  });
});

describe('rule 4: expiry', () => {
  it('never judges before the deadline has passed', () => {
    assert.equal(history([0, online], [30_000, sweep]).changed, false);
  });

  it('judges right after it, with last seen at the last renewal', () => {
    const { changed, state } = history([0, online], [10_000, heartbeat], [30_001, sweep]);
    assert.equal(changed, true);
    assert.equal(state.status, 'OFFLINE');
    assert.equal(state.cause, 'EXPIRED');
    assert.equal(state.lastSeenMs, startMs + 10_000);
  });
});

describe('rule 5: connections', () => {
  it('puts the light out when the grace after the last one has passed', () => {
    assert.equal(history([0, online], [1000, lastClosed], [2999, sweep]).changed, false);
    const { changed, state } = history([0, online], [1000, lastClosed], [3000, sweep]);
    assert.equal(changed, true);
    assert.equal(state.cause, 'DISCONNECT');
    assert.equal(state.lastSeenMs, startMs + 1000);
  });

  it('does not when a connection opens within the grace', () => {
    assert.equal(history([0, online], [1000, lastClosed], [500, opened], [5000, sweep]).changed, false);
  });

  it('does not while other connections are open', () => {
    const closed: PresenceEvent = { kind: 'connection-closed', connectionsLeft: 1 };
    assert.equal(history([0, online], [1000, closed], [5000, sweep]).changed, false);
  });

  it('puts it out at once without a grace', () => {
    const lit = history([0, online]).record;
    const outcome = apply(lit, lastClosed, startMs + 5, { ...policy, disconnectGraceMs: 0 }, 1);
    assert.equal(outcome.changed, true);
    assert.equal(outcome.record.status, 'OFFLINE');
  });
});

describe('laws', () => {
  const anyEvent = fc.oneof(
    fc.constantFrom<PresenceEvent>(online, offline, heartbeat, sweep, opened, lastClosed),
    fc.record({
      kind: fc.constant('set-online' as const),
      activity: fc.constantFrom('ACTIVE', 'IDLE', 'AWAY', 'DO_NOT_DISTURB'),
    }),
  );
  const anyHistory = fc.array(fc.tuple(fc.integer({ min: 0, max: 40_000 }), anyEvent), { maxLength: 30 });

  it('repeating an event at once changes nothing', () => {
    fc.assert(
      fc.property(anyHistory, anyEvent, (steps, event) => {
        const once = history(...steps, [5, event]);
        const again = apply(once.record, event, once.nowMs, policy, once.record.version + 1);
        assert.equal(again.changed, false);
        assert.deepEqual(again.record, once.record);
      }),
    );
  });

  it('a change raises the version, and only a change does', () => {
    fc.assert(
      fc.property(anyHistory, anyEvent, (steps, event) => {
        const before = history(...steps);
        const after = history(...steps, [5, event]);
        assert.equal(after.state.version > before.state.version, after.changed);
      }),
    );
  });

  it('only an event that is due changes at a sweep, and nextCheckMs says when', () => {
    fc.assert(
      fc.property(anyHistory, fc.integer({ min: 0, max: 60_000 }), (steps, afterMs) => {
        const before = history(...steps);
        const swept = apply(before.record, sweep, before.nowMs + afterMs, policy, before.record.version + 1);
        assert.equal(swept.changed, before.nowMs + afterMs >= nextCheckMs(before.record));
      }),
    );
  });

  it('activity is set exactly while ONLINE', () => {
    fc.assert(
      fc.property(anyHistory, (steps) => {
        const { state } = history(...steps);
        assert.equal(state.activity !== null, state.status === 'ONLINE');
      }),
    );
  });
});
