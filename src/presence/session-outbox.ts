import type { SessionLink, SessionMessage } from './session-messages.ts';
import type { WatchEvent } from './subscription.ts';

/** Events that may wait for the end of the turn; the hub keeps the rest, one state for each user. */
const maxBatchEvents = 512;

/** Whose outbox it is. */
export interface OutboxOwner {
  /** Monotonic; for local waits only. */
  nowMs(): number;
  /** Wants `flush` to be called at the end of the turn. */
  flushLater(): void;
  /** The client does not read: it is not to be read from either. */
  linkFull(): void;
  /** The hub, which was told to hold events back, may go on. */
  roomForEvents(): void;
}

/** What leaves a session: answers at once, events in batches, one per turn, as long as the client reads. */
export class SessionOutbox {
  readonly #owner: OutboxOwner;
  readonly #link: SessionLink;
  #batch: WatchEvent[] | undefined;
  #isFull = false;
  #isHubHeld = false;
  #fullSinceMs = 0;
  /** Whoever waits for room in the link, or for all events to have left. */
  #onProgress: (() => void) | undefined;

  constructor(owner: OutboxOwner, link: SessionLink) {
    this.#owner = owner;
    this.#link = link;
  }

  /** Whether the link takes nothing more. */
  get isFull(): boolean {
    return this.#isFull;
  }

  get fullSinceMs(): number {
    return this.#fullSinceMs;
  }

  /** Whether events wait. */
  get hasEvents(): boolean {
    return this.#batch !== undefined;
  }

  /** What is not an event also counts against the link: a client that does not read is not read from. */
  tell(message: SessionMessage): void {
    if (this.#link.send(message) || this.#isFull) return;
    this.#isFull = true;
    this.#fullSinceMs = this.#owner.nowMs();
    this.#owner.linkFull();
  }

  /** Takes an event for the next batch. false: enough for now, until `roomForEvents`. */
  add(event: WatchEvent): boolean {
    if (this.#batch === undefined) {
      this.#batch = [event];
      if (!this.#isFull) this.#owner.flushLater();
    } else {
      this.#batch.push(event);
    }
    const hasRoom = !this.#isFull && this.#batch.length < maxBatchEvents;
    if (!hasRoom) this.#isHubHeld = true;
    return hasRoom;
  }

  /** The link has room again. */
  drained(): void {
    this.#isFull = false;
  }

  flush(): void {
    while (this.#batch !== undefined && !this.#isFull) {
      const events = this.#batch;
      this.#batch = undefined;
      this.tell({ kind: 'events', events });
      if (!this.#isFull) this.#releaseHub();
    }
    if (!this.#isFull) this.#releaseHub();
    this.#wake();
  }

  /** Resolves with the next flush, or when everything is dropped. */
  progress(): Promise<void> {
    return new Promise((resolve) => {
      this.#onProgress = resolve;
    });
  }

  /** Forgets what waits. */
  drop(): void {
    this.#batch = undefined;
    this.#wake();
  }

  #releaseHub(): void {
    if (!this.#isHubHeld) return;
    this.#isHubHeld = false;
    this.#owner.roomForEvents();
  }

  #wake(): void {
    const onProgress = this.#onProgress;
    this.#onProgress = undefined;
    onProgress?.();
  }
}
