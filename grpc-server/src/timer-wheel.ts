/**
 * One timer for a whole server. Deadlines, keepalive, stalls and ages of any number of connections and calls
 * are nodes in four wheels of 256 slots each (granules of 8 ms, 2 s, 9 min, 37 h); setting and cancelling
 * are O(1), and an idle connection costs one node and no timer of its own.
 *
 * A node fires at its due time or up to one granule (8 ms) plus the driver's sleep (50 ms while anything is
 * pending; less when something is due sooner) later, never before.
 *
 * When this process has stood still, what clients sent meanwhile is read before anything fires: no client is taken for
 * silent because the server was.
 */

export interface TimerTarget {
  onTimer(nowMs: number): void;
}

const GRANULE_MS = 8;
const SLOT_BITS = 8;
const SLOTS = 1 << SLOT_BITS;
const LEVELS = 4;
const MAX_SLEEP_MS = 50;

export class TimerNode {
  readonly target: TimerTarget;
  /** By the wheel's clock; meaningless while not pending. */
  dueMs = 0;
  /** The list that holds the node, and its neighbours; undefined while not pending. */
  slot: Slot | undefined;
  previous: TimerNode | undefined;
  next: TimerNode | undefined;

  constructor(target: TimerTarget) {
    this.target = target;
  }

  get pending(): boolean {
    return this.slot !== undefined;
  }
}

class Slot {
  head: TimerNode | undefined;
}

export class TimerWheel {
  private readonly now: () => number;
  private readonly onError: (error: unknown) => void;
  private readonly slots: Slot[] = [];
  /** Granules up to which everything has fired. */
  private tick: number;
  private count = 0;
  private driver: NodeJS.Timeout | undefined;
  private reading: NodeJS.Immediate | undefined;
  private wakeMs = 0;
  private advancing = false;

  constructor(now: () => number, onError: (error: unknown) => void) {
    this.now = now;
    this.onError = onError;
    this.tick = Math.floor(now() / GRANULE_MS);
    for (let i = 0; i < LEVELS * SLOTS; i++) this.slots.push(new Slot());
  }

  /** Nodes pending now. */
  get size(): number {
    return this.count;
  }

  /** (Re)arms the node for `dueMs` by the wheel's clock. */
  set(node: TimerNode, dueMs: number): void {
    this.cancel(node);
    // Nothing is pending: what passed since the last time need not be walked through.
    if (this.count === 0 && !this.advancing)
      this.tick = Math.max(this.tick, Math.floor(this.now() / GRANULE_MS));
    node.dueMs = dueMs;
    this.place(node, this.tick + 1);
    this.count++;
    this.drive(dueMs);
  }

  cancel(node: TimerNode): void {
    if (node.slot === undefined) return;
    this.unlink(node);
    this.count--;
  }

  /** Fires everything that is due at `nowMs`. The driver calls it; so may a test with its own clock. */
  advance(nowMs = this.now()): void {
    const target = Math.floor(nowMs / GRANULE_MS);
    this.advancing = true;
    while (this.tick < target && this.count > 0) {
      this.tick++;
      for (let level = LEVELS - 1; level > 0; level--) {
        const scale = SLOT_BITS * level;
        if (this.tick % 2 ** scale === 0) this.cascade(level, Math.floor(this.tick / 2 ** scale) % SLOTS);
      }
      this.fire(this.slots[this.tick % SLOTS] as Slot, nowMs);
    }
    if (this.count === 0) this.tick = target;
    this.advancing = false;
  }

  /** Stops the driver; nodes stay where they are. */
  stop(): void {
    if (this.driver !== undefined) clearTimeout(this.driver);
    this.driver = undefined;
    if (this.reading !== undefined) clearImmediate(this.reading);
    this.reading = undefined;
  }

  private place(node: TimerNode, earliest: number): void {
    // The granule that begins at or after the due time: never early.
    const due = Math.max(Math.ceil(node.dueMs / GRANULE_MS), earliest);
    const distance = due - this.tick;
    let level = 0;
    while (level < LEVELS - 1 && distance >= 2 ** (SLOT_BITS * (level + 1))) level++;
    const farthest = 2 ** (SLOT_BITS * LEVELS) - 1;
    const granule = distance > farthest ? this.tick + farthest : due;
    const slot = this.slots[level * SLOTS + (Math.floor(granule / 2 ** (SLOT_BITS * level)) % SLOTS)] as Slot;
    node.slot = slot;
    node.previous = undefined;
    node.next = slot.head;
    if (slot.head !== undefined) slot.head.previous = node;
    slot.head = node;
  }

  private unlink(node: TimerNode): void {
    if (node.previous !== undefined) node.previous.next = node.next;
    else (node.slot as Slot).head = node.next;
    if (node.next !== undefined) node.next.previous = node.previous;
    node.slot = undefined;
    node.previous = undefined;
    node.next = undefined;
  }

  /** Moves a coarse slot's nodes one level down, or wherever they belong by now. */
  private cascade(level: number, position: number): void {
    const slot = this.slots[level * SLOTS + position] as Slot;
    let node = slot.head;
    slot.head = undefined;
    while (node !== undefined) {
      const next = node.next;
      this.place(node, this.tick);
      node = next;
    }
  }

  private fire(slot: Slot, nowMs: number): void {
    for (let node = slot.head; node !== undefined; node = slot.head) {
      this.cancel(node);
      try {
        node.target.onTimer(nowMs);
      } catch (error) {
        this.onError(error);
      }
    }
  }

  private drive(dueMs: number): void {
    if (this.advancing || this.reading !== undefined) return;
    const wakeMs = Math.min(dueMs, this.now() + MAX_SLEEP_MS);
    if (this.driver !== undefined) {
      if (this.wakeMs <= wakeMs + GRANULE_MS) return;
      clearTimeout(this.driver);
    }
    this.sleepUntil(wakeMs);
  }

  private sleepUntil(wakeMs: number): void {
    this.wakeMs = wakeMs;
    const sleepMs = Math.min(MAX_SLEEP_MS, Math.max(GRANULE_MS, wakeMs - this.now()));
    this.driver = setTimeout(() => {
      this.driver = undefined;
      const nowMs = this.now();
      // The event loop looks at its sockets between its timers and its immediates.
      this.reading = setImmediate(() => {
        this.reading = undefined;
        this.advance(nowMs);
        if (this.count > 0) this.sleepUntil(this.nextWakeMs());
      });
    }, sleepMs);
    this.driver.unref();
  }

  private nextWakeMs(): number {
    const granules = MAX_SLEEP_MS / GRANULE_MS;
    for (let ahead = 1; ahead <= granules; ahead++) {
      if (this.slots[(this.tick + ahead) % SLOTS]?.head !== undefined)
        return (this.tick + ahead) * GRANULE_MS;
    }
    return this.now() + MAX_SLEEP_MS;
  }
}
