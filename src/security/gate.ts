import { PresenceError } from '../core/errors.ts';
import { mayOperate, type Principal, viewerOf } from '../core/principal.ts';
import { checkUserId } from '../core/user-id.ts';
import type { TraceCarrier } from '../observe/tracing.ts';
import {
  openAccess,
  type PresenceApi,
  type SessionAccess,
  type UserDirectory,
  type ViewedPresence,
} from '../presence/presence-api.ts';
import { Audit } from './audit.ts';
import { type Authenticator, basicPassword, bearerToken } from './authenticator.ts';
import { networkOf } from './client-address.ts';
import { ClientAddresses } from './client-addresses.ts';
import { GuardedPresence, lessThanBefore, refused } from './guarded-presence.ts';
import { HeldCredential } from './held-credential.ts';
import { LimitedPresence } from './limited-presence.ts';
import type { Limits } from './limits.ts';
import { type OpenCredential, OpenCredentials, withdrawn } from './open-credentials.ts';
import type { WatchPolicy } from './watch-policy.ts';

/** What a transport knows of who calls. */
export interface Caller {
  /** The Authorization header or metadata. */
  readonly authorization: string | undefined;
  /** The other end of the connection, without its port. */
  readonly address: string;
  readonly port?: number | undefined;
  /** A header or metadata by its name in lower case; several are joined by commas. */
  header?(name: string): string | undefined;
  /** What the caller may do, where that was settled before the call was read; absent: it is asked. */
  readonly entered?: PresenceApi | undefined;
  /** Where the caller may have told a trace; absent: the trace that is running. */
  readonly trace?: TraceCarrier;
}

export interface GateOptions {
  /** Default: the other end of a connection is who calls. */
  readonly addresses?: ClientAddresses;
  /** Default: refusals are not logged. */
  readonly audit?: Audit;
  readonly presence: ViewedPresence;
  /** undefined: everybody may do everything. */
  readonly authenticator: Authenticator | undefined;
  readonly limits: Limits;
  /** undefined: every id is somebody's. */
  readonly directory?: UserDirectory | undefined;
  /** undefined: who may see anybody may see everybody. */
  readonly policy?: WatchPolicy | undefined;
}

/** The one way from a transport to presence: nobody gets past it without saying who calls, or too often. */
export class Gate {
  readonly limits: Limits;
  readonly addresses: ClientAddresses;
  readonly audit: Audit;
  /** Sessions and streams that are open, which end when their credentials are withdrawn. */
  readonly open: OpenCredentials;
  readonly #presence: ViewedPresence;
  readonly #authenticator: Authenticator | undefined;
  readonly #directory: UserDirectory | undefined;
  readonly #policy: WatchPolicy | undefined;
  readonly #guarded = new WeakMap<Principal, GuardedPresence>();

  constructor({ presence, authenticator, limits, directory, policy, addresses, audit }: GateOptions) {
    this.audit = audit ?? new Audit();
    this.addresses = addresses ?? new ClientAddresses();
    this.#directory = directory;
    this.#policy = policy;
    this.limits = limits;
    this.#presence = presence;
    this.#authenticator = authenticator;
    this.open = new OpenCredentials((principal) => authenticator?.current(principal) ?? null);
    authenticator?.onChange(() => this.open.checkAll());
  }

  /** Whether nobody has to say who they are. */
  get isOpen(): boolean {
    return this.#authenticator === undefined;
  }

  /** Where a call comes from, as trusted proxies tell of it. */
  addressOf({ address, port, header }: Caller): string {
    return this.addresses.ofCall(address, port, header);
  }

  /** What limits by address count for a call. */
  networkOf(caller: Caller): string {
    return networkOf(this.addressOf(caller));
  }

  /** Whether one more connection may be served; those of a trusted proxy are many clients'. */
  mayConnect(remoteAddress: string, remotePort: number | undefined): boolean {
    const address = this.addresses.ofConnection(remoteAddress, remotePort);
    return this.addresses.isTrusted(address) || this.limits.mayConnect(address);
  }

  /**
   * What this caller may do.
   *
   * @param method of a call that has not been decoded yet: it may be too much already
   * @throws PresenceError UNAUTHORIZED (unauthenticated), RATE_LIMITED
   */
  enter(caller: Caller, method?: string): PresenceApi | Promise<PresenceApi> {
    const address = this.addressOf(caller);
    if (!this.#authenticator) return new LimitedPresence(this.#presence, this.limits, null, address);
    const principal = this.authenticate(bearerToken(caller.authorization ?? ''), address);
    return principal instanceof Promise
      ? principal.then((it) => this.#limited(it, address, method))
      : this.#limited(principal, address, method);
  }

  /**
   * Lets operators pass, to dashboard, metrics and reflection. Browsers can send Basic credentials, whose password is the
   * token; else they count only for the dashboard's session.
   *
   * @returns null: everybody may
   * @throws PresenceError UNAUTHORIZED, RATE_LIMITED
   */
  async operate(caller: Caller): Promise<Principal | null> {
    if (!this.#authenticator) return null;
    const { authorization = '' } = caller;
    const address = this.addressOf(caller);
    const token = bearerToken(authorization) || basicPassword(authorization);
    const principal = await this.authenticate(token, address);
    if (!mayOperate(principal)) {
      const error = refused('operate this server');
      this.audit.refused(principal, 'operate this server', error.message);
      throw error;
    }
    return principal;
  }

  /**
   * Ends a stream that `operate` let pass when the operator's credentials expire or are withdrawn.
   *
   * @param principal as `operate` answered it; null: everybody may
   * @returns to be called when the stream is closed
   * @throws PresenceError UNAUTHORIZED (unauthenticated): they were withdrawn
   */
  holdOperator(principal: Principal | null, end: (error: PresenceError) => void): () => void {
    if (!this.#authenticator || !principal) return () => {};
    const { toleranceMs } = this.#authenticator;
    const held = new HeldCredential({
      open: this.open,
      principal: this.open.require(principal),
      toleranceMs,
      mayGoOn: mayOperate,
      end,
    });
    return () => held.close();
  }

  /** Who a new session will speak for. */
  session(caller: Caller): SessionAccess {
    const { authorization = '' } = caller;
    const address = this.addressOf(caller);
    if (!this.#authenticator) {
      return openAccess(
        this.#presence,
        (seen) => new LimitedPresence(seen, this.limits, null, address),
        async (userId) => {
          this.limits.take('calls', null, address);
          this.limits.checkRoom();
          await this.requireKnown(userId);
        },
        () => this.limits.takeUpdate(null, address),
      );
    }
    // The dashboard's page has what its user told the browser; pages of other hosts are refused by their origin.
    const token = bearerToken(authorization) || basicPassword(authorization);
    return new GuardedAccess(this, this.#authenticator.toleranceMs, token, address);
  }

  /**
   * A valid token passes whatever others of the same address sent: only one that is not valid is refused for too many of them.
   *
   * @throws PresenceError UNAUTHORIZED (unauthenticated), RATE_LIMITED
   */
  authenticate(token: string, address: string): Principal | Promise<Principal> {
    const authenticator = this.#authenticator as Authenticator;
    const noted = (error: unknown): unknown => {
      const { code, message } = PresenceError.from(error);
      if (code === 'UNAUTHORIZED') this.audit.refused({ address }, 'authenticate', message);
      return error;
    };
    const failed = (error: unknown): never => {
      noted(error);
      this.limits.countAuthFailure(address);
      throw error;
    };
    if (token === '') throw noted(PresenceError.unauthenticated('a token is required'));
    try {
      const known = authenticator.recall(token);
      if (known) return known;
    } catch (error) {
      throw noted(error);
    }
    this.limits.checkSuspect(address);
    try {
      const principal = authenticator.authenticate(token);
      return principal instanceof Promise ? principal.catch(failed) : principal;
    } catch (error) {
      return failed(error);
    }
  }

  /**
   * A presence of its own, for a session: its principal may renew its credentials.
   *
   * @param userId whose session it is, who is the one who sees; empty: the principal sees
   */
  guard(principal: Principal, userId = ''): GuardedPresence {
    const toleranceMs = this.#authenticator?.toleranceMs ?? 0;
    const viewer = userId === '' ? viewerOf(principal) : { userId, seesAll: false };
    const presence = this.#presence.as(viewer);
    return new GuardedPresence({
      presence,
      principal,
      toleranceMs,
      policy: this.#policy,
      open: this.open,
      audit: this.audit,
    });
  }

  /**
   * Whether there is such a user, of whom a session will be.
   *
   * @param userId empty: nobody
   * @throws PresenceError INVALID_ARGUMENT, USER_NOT_FOUND, REDIS_ERROR
   */
  async requireKnown(userId: string): Promise<void> {
    if (userId === '' || !this.#directory) return;
    checkUserId(userId, 'user_id');
    await this.#directory.require([userId], userId);
  }

  #limited(principal: Principal, address: string, method: string | undefined): PresenceApi {
    if (method !== undefined) this.limits.checkHead(method, principal);
    let guarded = this.#guarded.get(principal);
    if (!guarded) {
      guarded = this.guard(principal);
      this.#guarded.set(principal, guarded);
    }
    return new LimitedPresence(guarded, this.limits, principal, address);
  }
}

/** A session's principal, known from its hello on. */
class GuardedAccess implements SessionAccess, OpenCredential {
  readonly toleranceMs: number;
  readonly #gate: Gate;
  /** Of the handshake; kept until the hello. */
  #token: string;
  /** Whose session it is; empty: one who only looks on. */
  #userId = '';
  #entered: GuardedPresence | undefined;
  #presence: PresenceApi | undefined;
  #withdrawn: (error: PresenceError) => void = () => {};
  #hasLeft = false;
  /** Of an observer session. */
  #release: () => void = () => {};
  readonly #address: string;

  constructor(gate: Gate, toleranceMs: number, token: string, address: string) {
    this.#address = address;
    this.#gate = gate;
    this.toleranceMs = toleranceMs;
    this.#token = token;
  }

  get presence(): PresenceApi {
    if (!this.#presence) throw PresenceError.unauthenticated('a token is required');
    return this.#presence;
  }

  get expiresAtMs(): number {
    return this.#entered?.principal.expiresAtMs ?? Number.POSITIVE_INFINITY;
  }

  async enter(token: string, userId: string, onWithdrawn: (error: PresenceError) => void): Promise<void> {
    const accepted = await this.#gate.authenticate(token === '' ? this.#token : token, this.#address);
    this.#token = '';
    const { open } = this.#gate;
    const principal = open.require(accepted);
    const guarded = this.#gate.guard(principal, userId);
    if (userId === '') guarded.requireRead();
    else guarded.requireUpdate(userId);
    this.#userId = userId;
    this.#entered = guarded;
    this.#withdrawn = onWithdrawn;
    // From this turn on, since keys may change while the session goes on opening.
    if (!this.#hasLeft) open.add(this);
    const { limits } = this.#gate;
    limits.take('calls', principal, this.#address);
    limits.takeConnection(principal);
    limits.checkRoom();
    if (userId === '' && !this.#hasLeft) this.#release = limits.holdOpen('observer', principal);
    await this.#gate.requireKnown(userId);
    this.#presence = new LimitedPresence(guarded, limits, principal, this.#address);
  }

  async renew(token: string): Promise<void> {
    const principal = await this.#gate.authenticate(token, this.#address);
    const entered = this.#entered as GuardedPresence;
    const before = entered.principal;
    const isAnother = principal.kind !== before.kind || principal.id !== before.id;
    const error = isAnother
      ? refused('take over a session of somebody else')
      : lessThanBefore(principal, before, this.#userId);
    if (error) {
      this.#gate.audit.refused(principal, 'authenticate in a session', error.message);
      throw error;
    }
    entered.renew(principal);
  }

  get principal(): Principal {
    return (this.#entered as GuardedPresence).principal;
  }

  credentialsChanged(principal: Principal | null): void {
    const entered = this.#entered as GuardedPresence;
    if (principal && !lessThanBefore(principal, entered.principal, this.#userId)) entered.renew(principal);
    else this.#withdrawn(withdrawn());
  }

  leave(): void {
    this.#hasLeft = true;
    this.#release();
    this.#gate.open.delete(this);
  }

  takeBytes(bytes: number): number {
    const entered = this.#entered;
    return entered ? this.#gate.limits.takeBytes(entered.principal, bytes) : 0;
  }

  countUpdate(): void {
    const { principal } = this.#entered as GuardedPresence;
    this.#gate.limits.takeUpdate(principal, this.#address);
  }
}
