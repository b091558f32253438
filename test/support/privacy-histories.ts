/** Histories of a user who hides at times, for tests that tell them in two worlds. */
import fc from 'fast-check';
import type { Activity } from '../../src/core/presence.ts';
import type { LastSeenVisibility, PrivacyChange } from '../../src/core/privacy.ts';

export type Step =
  | { readonly kind: 'online'; readonly activity: Activity }
  | { readonly kind: 'offline' | 'heartbeat' | 'connect' | 'disconnect' }
  | { readonly kind: 'custom'; readonly text: string; readonly life: number }
  | { readonly kind: 'last seen'; readonly of: 'ursula' | 'vic'; readonly to: LastSeenVisibility }
  | { readonly kind: 'wait'; readonly steps: number };

export interface Chapter {
  readonly before: readonly Step[];
  readonly how: keyof typeof ways;
  readonly hidden: readonly Step[];
  readonly after: readonly Step[];
}

const unseen = { invisible: true };
const seen = { invisible: false };
const blocked = { addBlocked: ['vic'] };
const unblocked = { removeBlocked: ['vic'] };
/** Changes of privacy as hiding begins, after the first and the second step of it, and at its end. */
export const ways = {
  invisible: [unseen, {}, {}, seen],
  block: [blocked, {}, {}, unblocked],
  both: [{ ...unseen, ...blocked }, {}, {}, { ...seen, ...unblocked }],
  'block while invisible': [unseen, blocked, seen, unblocked],
  'invisible while blocked': [blocked, unseen, unblocked, seen],
} as const satisfies Record<string, readonly Partial<PrivacyChange>[]>;

const activity = fc.constantFrom<Activity>('ACTIVE', 'IDLE', 'AWAY', 'DO_NOT_DISTURB');
export const visibility = fc.constantFrom<LastSeenVisibility>('everyone', 'nobody', 'reciprocal');
const open: readonly fc.Arbitrary<Step>[] = [
  fc.record({ kind: fc.constant('online' as const), activity }),
  fc.record({ kind: fc.constantFrom('offline' as const, 'heartbeat' as const) }),
  fc.record({ kind: fc.constantFrom('connect' as const, 'disconnect' as const) }),
  fc.record({
    kind: fc.constant('last seen' as const),
    of: fc.constantFrom('ursula' as const, 'vic' as const),
    to: visibility,
  }),
  fc.record({
    kind: fc.constant('custom' as const),
    text: fc.constantFrom('', 'a', 'b'),
    life: fc.integer({ min: 0, max: 60 }),
  }),
  fc.record({ kind: fc.constant('wait' as const), steps: fc.integer({ min: 1, max: 70 }) }),
];
const openSteps = fc.array(fc.oneof(...open), { maxLength: 5 });
const secretSteps = fc.array(fc.oneof(...open), { maxLength: 7 });
export const anyHistory = fc.array(
  fc.record<Chapter>({
    before: openSteps,
    how: fc.constantFrom(...(Object.keys(ways) as (keyof typeof ways)[])),
    hidden: secretSteps,
    after: openSteps,
  }),
  { minLength: 1, maxLength: 3 },
);

/** So that there is always a second step. */
export const noSteps: readonly Step[] = [
  { kind: 'wait', steps: 1 },
  { kind: 'wait', steps: 1 },
];

export function change(wanted: Partial<PrivacyChange>): PrivacyChange {
  const nothing = { invisible: null, lastSeen: null, addBlocked: [], removeBlocked: [] };
  return { ...nothing, maxBlockedUsers: 10, ...wanted };
}
