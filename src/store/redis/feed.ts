import { PresenceError } from '../../core/errors.ts';
import type { FeedListener } from '../../core/store.ts';
import type { Log } from '../../observe/log.ts';
import { keys } from './keys.ts';
import { type Client, newClient, type RedisConnection } from './redis-connection.ts';
import { decodeLogEntry, decodeMessage, type LogEntry } from './state-line.ts';

export interface FeedOptions {
  readonly url: string;
  readonly log: Log;
  /** For the log and for sequence numbers; messages come on a connection of the feed's own. */
  readonly commands: RedisConnection;
}

/** How often followed partitions are compared with Redis, in case messages were lost without a sign. */
const verifyIntervalMs = 1000;
/** Entries read in one piece to close a gap; a gap larger than `maxGapPieces` of them is read afresh instead. */
const gapPieceEntries = 500;
const maxGapPieces = 20;

interface Followed {
  /** Version up to which the listener was told; undefined until it is known where the partition stands. */
  told: number | undefined;
  /** Messages that came while the position or a gap was being read. */
  held: LogEntry[];
  reading: boolean;
  /** `told` at the last verification, if Redis was ahead of it then. */
  behindAt: number | undefined;
}

/**
 * Brings transitions of followed partitions: in order, each once. Pub/sub may drop messages; every entry names the
 * version before it, so a gap is seen, and closed from the partition's log. What the log no longer has is `lost`.
 */
export class Feed {
  readonly #options: FeedOptions;
  readonly #client: Client;
  readonly #partitions = new Map<number, Followed>();
  #listener: FeedListener = { transitions: () => {}, lost: () => {} };
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #gapsClosed = 0;

  constructor(options: FeedOptions) {
    this.#options = options;
    // Silence is this connection's normal state: pings show whether it lives.
    this.#client = newClient(options.url, { pingIntervalMs: 1000, socketTimeoutMs: 4000 });
    this.#client.on('error', (error: Error) => options.log.debug({ err: error }, 'feed connection failed'));
    this.#client.on('ready', () => this.#verifyAll('reconnected'));
  }

  get gapsClosed(): number {
    return this.#gapsClosed;
  }

  onFeed(listener: FeedListener): void {
    this.#listener = listener;
  }

  start(): void {
    this.#client.connect().then(
      () => {},
      // It retries for ever; a rejection means that stop() came first.
      () => {},
    );
    this.#timer = setInterval(() => this.#verifyAll('periodic'), verifyIntervalMs);
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
    this.#partitions.clear();
    if (this.#client.isOpen) this.#client.destroy();
  }

  /** Resolves when every later transition will be told. Rejects with REDIS_ERROR; then the partition is not followed. */
  async follow(partition: number): Promise<void> {
    if (this.#partitions.has(partition)) return;
    if (!this.#client.isReady) throw new PresenceError('REDIS_ERROR', 'the feed is not connected');
    const followed: Followed = { told: undefined, held: [], reading: true, behindAt: undefined };
    this.#partitions.set(partition, followed);
    try {
      await this.#client.subscribe(keys.channel(partition), (message) => this.#receive(partition, message));
      this.#settle(partition, followed, await this.#readSeq(partition));
    } catch (error) {
      if (this.#partitions.get(partition) === followed) this.unfollow(partition);
      if (error instanceof PresenceError) throw error;
      throw new PresenceError('REDIS_ERROR', 'the feed failed', { cause: error });
    }
  }

  unfollow(partition: number): void {
    if (!this.#partitions.delete(partition)) return;
    // Unsubscribing fails only with the connection, and with it the subscription is gone.
    if (this.#client.isReady) this.#client.unsubscribe(keys.channel(partition)).catch(() => {});
  }

  #receive(partition: number, message: string): void {
    const followed = this.#partitions.get(partition);
    if (!followed) return;
    const entry = decodeMessage(message);
    if (followed.reading) followed.held.push(entry);
    else if (!this.#take(followed, entry)) this.#closeGap(partition, followed, [entry]);
  }

  /** Tells the listener of an entry that continues what it knows; false: something is missing before it. */
  #take(followed: Followed, entry: LogEntry): boolean {
    const told = followed.told as number;
    if (entry.previous === told) {
      followed.told = entry.last;
      this.#listener.transitions(entry.transitions);
      return true;
    }
    // Already read from the log, or part of what the first reading of the position covers.
    return entry.last <= told;
  }

  /** The listener knows the partition up to `version`: tells what was held meanwhile. */
  #settle(partition: number, followed: Followed, version: number): void {
    followed.told = version;
    followed.reading = false;
    const held = followed.held;
    followed.held = [];
    for (const [index, entry] of held.entries()) {
      if (this.#take(followed, entry)) continue;
      this.#closeGap(partition, followed, held.slice(index));
      return;
    }
  }

  #closeGap(partition: number, followed: Followed, held: LogEntry[]): void {
    followed.reading = true;
    followed.held = held;
    this.#readGap(partition, followed).then(
      (version) => {
        if (this.#partitions.get(partition) === followed) this.#settle(partition, followed, version);
      },
      (error: unknown) => {
        // Redis is away again: what was held is in its log, and verifying begins anew when it is back.
        this.#options.log.debug({ err: error, partition }, 'feed gap not closed yet');
        followed.held = [];
        followed.reading = false;
      },
    );
  }

  /** Tells what the log has after `told`; where it does not reach back, reports the loss. Answers the new position. */
  async #readGap(partition: number, followed: Followed): Promise<number> {
    const { commands } = this.#options;
    const seq = await this.#readSeq(partition);
    // Being ahead means that Redis lost what we were told.
    if (seq < (followed.told as number)) return this.#reportLoss(partition);
    for (let piece = 0; piece < maxGapPieces; piece++) {
      const entries = await commands.command<[string, string[]][]>([
        'XRANGE',
        keys.log(partition),
        `(${followed.told}-0`,
        '+',
        'COUNT',
        String(gapPieceEntries),
      ]);
      if (this.#partitions.get(partition) !== followed) return 0;
      for (const raw of entries) {
        if (!this.#take(followed, decodeLogEntry(raw))) return this.#reportLoss(partition);
      }
      if (entries.length === gapPieceEntries) continue;
      if ((followed.told as number) < seq) return this.#reportLoss(partition);
      this.#gapsClosed++;
      return followed.told as number;
    }
    return this.#reportLoss(partition);
  }

  async #reportLoss(partition: number): Promise<number> {
    const seq = await this.#readSeq(partition);
    this.#options.log.warn({ partition }, 'transitions were missed and are not in the log: reading afresh');
    // The listener reads after this position was taken, so what it reads is at least as new.
    this.#listener.lost(partition);
    return seq;
  }

  async #readSeq(partition: number): Promise<number> {
    return Number((await this.#options.commands.command<string | null>(['GET', keys.seq(partition)])) ?? 0);
  }

  #verifyAll(occasion: 'periodic' | 'reconnected'): void {
    if (this.#partitions.size === 0 || this.#stopped || !this.#options.commands.available) return;
    const partitions = [...this.#partitions.keys()];
    this.#options.commands
      .command<(string | null)[]>(['MGET', ...partitions.map((partition) => keys.seq(partition))])
      .then(
        (seqs) => {
          for (const [index, partition] of partitions.entries()) {
            this.#verify(partition, Number(seqs[index] ?? 0), occasion);
          }
        },
        // Redis is away; the next round asks again.
        () => {},
      );
  }

  /**
   * A message may be on its way, so a partition is behind only if it still is, at the same place, a round later; after
   * a reconnection nothing is on its way.
   */
  #verify(partition: number, seq: number, occasion: 'periodic' | 'reconnected'): void {
    const followed = this.#partitions.get(partition);
    if (!followed || followed.reading || followed.told === undefined) return;
    if (seq === followed.told) {
      followed.behindAt = undefined;
    } else if (seq < followed.told || followed.behindAt === followed.told || occasion === 'reconnected') {
      followed.behindAt = undefined;
      this.#closeGap(partition, followed, []);
    } else {
      followed.behindAt = followed.told;
    }
  }
}
