/** How present an ONLINE user is. */
export type Activity = 'ACTIVE' | 'IDLE' | 'AWAY' | 'DO_NOT_DISTURB';

/** Of several activities the user has the first in this order. */
const precedence: readonly Activity[] = ['DO_NOT_DISTURB', 'ACTIVE', 'IDLE', 'AWAY'];

/** The highest of the activities that are said; null: none is. */
export function mergeActivities(activities: readonly (Activity | null)[]): Activity | null {
  return precedence.find((activity) => activities.includes(activity)) ?? null;
}
