/** A body of which something is still to come. */
export interface Reservation {
  /** The body has come, or never will. Called any number of times. */
  release(): void;
}

interface Body {
  readonly bytes: number;
  readonly drop: () => void;
}

/**
 * Memory for bodies that are not complete, shared among callers: when it is used up, the caller who has reserved most
 * loses its unfinished ones.
 */
export class BodyBudget {
  readonly #maxBytes: number;
  readonly #bodies = new Map<string, Set<Body>>();
  readonly #bytesOf = new Map<string, number>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Reserved at this time. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Room for a body, whatever has come of it.
   *
   * @param caller whose it is
   * @param drop ends its request, if others need the room
   * @returns undefined: there is none, and nobody has more than this caller
   */
  reserve(caller: string, bytes: number, drop: () => void): Reservation | undefined {
    while (this.#bytes + bytes > this.#maxBytes) {
      const [largest, most] = this.#largest();
      if (largest === undefined || most <= (this.#bytesOf.get(caller) ?? 0) + bytes) return undefined;
      this.#drop(largest);
    }
    const body = { bytes, drop };
    const bodies = this.#bodies.get(caller) ?? new Set();
    this.#bodies.set(caller, bodies.add(body));
    this.#count(caller, bytes);
    return { release: () => this.#release(caller, body) };
  }

  #largest(): [caller: string | undefined, bytes: number] {
    let largest: string | undefined;
    let most = 0;
    for (const [caller, bytes] of this.#bytesOf) {
      if (bytes <= most) continue;
      largest = caller;
      most = bytes;
    }
    return [largest, most];
  }

  #drop(caller: string): void {
    for (const body of [...(this.#bodies.get(caller) ?? [])]) {
      this.#release(caller, body);
      body.drop();
    }
  }

  #release(caller: string, body: Body): void {
    const bodies = this.#bodies.get(caller);
    if (!bodies?.delete(body)) return;
    if (bodies.size === 0) this.#bodies.delete(caller);
    this.#count(caller, -body.bytes);
  }

  #count(caller: string, bytes: number): void {
    this.#bytes += bytes;
    const left = (this.#bytesOf.get(caller) ?? 0) + bytes;
    if (left === 0) this.#bytesOf.delete(caller);
    else this.#bytesOf.set(caller, left);
  }
}
