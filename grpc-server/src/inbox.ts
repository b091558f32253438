/** Decoded request messages on their way to a streaming handler, pushed or pulled. */

/** What a waiting message costs beside its bytes: the entry, the decoded object. */
const ENTRY_OVERHEAD_BYTES = 256;

interface Entry {
  readonly message: unknown;
  readonly bytes: number;
}

interface Puller {
  resolve(result: IteratorResult<unknown>): void;
  reject(error: unknown): void;
}

export class Inbox {
  /** Framed size of the messages that nobody has taken: window that is not returned. */
  heldBytes = 0;
  private entries: Entry[] = [];
  private ended = false;
  private endDelivered = false;
  private aborted = false;
  private abortError: unknown = undefined;
  private paused = false;
  private delivering = false;
  private listener: ((message: unknown) => void) | undefined = undefined;
  private endListener: (() => void) | undefined = undefined;
  private pullers: Puller[] = [];
  /** What `hold` was told of the waiting messages. */
  private accountedBytes = 0;
  private readonly onListenerError: (error: unknown) => void;
  private readonly onTaken: () => void;
  private readonly hold: (bytes: number) => boolean;

  /** `hold` accounts for memory (it may be given back by a negative number); false: no more may be held. */
  constructor(
    onListenerError: (error: unknown) => void,
    onTaken: () => void,
    hold: (bytes: number) => boolean,
  ) {
    this.onListenerError = onListenerError;
    this.onTaken = onTaken;
    this.hold = hold;
  }

  /** False: nobody takes the messages, and no more may wait. */
  add(message: unknown, bytes: number): boolean {
    if (this.aborted) return true;
    this.entries.push({ message, bytes });
    this.heldBytes += bytes;
    this.deliver();
    return this.account();
  }

  end(): void {
    this.ended = true;
    this.deliver();
  }

  /** The call is over. Without an error, pulling ends; with one, it throws. */
  abort(error: unknown): void {
    if (this.aborted) return;
    this.aborted = true;
    this.abortError = error;
    this.entries = [];
    this.heldBytes = 0;
    this.account();
    this.listener = undefined;
    this.endListener = undefined;
    const pullers = this.pullers;
    this.pullers = [];
    for (const puller of pullers) {
      if (error === undefined || this.ended) puller.resolve({ done: true, value: undefined });
      else puller.reject(error);
    }
  }

  onMessage(listener: (message: unknown) => void): void {
    this.listener = listener;
    this.deliver();
  }

  onEnd(listener: () => void): void {
    this.endListener = listener;
    this.deliver();
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.deliver();
  }

  iterate(): AsyncIterator<unknown> {
    return {
      next: () => this.pull(),
      return: async () => ({ done: true, value: undefined }),
    };
  }

  private pull(): Promise<IteratorResult<unknown>> {
    const entry = this.take();
    if (entry !== undefined) {
      this.account();
      this.onTaken();
      return Promise.resolve({ done: false, value: entry.message });
    }
    if (this.aborted && this.abortError !== undefined) return Promise.reject(this.abortError);
    if (this.aborted || this.ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => this.pullers.push({ resolve, reject }));
  }

  private take(): Entry | undefined {
    const entry = this.entries.shift();
    if (entry !== undefined) this.heldBytes -= entry.bytes;
    return entry;
  }

  private account(): boolean {
    const bytes = this.heldBytes + this.entries.length * ENTRY_OVERHEAD_BYTES;
    if (bytes === this.accountedBytes) return true;
    if (!this.hold(bytes - this.accountedBytes)) return false;
    this.accountedBytes = bytes;
    return true;
  }

  private deliver(): void {
    if (this.delivering || this.aborted) return;
    this.delivering = true;
    while (
      this.entries.length > 0 &&
      !this.paused &&
      (this.listener !== undefined || this.pullers.length > 0)
    ) {
      const entry = this.take() as Entry;
      const puller = this.pullers.shift();
      if (puller !== undefined) puller.resolve({ done: false, value: entry.message });
      else this.call(() => this.listener?.(entry.message));
      this.onTaken();
    }
    this.delivering = false;
    this.account();
    if (!this.ended || this.entries.length > 0 || this.endDelivered) return;
    for (const puller of this.pullers.splice(0)) puller.resolve({ done: true, value: undefined });
    if (this.endListener === undefined || this.paused) return;
    this.endDelivered = true;
    this.call(this.endListener);
  }

  private call(listener: () => void): void {
    try {
      listener();
    } catch (error) {
      this.onListenerError(error);
    }
  }
}
