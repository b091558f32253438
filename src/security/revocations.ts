import { PresenceError } from '../core/errors.ts';
import type { Principal } from '../core/principal.ts';
import {
  isRevoked,
  mergeRevocations,
  type Revocation,
  type RevocationRequest,
  type RevocationStore,
  revocationKey,
} from '../core/revocations.ts';
import { checkUserId, hasForbiddenCharacter, utf8Length } from '../core/user-id.ts';
import type { Log } from '../observe/log.ts';

export interface RevocationsOptions {
  readonly store: RevocationStore;
  readonly log: Log;
  /** How often other nodes' revocations are asked for, ms; default 1,000. */
  readonly intervalMs?: number;
}

const defaultKeepMs = 86_400_000;
const maxKeepMs = 30 * defaultKeepMs;
const maxTokenIdBytes = 256;

/** Tokens that are refused before they expire, as all nodes know them within one interval. */
export class Revocations {
  readonly #options: RevocationsOptions;
  #known = new Map<string, Revocation>();
  #revision = '';
  #onChange: () => void = () => {};
  #timer: NodeJS.Timeout | undefined;
  #exchanging: Promise<void> | undefined;
  #isFailing = false;

  constructor(options: RevocationsOptions) {
    this.#options = options;
  }

  /** Called when other tokens are refused than before; set once. Must not throw. */
  onChange(listener: () => void): void {
    this.#onChange = listener;
  }

  /** Resolves when the engine's revocations are known, or cannot be had now. */
  async start(): Promise<void> {
    await this.#look();
    this.#timer = setInterval(() => void this.#look(), this.#options.intervalMs ?? 1000).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  has(principal: Principal): boolean {
    return isRevoked(this.#known, principal, Date.now());
  }

  /**
   * Refuses tokens on all nodes, on this one at once.
   *
   * @returns until when they are refused, Unix ms
   * @throws PresenceError INVALID_ARGUMENT, RATE_LIMITED: no more can be kept, REDIS_ERROR
   */
  async revoke({ userId, tokenId, keepForMs }: RevocationRequest): Promise<number> {
    if ((userId === '') === (tokenId === '')) {
      throw PresenceError.invalidArgument('user_id', 'or token_id must be given, and not both');
    }
    if (userId !== '') checkUserId(userId, 'user_id');
    else if (utf8Length(tokenId) > maxTokenIdBytes || hasForbiddenCharacter(tokenId)) {
      throw PresenceError.invalidArgument(
        'token_id',
        `must have at most ${maxTokenIdBytes} bytes and no control characters`,
      );
    }
    if (!Number.isInteger(keepForMs) || keepForMs < 0 || keepForMs > maxKeepMs) {
      throw PresenceError.invalidArgument('keep_for_ms', `must be 0 to ${maxKeepMs}`);
    }
    const revokedAtMs = Date.now();
    const expiresAtMs = revokedAtMs + (keepForMs || defaultKeepMs);
    const kind = userId === '' ? 'token' : 'user';
    await this.#exchange([{ kind, id: userId || tokenId, revokedAtMs, expiresAtMs }]);
    return expiresAtMs;
  }

  #look(): Promise<void> {
    this.#exchanging ??= this.#lookOnce().finally(() => {
      this.#exchanging = undefined;
    });
    return this.#exchanging;
  }

  async #lookOnce(): Promise<void> {
    const { log } = this.#options;
    try {
      const missing = await this.#exchange([]);
      // An engine that lost its data gets back what is known here.
      if (missing.length > 0) await this.#exchange(missing);
      if (this.#isFailing) log.info('reading revoked tokens from the engine again');
      this.#isFailing = false;
    } catch (error) {
      if (!this.#isFailing) log.warn({ err: error }, 'cannot read revoked tokens; using those known so far');
      this.#isFailing = true;
    }
  }

  /** @returns those known here that the engine does not have */
  async #exchange(added: readonly Revocation[]): Promise<Revocation[]> {
    const { revision, revocations } = await this.#options.store.exchange(added, this.#revision);
    this.#revision = revision;
    if (!revocations) return [];
    const nowMs = Date.now();
    const kept = new Map(revocations.map((it) => [revocationKey(it), it]));
    const missing: Revocation[] = [];
    for (const [key, known] of this.#known) {
      if (known.expiresAtMs <= nowMs) continue;
      if (!kept.has(key)) missing.push(known);
      kept.set(key, mergeRevocations(kept.get(key), known));
    }
    this.#known = kept;
    this.#onChange();
    return missing;
  }
}
