import {
  maxRevocations,
  type Revocation,
  type RevocationAnswer,
  type RevocationStore,
  revocationKey,
  tooManyRevocations,
} from '../../core/revocations.ts';
import type { Keys } from './keys.ts';
import type { RedisEngine } from './redis-engine.ts';
import { scripts } from './scripts.ts';

/** Revocations in one hash, which every node reads. */
export class RedisRevocations implements RevocationStore {
  readonly #engine: RedisEngine;
  readonly #keys: Keys;

  constructor(engine: RedisEngine, keys: Keys) {
    this.#engine = engine;
    this.#keys = keys;
  }

  async exchange(added: readonly Revocation[], knownRevision: string): Promise<RevocationAnswer> {
    const answer = await this.#engine.run<[string, string[] | undefined] | null>(
      0,
      scripts.revocations,
      [this.#keys.revocations()],
      [
        knownRevision,
        String(maxRevocations),
        ...added.flatMap((it) => [revocationKey(it), String(it.revokedAtMs), String(it.expiresAtMs)]),
      ],
    );
    if (!answer) throw tooManyRevocations();
    const [revision, fields] = answer;
    return { revision, revocations: fields && parse(fields) };
  }
}

/** Of a newer version's fields only those that this one knows. */
function parse(fields: readonly string[]): Revocation[] {
  const revocations: Revocation[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const [, kind, id] = /^(user|token):(.+)$/s.exec(fields[i] as string) ?? [];
    const [, revokedAt, expires] = /^(\d+):(\d+)$/.exec(fields[i + 1] as string) ?? [];
    if (id === undefined || expires === undefined) continue;
    revocations.push({
      kind: kind as Revocation['kind'],
      id,
      revokedAtMs: Number(revokedAt),
      expiresAtMs: Number(expires),
    });
  }
  return revocations;
}
