export type Status = 'ONLINE' | 'OFFLINE';
export type Activity = 'ACTIVE' | 'IDLE' | 'AWAY' | 'DO_NOT_DISTURB';

/** What a user says of themselves. */
export interface CustomStatus {
  readonly text: string;
  readonly emoji: string;
  /** When the status before it returns, Unix ms; 0: never. */
  readonly expiresAt: number;
}

/** A user's state. Times are Unix ms by the server's clock; 0: never. */
export interface UserState {
  readonly userId: string;
  readonly status: Status;
  /** null while OFFLINE. */
  readonly activity: Activity | null;
  /** 0 also where it is not for this user to know, while OFFLINE. */
  readonly lastSeen: number;
  /** What the user says of themselves, also while OFFLINE. */
  readonly customStatus: CustomStatus | null;
  /** Grows with every change of this user; 0: never seen, or OFFLINE with a last seen that is not to be known. */
  readonly version: number;
}

/** A change of a watched user. */
export interface PresenceChange {
  readonly userId: string;
  readonly state: UserState;
  /** undefined: nothing was known before. */
  readonly previous: UserState | undefined;
}
