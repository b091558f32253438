import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { UserState } from './presence.ts';
import { blockedUsers, maxPrivacyBytes, type Privacy, type PrivacyChange, privacyBytes } from './privacy.ts';
import { changePrivacy } from './privacy-change.ts';
import {
  connectionsSeenBy,
  insider,
  nextFaceChangeMs,
  type SightRules,
  seenBy,
  stranger,
  type Viewer,
} from './sight.ts';

const vic: Viewer = { userId: 'vic', seesAll: false };
const una: Viewer = { userId: 'una', seesAll: false };

function stateAt(atMs: number, status: 'ONLINE' | 'OFFLINE', more: Partial<UserState> = {}): UserState {
  const activity = status === 'ONLINE' ? 'ACTIVE' : null;
  const times = { sinceMs: atMs, changedAtMs: atMs, lastSeenMs: atMs, version: atMs * 1000 };
  return { userId: 'una', status, activity, cause: 'SET', ...times, customStatus: null, ...more };
}

/** The state with the privacy that a change at this time makes of it. */
function changed(state: UserState, atMs: number, wanted: Partial<PrivacyChange>, lateMs = 0): UserState {
  const nothing = { invisible: null, lastSeen: null, addBlocked: [], removeBlocked: [], maxBlockedUsers: 3 };
  const customStatuses = state.customStatus ? [state.customStatus] : [];
  const outcome = changePrivacy(
    { state, customStatuses },
    { ...nothing, ...wanted },
    atMs,
    { atMs, version: atMs * 1000 },
    lateMs,
  );
  const { privacy: _old, ...rest } = state;
  const privacy = outcome ? outcome.privacy : state.privacy;
  return privacy ? { ...rest, privacy } : rest;
}

const later = (state: UserState, privacyOf: UserState): UserState => ({
  ...state,
  privacy: privacyOf.privacy as Privacy,
});

const at = (nowMs: number, more: Partial<SightRules> = {}): SightRules => ({
  nowMs,
  lastSeenTtlMs: 10_000,
  isReciprocal: false,
  ...more,
});

describe('privacy', () => {
  it('keeps one face for all who are blocked at one time, and a bound for the whole record', () => {
    const customStatus = { text: 'x'.repeat(2000), emoji: '', expiresAtMs: 0 };
    const userIds = Array.from({ length: 1000 }, (_, index) => `blocked-${index}`);
    const at = (nowMs: number) => stateAt(nowMs, 'ONLINE', { customStatus });
    const maxBlockedUsers = 1000;
    const once = changed(at(100), 200, { addBlocked: userIds, maxBlockedUsers });
    const faces = new Set([...(once.privacy as Privacy).blocked.values()].map(({ face }) => face));
    assert.equal(faces.size, 1);
    // One by one, each with a custom status of its own, they would make it 2 MB.
    let state = at(300);
    assert.throws(() => {
      for (const [index, userId] of userIds.entries()) {
        const own = { ...customStatus, text: `${index} ${customStatus.text}` };
        state = changed({ ...state, customStatus: own }, 400 + index, {
          addBlocked: [userId],
          maxBlockedUsers,
        });
      }
    }, /too large/);
    assert.ok(privacyBytes(state.privacy as Privacy) <= maxPrivacyBytes(maxBlockedUsers));
    const fewer = changed(state, 2000, { removeBlocked: ['blocked-1'], maxBlockedUsers });
    assert.ok(fewer.privacy?.blocked.get('blocked-1')?.lifted, 'less is never refused');
  });

  it('shows a blocked user the user OFFLINE as of the block, and everybody else the truth', () => {
    const hidden = changed(stateAt(100, 'ONLINE'), 200, { addBlocked: ['vic'] });
    const { privacy: _privacy, ...truth } = hidden;
    assert.deepEqual(seenBy(vic, hidden, at(300)), stateAt(200, 'OFFLINE'));
    for (const viewer of [stranger, insider, una]) assert.deepEqual(seenBy(viewer, hidden, at(300)), truth);
  });

  it('leaves an OFFLINE user as they were seen, and whoever was never seen', () => {
    const gone = stateAt(100, 'OFFLINE');
    assert.deepEqual(seenBy(stranger, changed(gone, 200, { invisible: true }), at(300)), gone);
    const unknown = { ...stateAt(0, 'OFFLINE'), cause: null };
    const hidden = changed(unknown, 200, { invisible: true });
    assert.deepEqual(seenBy(stranger, later(stateAt(250, 'ONLINE'), hidden), at(300)), unknown);
  });

  it('lets an ONLINE user appear at the lift, and an OFFLINE one not at all', () => {
    const hidden = changed(stateAt(100, 'ONLINE'), 200, { invisible: true });
    const on = changed(later(stateAt(250, 'ONLINE', { activity: 'AWAY' }), hidden), 300, {
      invisible: false,
    });
    assert.deepEqual(seenBy(stranger, on, at(400)), stateAt(300, 'ONLINE', { activity: 'AWAY' }));
    const off = changed(later(stateAt(250, 'OFFLINE'), hidden), 300, { invisible: false });
    assert.deepEqual(seenBy(stranger, off, at(400)), stateAt(200, 'OFFLINE'));
    const next = stateAt(500, 'ONLINE');
    assert.deepEqual(seenBy(stranger, later(next, off), at(600)), next);
  });

  it('keeps a user hidden by one hide when another is lifted, as of the first', () => {
    const blocked = changed(stateAt(100, 'ONLINE'), 200, { addBlocked: ['vic'] });
    const both = changed(blocked, 300, { invisible: true });
    assert.deepEqual(seenBy(stranger, both, at(400)), stateAt(300, 'OFFLINE'));
    const unblocked = changed(both, 500, { removeBlocked: ['vic'] });
    assert.deepEqual(seenBy(vic, unblocked, at(600)), stateAt(200, 'OFFLINE'));
    const visible = changed(unblocked, 700, { invisible: false });
    for (const viewer of [vic, stranger]) {
      assert.deepEqual(seenBy(viewer, visible, at(800)), stateAt(700, 'ONLINE'));
    }
  });

  it('shows no connections of a hidden user, and none older than the status', () => {
    const times = { sinceMs: 90, lastSeenMs: 150 };
    const phone = { connectionId: 'c', kind: 'session', device: 'phone', activity: null, ...times } as const;
    const since = (sinceMs: number) => ({ ...phone, connectionId: `c since ${sinceMs}`, sinceMs });
    const see = (viewer: Viewer, truth: UserState, nowMs: number) =>
      connectionsSeenBy(
        viewer,
        truth,
        seenBy(viewer, truth, at(nowMs)),
        [phone],
        (id, ms) => `${id} since ${ms}`,
      );
    const shown = (viewer: Viewer, wanted: Partial<PrivacyChange>) =>
      see(viewer, changed(stateAt(100, 'OFFLINE'), 200, wanted), 300);
    assert.deepEqual(shown(stranger, { addBlocked: ['vic'] }), [since(100)]);
    assert.deepEqual(shown(stranger, { lastSeen: 'nobody' }), []);
    assert.deepEqual(shown(vic, { addBlocked: ['vic'] }), []);
    assert.deepEqual(shown(vic, { invisible: true }), []);
    assert.deepEqual(shown(una, { invisible: true }), [phone]);
    assert.deepEqual(see(vic, stateAt(90, 'ONLINE'), 300), [phone]);
    const hidden = changed(stateAt(50, 'ONLINE'), 60, { invisible: true });
    const lifted = changed(later(stateAt(80, 'ONLINE'), hidden), 120, { invisible: false });
    assert.deepEqual(see(vic, lifted, 300), [since(120)]);
    assert.deepEqual(see(vic, later(stateAt(140, 'OFFLINE'), lifted), 300), [since(140)], 'nor afterwards');
  });

  it('conceals when an OFFLINE user was last seen, and makes news of showing it again', () => {
    const concealed = changed(stateAt(100, 'OFFLINE'), 200, { lastSeen: 'nobody' });
    const nothing = { sinceMs: 0, changedAtMs: 0, lastSeenMs: 0, version: 0 };
    assert.deepEqual(seenBy(vic, concealed, at(300)), stateAt(100, 'OFFLINE', nothing));
    assert.equal(seenBy(una, concealed, at(300)).lastSeenMs, 100);
    assert.equal(seenBy(vic, later(stateAt(250, 'ONLINE'), concealed), at(300)).lastSeenMs, 250);
    const shared = changed(concealed, 400, { lastSeen: 'reciprocal' });
    assert.equal(seenBy(vic, shared, at(500)).version, 0);
    const seen = seenBy(vic, shared, at(500, { isReciprocal: true }));
    assert.deepEqual(seen, stateAt(100, 'OFFLINE', { version: 400_000 }));
  });

  it('lets custom statuses of a hidden user expire, and says when', () => {
    const customStatus = { text: 'lunch', emoji: '', expiresAtMs: 500 };
    const hidden = changed(stateAt(100, 'ONLINE', { customStatus }), 200, { invisible: true });
    assert.equal(nextFaceChangeMs(hidden.privacy as Privacy, 300), 500);
    assert.deepEqual(seenBy(stranger, hidden, at(499)).customStatus, customStatus);
    const after = { ...stateAt(500, 'OFFLINE', { cause: 'EXPIRED' }), sinceMs: 200, lastSeenMs: 200 };
    assert.deepEqual(seenBy(stranger, hidden, at(500)), after);
    assert.equal(nextFaceChangeMs(hidden.privacy as Privacy, 500), Number.POSITIVE_INFINITY);
  });

  it('shows that as late as a sweep would find it', () => {
    const customStatus = { text: 'lunch', emoji: '', expiresAtMs: 500 };
    const hidden = changed(stateAt(100, 'ONLINE', { customStatus }), 200, { invisible: true }, 30);
    assert.equal(nextFaceChangeMs(hidden.privacy as Privacy, 500), 530);
    assert.deepEqual(seenBy(stranger, hidden, at(529)).customStatus, customStatus);
    const { customStatus: over, changedAtMs, version } = seenBy(stranger, hidden, at(530));
    assert.deepEqual([over, changedAtMs, version], [null, 530, 530_000]);
  });

  it('forgets a hidden user when an OFFLINE one would be forgotten', () => {
    const hidden = changed(stateAt(100, 'ONLINE'), 200, { invisible: true });
    assert.equal(seenBy(stranger, hidden, at(10_199)).version, 200_000);
    assert.equal(seenBy(stranger, hidden, at(10_200)).version, 0);
    assert.equal(seenBy(una, hidden, at(10_200)).status, 'ONLINE');
  });

  it('bounds the list, those included who were taken off it since the status changed', () => {
    const full = changed(stateAt(100, 'ONLINE'), 200, { addBlocked: ['a', 'b', 'c'] });
    const off = changed(full, 300, { removeBlocked: ['a'] });
    assert.deepEqual(blockedUsers(off.privacy as Privacy), ['b', 'c']);
    assert.throws(() => changed(off, 400, { addBlocked: ['d'] }), { code: 'INVALID_ARGUMENT' });
    const next = changed(later(stateAt(500, 'OFFLINE'), off), 600, { addBlocked: ['d'] });
    assert.deepEqual(blockedUsers(next.privacy as Privacy), ['b', 'c', 'd']);
  });
});
