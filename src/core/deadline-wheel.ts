/**
 * Many deadlines, few timers: a ring of slots, each a short span of time, visited in order.
 *
 * A deadline is looked at again when its slot comes, never moved before: an owner that renews keeps its old place and
 * answers, when visited, that it is not due yet. So renewing costs nothing here, however often it happens.
 */
export class DeadlineWheel {
  readonly #slots: string[][];
  readonly #slotMs: number;
  /** Number of the slot (time / slotMs) up to which everything was visited. */
  #visited: number;
  #size = 0;

  /**
   * @param slotMs span of one slot, ms: how late a visit can be by the wheel's own doing
   * @param slotCount slots; a deadline further than all of them is looked at early, and again
   */
  constructor(startMs: number, slotMs: number, slotCount: number) {
    this.#slotMs = slotMs;
    this.#slots = Array.from({ length: slotCount }, () => []);
    this.#visited = Math.floor(startMs / slotMs);
  }

  /** Entries in the wheel; one key may have several. */
  get size(): number {
    return this.#size;
  }

  /**
   * Has `key` visited at the first advance at or after `atMs`, or earlier where that is beyond the ring.
   *
   * @returns the time of that visit, ms
   */
  schedule(key: string, atMs: number): number {
    const furthest = this.#visited + this.#slots.length;
    const slot = Math.min(Math.max(Math.ceil(atMs / this.#slotMs), this.#visited + 1), furthest);
    (this.#slots[slot % this.#slots.length] as string[]).push(key);
    this.#size++;
    return slot * this.#slotMs;
  }

  /** Takes out and visits every key whose slot has come; `visit` may schedule again. */
  advance(nowMs: number, visit: (key: string) => void): void {
    const target = Math.floor(nowMs / this.#slotMs);
    // After a long pause one round takes every slot; more rounds would find nothing.
    const last = Math.min(target, this.#visited + this.#slots.length);
    const due: string[][] = [];
    for (let slot = this.#visited + 1; slot <= last; slot++) {
      const index = slot % this.#slots.length;
      const keys = this.#slots[index] as string[];
      if (keys.length === 0) continue;
      this.#slots[index] = [];
      this.#size -= keys.length;
      due.push(keys);
    }
    this.#visited = Math.max(target, this.#visited);
    for (const keys of due) for (const key of keys) visit(key);
  }
}
