import type { PresenceError } from '../core/errors.ts';
import type { Principal } from '../core/principal.ts';
import { maxTimerMs } from '../core/timer.ts';
import { tokenNoticeMs } from '../presence/presence-api.ts';
import { expired } from './authenticator.ts';
import { type OpenCredential, type OpenCredentials, withdrawn } from './open-credentials.ts';

export interface HeldCredentialOptions {
  readonly open: OpenCredentials;
  /** As `open.require` answered it in this turn. */
  readonly principal: Principal;
  /** How long after their expiry the credentials still count, ms. */
  readonly toleranceMs: number;
  /** The credentials expire in so many ms; absent: nobody is told. */
  readonly expiring?: (expiresInMs: number) => void;
  /** Whether what is open may go on with the changed credentials; it takes them over if so. */
  readonly mayGoOn: (principal: Principal) => boolean;
  /** Called at most once: what is open must end with this error. */
  readonly end: (error: PresenceError) => void;
}

/** The credentials of one open stream. They end the stream when they expire or are withdrawn, until `close`. */
export class HeldCredential implements OpenCredential {
  readonly #options: HeldCredentialOptions;
  #principal: Principal;
  #isNoticeDue: boolean;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HeldCredentialOptions) {
    this.#options = options;
    this.#principal = options.principal;
    this.#isNoticeDue = options.expiring !== undefined;
    options.open.add(this);
    this.#plan();
  }

  get principal(): Principal {
    return this.#principal;
  }

  credentialsChanged(principal: Principal | null): void {
    if (principal && this.#options.mayGoOn(principal)) this.#principal = principal;
    else this.#end(withdrawn());
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#options.open.delete(this);
  }

  #end(error: PresenceError): void {
    this.close();
    this.#options.end(error);
  }

  #plan(): void {
    const { expiresAtMs } = this.#principal;
    if (expiresAtMs === Number.POSITIVE_INFINITY) return;
    const dueMs = this.#isNoticeDue ? expiresAtMs - tokenNoticeMs : expiresAtMs + this.#options.toleranceMs;
    const waitMs = Math.max(0, Math.min(dueMs - Date.now(), maxTimerMs));
    this.#timer = setTimeout(() => this.#check(), waitMs).unref();
  }

  #check(): void {
    const { toleranceMs, expiring } = this.#options;
    const leftMs = this.#principal.expiresAtMs - Date.now();
    if (leftMs + toleranceMs <= 0) {
      this.#end(expired());
      return;
    }
    if (this.#isNoticeDue && leftMs <= tokenNoticeMs) {
      this.#isNoticeDue = false;
      expiring?.(Math.max(0, leftMs));
    }
    this.#plan();
  }
}
