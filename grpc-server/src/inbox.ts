/** Request messages on their way to a streaming handler, pushed or pulled. Nothing is decoded before it is taken. */

/** What a waiting message costs beside its bytes. */
const ENTRY_OVERHEAD_BYTES = 256;

export interface InboxSink {
  /** Throws GrpcError. */
  decode(message: Buffer): unknown;
  /** What could not be decoded ends the call. */
  fail(error: unknown): void;
  /** A message that waited was taken. */
  taken(): void;
  /** Accounts for memory (given back by a negative number); false: no more may be held. */
  hold(bytes: number): boolean;
}

interface Puller {
  resolve(result: IteratorResult<unknown>): void;
  reject(error: unknown): void;
}

export class Inbox {
  /** Size of the messages that nobody has taken: window that is not returned. */
  heldBytes = 0;
  private entries: Buffer[] = [];
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
  private readonly sink: InboxSink;

  /** `onListenerError`: what listeners throw. */
  constructor(onListenerError: (error: unknown) => void, sink: InboxSink) {
    this.onListenerError = onListenerError;
    this.sink = sink;
  }

  /** `message` is valid only during the call. False: nobody takes the messages, and no more may wait. */
  add(message: Buffer): boolean {
    if (this.aborted) return true;
    if (this.entries.length === 0 && this.isWanted && !this.delivering) {
      this.delivering = true;
      this.hand(message);
      this.delivering = false;
      return true;
    }
    // A slice of the pool would keep all of it.
    const kept = Buffer.allocUnsafeSlow(message.length);
    message.copy(kept);
    this.entries.push(kept);
    this.heldBytes += kept.length;
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
      this.sink.taken();
      try {
        return Promise.resolve({ done: false, value: this.sink.decode(entry) });
      } catch (error) {
        this.sink.fail(error);
        return Promise.reject(error);
      }
    }
    if (this.aborted && this.abortError !== undefined) return Promise.reject(this.abortError);
    if (this.aborted || this.ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => this.pullers.push({ resolve, reject }));
  }

  private take(): Buffer | undefined {
    const entry = this.entries.shift();
    if (entry !== undefined) this.heldBytes -= entry.length;
    return entry;
  }

  private account(): boolean {
    const bytes = this.heldBytes + this.entries.length * ENTRY_OVERHEAD_BYTES;
    if (bytes === this.accountedBytes) return true;
    if (!this.sink.hold(bytes - this.accountedBytes)) return false;
    this.accountedBytes = bytes;
    return true;
  }

  private deliver(): void {
    if (this.delivering || this.aborted) return;
    this.delivering = true;
    while (this.entries.length > 0 && this.isWanted) {
      this.hand(this.take() as Buffer);
      this.sink.taken();
    }
    this.delivering = false;
    this.account();
    if (!this.ended || this.entries.length > 0 || this.endDelivered) return;
    for (const puller of this.pullers.splice(0)) puller.resolve({ done: true, value: undefined });
    if (this.endListener === undefined || this.paused) return;
    this.endDelivered = true;
    this.call(this.endListener);
  }

  private get isWanted(): boolean {
    return !this.paused && !this.aborted && (this.listener !== undefined || this.pullers.length > 0);
  }

  /** Decodes a message and gives it to the one that waits for it. */
  private hand(bytes: Buffer): void {
    let message: unknown;
    try {
      message = this.sink.decode(bytes);
    } catch (error) {
      this.sink.fail(error);
      return;
    }
    const puller = this.pullers.shift();
    if (puller !== undefined) puller.resolve({ done: false, value: message });
    else this.call(() => this.listener?.(message));
  }

  private call(listener: () => void): void {
    try {
      listener();
    } catch (error) {
      this.onListenerError(error);
    }
  }
}
