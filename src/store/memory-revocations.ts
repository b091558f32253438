import {
  maxRevocations,
  mergeRevocations,
  type Revocation,
  type RevocationAnswer,
  type RevocationStore,
  revocationKey,
  tooManyRevocations,
} from '../core/revocations.ts';

/** Revocations of the embedded engine: gone when the process ends. */
export class MemoryRevocations implements RevocationStore {
  readonly #nowMs: () => number;
  readonly #kept = new Map<string, Revocation>();
  #revision = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  async exchange(added: readonly Revocation[], knownRevision: string): Promise<RevocationAnswer> {
    if (added.length > 0) this.#forgetExpired();
    for (const revocation of added) this.#add(revocation);
    const revision = this.#revision === 0 ? '' : String(this.#revision);
    return { revision, revocations: revision === knownRevision ? undefined : [...this.#kept.values()] };
  }

  #forgetExpired(): void {
    const nowMs = this.#nowMs();
    for (const [key, { expiresAtMs }] of this.#kept) if (expiresAtMs <= nowMs) this.#kept.delete(key);
  }

  #add(revocation: Revocation): void {
    const key = revocationKey(revocation);
    if (!this.#kept.has(key) && this.#kept.size >= maxRevocations) throw tooManyRevocations();
    this.#kept.set(key, mergeRevocations(this.#kept.get(key), revocation));
    this.#revision++;
  }
}
