import { PresenceError } from '../core/errors.ts';
import { mayOperate, type Principal } from '../core/principal.ts';
import type { TraceCarrier } from '../observe/tracing.ts';
import { openAccess, type PresenceApi, type SessionAccess } from '../presence/presence-api.ts';
import { type Authenticator, basicPassword, bearerToken } from './authenticator.ts';
import { GuardedPresence, refused } from './guarded-presence.ts';

/** What a transport knows of who calls. */
export interface Caller {
  /** The Authorization header or metadata. */
  readonly authorization: string | undefined;
  /** Where the caller may have told a trace; absent: the trace that is running. */
  readonly trace?: TraceCarrier;
}

/** The one way from a transport to presence: nobody gets past it without saying who calls. */
export class Gate {
  readonly #presence: PresenceApi;
  readonly #authenticator: Authenticator | undefined;
  readonly #guarded = new WeakMap<Principal, GuardedPresence>();

  /** @param authenticator undefined: everybody may do everything */
  constructor(presence: PresenceApi, authenticator: Authenticator | undefined) {
    this.#presence = presence;
    this.#authenticator = authenticator;
  }

  /**
   * What this caller may do.
   *
   * @throws PresenceError UNAUTHORIZED (unauthenticated)
   */
  enter(caller: Caller): PresenceApi | Promise<PresenceApi> {
    if (!this.#authenticator) return this.#presence;
    const principal = this.authenticate(bearerToken(caller.authorization ?? ''));
    return principal instanceof Promise ? principal.then((it) => this.guard(it)) : this.guard(principal);
  }

  /**
   * Lets operators pass, to dashboard, metrics and reflection. Browsers can send Basic credentials, whose password is the
   * token; else they count only for the dashboard's session.
   *
   * @throws PresenceError UNAUTHORIZED
   */
  async operate({ authorization = '' }: Caller): Promise<void> {
    if (!this.#authenticator) return;
    const token = bearerToken(authorization) || basicPassword(authorization);
    if (!mayOperate(await this.authenticate(token))) throw refused('operate this server');
  }

  /** Who a new session will speak for. */
  session({ authorization = '' }: Caller): SessionAccess {
    if (!this.#authenticator) return openAccess(this.#presence);
    // The dashboard's page has what its user told the browser; pages of other hosts are refused by their origin.
    const token = bearerToken(authorization) || basicPassword(authorization);
    return new GuardedAccess(this, this.#authenticator.toleranceMs, token);
  }

  /** @throws PresenceError UNAUTHORIZED (unauthenticated) */
  authenticate(token: string): Principal | Promise<Principal> {
    if (token === '') throw PresenceError.unauthenticated('a token is required');
    return (this.#authenticator as Authenticator).authenticate(token);
  }

  guard(principal: Principal): GuardedPresence {
    let guarded = this.#guarded.get(principal);
    if (!guarded) {
      guarded = new GuardedPresence(this.#presence, principal, this.#authenticator?.toleranceMs ?? 0);
      this.#guarded.set(principal, guarded);
    }
    return guarded;
  }
}

/** A session's principal, known from its hello on. */
class GuardedAccess implements SessionAccess {
  readonly toleranceMs: number;
  readonly #gate: Gate;
  /** Of the handshake; kept until the hello. */
  #token: string;
  #entered: GuardedPresence | undefined;

  constructor(gate: Gate, toleranceMs: number, token: string) {
    this.#gate = gate;
    this.toleranceMs = toleranceMs;
    this.#token = token;
  }

  get presence(): PresenceApi {
    if (!this.#entered) throw PresenceError.unauthenticated('a token is required');
    return this.#entered;
  }

  get expiresAtMs(): number {
    return this.#entered?.principal.expiresAtMs ?? Number.POSITIVE_INFINITY;
  }

  async enter(token: string, userId: string): Promise<void> {
    const principal = await this.#gate.authenticate(token === '' ? this.#token : token);
    this.#token = '';
    const guarded = this.#gate.guard(principal);
    if (userId === '') guarded.requireRead();
    else guarded.requireUpdate(userId);
    this.#entered = guarded;
  }

  async renew(token: string): Promise<void> {
    const principal = await this.#gate.authenticate(token);
    const before = (this.#entered as GuardedPresence).principal;
    if (principal.kind !== before.kind || principal.id !== before.id) {
      throw refused('take over a session of somebody else');
    }
    this.#entered = this.#gate.guard(principal);
  }
}
