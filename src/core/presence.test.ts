import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { ConnectionKind } from './connections.ts';
import {
  type Activity,
  apply,
  type LeasePolicy,
  nextCheckMs,
  nextVersion,
  type Outcome,
  type PresenceEvent,
  type PresenceRecord,
  stateOf,
  unknownRecord,
} from './presence.ts';

const policy: LeasePolicy = { ttlMs: 30_000, disconnectGraceMs: 3000, maxConnectionsPerUser: 3 };
const startMs = 1_700_000_000_000;

const renewal = (connectionId: string, activity: Activity): PresenceEvent => ({
  kind: 'connection-renewed',
  connection: { connectionId, kind: 'session', device: '', activity, sinceMs: startMs },
});

/** A user's history: each event happens `afterMs` later than the one before. */
function history(...steps: [afterMs: number, event: PresenceEvent][]) {
  let record: PresenceRecord = unknownRecord;
  let nowMs = startMs;
  let outcome: Outcome = { record, changed: false, accepted: true, evicted: [] };
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
const opening = (
  connectionId: string,
  kind: ConnectionKind,
  activity: Activity | null = null,
): PresenceEvent => ({
  kind: 'connection-opened',
  connection: { connectionId, kind, device: '', activity },
  replaces: null,
  isResumed: false,
});
const opened = opening('a', 'stream');
const lastClosed: PresenceEvent = { kind: 'connection-closed', connectionId: 'a' };

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
      customStatus: null,
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
    assert.equal(history([0, online], [0, opened], [1000, lastClosed], [2999, sweep]).changed, false);
    const { changed, state } = history([0, online], [0, opened], [1000, lastClosed], [3000, sweep]);
    assert.equal(changed, true);
    assert.equal(state.cause, 'DISCONNECT');
    assert.equal(state.lastSeenMs, startMs + 1000);
  });

  it('does not when a connection opens within the grace', () => {
    const { changed } = history([0, online], [0, opened], [1000, lastClosed], [500, opened], [5000, sweep]);
    assert.equal(changed, false);
  });

  it('does not while other connections are open', () => {
    const other = opening('b', 'stream');
    const { changed } = history([0, online], [0, opened], [0, other], [1000, lastClosed], [5000, sweep]);
    assert.equal(changed, false);
  });

  it('puts it out at once without a grace', () => {
    const lit = history([0, online], [0, opened]).record;
    const outcome = apply(lit, lastClosed, startMs + 5, { ...policy, disconnectGraceMs: 0 }, 1);
    assert.equal(outcome.changed, true);
    assert.equal(outcome.record.status, 'OFFLINE');
  });
});

describe('rule 5: sessions', () => {
  const phone = opening('phone', 'session', 'IDLE');
  const desk = opening('desk', 'session', 'ACTIVE');

  it('light the user, and keep the lease', () => {
    const { changed, state } = history([0, phone]);
    assert.equal(changed, true);
    assert.deepEqual([state.status, state.activity, state.cause], ['ONLINE', 'IDLE', 'CONNECT']);
    const { changed: judged } = history([0, phone], [29_000, renewal('phone', 'IDLE')], [29_000, sweep]);
    assert.equal(judged, false);
  });

  it('merge their activities in the order DO_NOT_DISTURB, ACTIVE, IDLE, AWAY', () => {
    assert.equal(history([0, phone], [0, desk]).state.activity, 'ACTIVE');
    const order = ['DO_NOT_DISTURB', 'ACTIVE', 'IDLE', 'AWAY'] as const;
    for (const [index, first] of order.entries()) {
      for (const second of order.slice(index)) {
        const lower = opening('desk', 'session', second);
        assert.equal(history([0, opening('phone', 'session', first)], [0, lower]).state.activity, first);
        assert.equal(history([0, lower], [0, opening('phone', 'session', first)]).state.activity, first);
      }
    }
  });

  it('count beside what SetUserStatus says', () => {
    const away: PresenceEvent = { kind: 'set-online', activity: 'AWAY' };
    const busy: PresenceEvent = { kind: 'set-online', activity: 'DO_NOT_DISTURB' };
    assert.equal(history([0, phone], [0, away]).state.activity, 'IDLE');
    assert.equal(history([0, phone], [0, busy]).state.activity, 'DO_NOT_DISTURB');
    assert.equal(history([0, phone], [0, busy], [0, offline], [0, online]).state.activity, 'IDLE');
  });

  it('leave what the others say when one closes, and the last leaves all as it was until the grace is over', () => {
    const closeDesk: PresenceEvent = { kind: 'connection-closed', connectionId: 'desk' };
    const closePhone: PresenceEvent = { kind: 'connection-closed', connectionId: 'phone' };
    const one = history([0, phone], [0, desk], [1000, closeDesk]);
    assert.deepEqual([one.changed, one.state.activity, one.state.cause], [true, 'IDLE', 'DISCONNECT']);
    const none = history([0, phone], [0, desk], [1000, closeDesk], [1000, closePhone]);
    assert.deepEqual([none.changed, none.state.status, none.state.activity], [false, 'ONLINE', 'IDLE']);
  });

  it('do not undo a sign-out when they renew or resume, and do when they open anew', () => {
    assert.equal(
      history([0, phone], [0, offline], [60_000, renewal('phone', 'IDLE')]).state.status,
      'OFFLINE',
    );
    const resumed: PresenceEvent = { ...desk, isResumed: true } as PresenceEvent;
    assert.equal(history([0, phone], [0, offline], [60_000, resumed]).state.status, 'OFFLINE');
    assert.equal(history([0, phone], [0, offline], [1, desk]).state.status, 'ONLINE');
  });

  it('light a user again whose lease was lost under them', () => {
    const { state } = history([0, phone], [30_001, sweep], [1000, renewal('phone', 'IDLE')]);
    assert.deepEqual([state.status, state.cause], ['ONLINE', 'CONNECT']);
  });

  it('that nobody renews are those of a lost node', () => {
    const { state } = history([0, phone], [30_001, sweep]);
    assert.deepEqual([state.status, state.cause, state.lastSeenMs], ['OFFLINE', 'NODE_LOST', startMs]);
  });

  it('beyond the limit put the oldest out of its place, which it may not take again', () => {
    const many = history(
      [0, phone],
      [1, desk],
      [1, opening('c', 'session', 'IDLE')],
      [1, opening('d', 'session')],
    );
    assert.deepEqual(many.evicted, ['phone']);
    assert.equal(apply(many.record, renewal('phone', 'IDLE'), many.nowMs, policy, 1).accepted, false);
    assert.equal(apply(many.record, renewal('desk', 'IDLE'), many.nowMs, policy, 1).accepted, true);
  });

  it('take the place of the one that they resume, and its age', () => {
    const again = {
      ...opening('new', 'session', 'IDLE'),
      replaces: 'phone',
      isResumed: true,
    } as PresenceEvent;
    const { record, changed } = history([0, phone], [1, desk], [5000, again]);
    assert.equal(changed, false);
    assert.deepEqual(
      record.connections.map(({ connectionId, sinceMs }) => [connectionId, sinceMs]),
      [
        ['new', startMs],
        ['desk', startMs + 1],
      ],
    );
  });
});

describe('custom status', () => {
  const says = (text: string, lifeMs = 0): PresenceEvent => ({
    kind: 'custom-status',
    request: { text, emoji: '', lifeMs },
  });

  it('shows, also while OFFLINE, and goes when it is cleared', () => {
    const { changed, state } = history([0, says('on a boat')]);
    assert.deepEqual([changed, state.status, state.customStatus?.text], [true, 'OFFLINE', 'on a boat']);
    assert.equal(history([0, says('on a boat')], [1, says('on a boat')]).changed, false);
    assert.equal(history([0, says('on a boat')], [1, says('')]).state.customStatus, null);
  });

  it('gives way to the one before it when it expires', () => {
    const steps: [number, PresenceEvent][] = [
      [0, says('at work')],
      [0, says('in a meeting', 60_000)],
      [0, says('coffee', 10_000)],
    ];
    const afterCoffee = history(...steps, [10_000, sweep]);
    assert.deepEqual([afterCoffee.changed, afterCoffee.state.customStatus?.text], [true, 'in a meeting']);
    assert.equal(history(...steps, [9_999, sweep]).changed, false);
    assert.equal(history(...steps, [60_000, sweep]).state.customStatus?.text, 'at work');
    assert.equal(
      history(...steps, [0, says('lunch', 120_000)], [120_000, sweep]).state.customStatus?.text,
      'at work',
    );
  });
});

describe('laws', () => {
  const sessionEvents: PresenceEvent[] = [
    opening('s', 'session', 'IDLE'),
    opening('t', 'session', 'DO_NOT_DISTURB'),
    renewal('s', 'AWAY'),
    { kind: 'connection-activity', connectionId: 's', activity: 'ACTIVE' },
    { kind: 'connection-closed', connectionId: 's' },
    { kind: 'custom-status', request: { text: 'hi', emoji: '', lifeMs: 0 } },
    { kind: 'custom-status', request: { text: 'tea', emoji: '🍵', lifeMs: 20_000 } },
  ];
  const anyEvent = fc.oneof(
    fc.constantFrom<PresenceEvent>(online, offline, heartbeat, sweep, opened, lastClosed, ...sessionEvents),
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
