import { PresenceError } from '../core/errors.ts';
import type { Principal } from '../core/principal.ts';

/** What goes on for as long as it is open, on the word of the credentials that opened it: a session, a subscription. */
export interface OpenCredential {
  readonly principal: Principal;
  /** The credentials are others now; null: they were withdrawn. Must not throw. */
  credentialsChanged(principal: Principal | null): void;
}

/** Everything that is open, so that it ends when its credentials are withdrawn. */
export class OpenCredentials {
  readonly #current: (principal: Principal) => Principal | null;
  readonly #open = new Set<OpenCredential>();

  /** @param current what a principal may do now; null: nothing any more */
  constructor(current: (principal: Principal) => Principal | null) {
    this.#current = current;
  }

  get size(): number {
    return this.#open.size;
  }

  /**
   * What a principal may do now. Call it in the turn in which the credential is added.
   *
   * @throws PresenceError UNAUTHORIZED (unauthenticated): it was withdrawn
   */
  require(principal: Principal): Principal {
    const now = this.#current(principal);
    if (!now) throw withdrawn();
    return now;
  }

  add(credential: OpenCredential): void {
    this.#open.add(credential);
  }

  delete(credential: OpenCredential): void {
    this.#open.delete(credential);
  }

  /** Keys, scopes or revocations changed. */
  checkAll(): void {
    for (const credential of [...this.#open]) {
      const now = this.#current(credential.principal);
      if (now !== credential.principal) credential.credentialsChanged(now);
    }
  }
}

export function withdrawn(): PresenceError {
  return PresenceError.unauthenticated('the token or key was withdrawn, or allows less than before');
}
