import { PresenceError } from '../../core/errors.ts';
import type { UserState } from '../../core/presence.ts';
import type { RedisTarget } from '../../core/redis-target.ts';
import type { FeedListener } from '../../core/store.ts';
import type { Log } from '../../observe/log.ts';
import { FeedLink } from './feed-link.ts';
import type { Keys } from './keys.ts';
import { decodeLogEntry, decodeMessage, type LogEntry, type UnknownEntry } from './log-entry.ts';
import type { RedisEngine } from './redis-engine.ts';

export interface FeedOptions {
  readonly target: RedisTarget;
  readonly keys: Keys;
  /** For the log and for sequence numbers; messages come on connections of the feed's own. */
  readonly engine: RedisEngine;
  /** How long a subscription may take, ms. */
  readonly timeoutMs: number;
  readonly log: Log;
  /** Writes back what this node knows of a partition that may have lost it. Rejects with REDIS_ERROR. */
  readonly beforeLoss: (partition: number) => Promise<void>;
}

export interface FeedStats {
  readonly followedPartitions: number;
  /** Followed partitions whose messages do not come just now. */
  readonly silentPartitions: number;
  readonly gapsClosed: number;
  /** Gaps that the log did not cover, because it was trimmed or Redis lost data. */
  readonly losses: number;
  /** Log entries and messages that a newer version wrote, and this one cannot read. */
  readonly unknownEntries: number;
}

/** How often followed partitions are compared with Redis, in case messages were lost without a sign. */
const verifyIntervalMs = 1000;
/** A partition not found in order for longer may be behind without our knowing. */
const currentMs = 3 * verifyIntervalMs;
/** Entries read in one piece to close a gap; a gap larger than `maxGapPieces` of them is read afresh instead. */
const gapPieceEntries = 500;
const maxGapPieces = 20;
/** Messages held while a gap is read; more are dropped and read from the log in their turn. */
const maxHeld = 10_000;

/** Types and versions of unknown entries that are named in the log. */
const maxUnknownTags = 100;

interface Followed {
  readonly channel: string;
  /** Where it is subscribed to. */
  link: FeedLink | undefined;
  /** Version up to which the listener was told; undefined until it is known where the partition stands. */
  told: number | undefined;
  /** Messages that came while the position or a gap was being read. */
  held: LogEntry[];
  reading: boolean;
  /** A message that did not continue what was told, even after the log was read; one more try, and it is dropped. */
  unconnected: LogEntry | undefined;
  /** `told` at the last verification, if Redis was ahead of it then. */
  behindAt: number | undefined;
  /** When it was last found to have told everything, by `performance.now()`. */
  verifiedMs: number;
}

/**
 * Brings transitions of followed partitions: in order, each once. Pub/sub may drop messages; every entry names the
 * version before it, so a gap is seen, and closed from the partition's log. What the log no longer has is `lost`.
 */
export class Feed {
  readonly #options: FeedOptions;
  readonly #partitions = new Map<number, Followed>();
  readonly #links = new Map<string, FeedLink>();
  #listener: FeedListener = {
    transitions: () => {},
    privacyChanged: () => {},
    lost: () => {},
  };
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #gapsClosed = 0;
  #losses = 0;
  #unknownEntries = 0;
  readonly #unknownTags = new Set<string>();

  constructor(options: FeedOptions) {
    this.#options = options;
  }

  stats(): FeedStats {
    let silentPartitions = 0;
    for (const { link, channel } of this.#partitions.values()) if (!link?.isLive(channel)) silentPartitions++;
    return {
      followedPartitions: this.#partitions.size,
      silentPartitions,
      gapsClosed: this.#gapsClosed,
      losses: this.#losses,
      unknownEntries: this.#unknownEntries,
    };
  }

  onFeed(listener: FeedListener): void {
    this.#listener = listener;
  }

  /** What the listener knows of a partition's users. */
  known(partition: number): Iterable<UserState> {
    return this.#listener.known?.(partition) ?? [];
  }

  /** A caller of this node changed a user; the message of it comes later. */
  written({ userId, version }: UserState): void {
    this.#listener.written?.(userId, version);
  }

  start(): void {
    this.#timer = setInterval(() => this.#verify(this.#partitions.keys(), 'periodic'), verifyIntervalMs);
    this.settle();
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
    this.#partitions.clear();
    for (const link of this.#links.values()) link.stop();
    this.#links.clear();
  }

  /** Resolves when every later transition will be told. Rejects with REDIS_ERROR; then the partition is not followed. */
  async follow(partition: number): Promise<void> {
    if (this.#partitions.has(partition)) return;
    const { keys, timeoutMs, engine } = this.#options;
    if (!engine.isAvailable(partition))
      throw new PresenceError(
        'REDIS_ERROR',
        `Redis is not reachable: ${engine.trouble ?? 'no reason is known'}`,
      );
    const channel = keys.channel(partition);
    const followed: Followed = {
      channel,
      link: undefined,
      told: undefined,
      held: [],
      reading: true,
      unconnected: undefined,
      behindAt: undefined,
      verifiedMs: performance.now(),
    };
    this.#partitions.set(partition, followed);
    try {
      this.#subscribe(partition, followed);
      await (followed.link as FeedLink | undefined)?.live(channel, timeoutMs);
      this.#settleAt(partition, followed, await this.#readSeq(partition));
    } catch (error) {
      if (this.#partitions.get(partition) === followed) this.unfollow(partition);
      throw PresenceError.from(error);
    }
  }

  unfollow(partition: number): void {
    const followed = this.#partitions.get(partition);
    this.#partitions.delete(partition);
    followed?.link?.unsubscribe(followed.channel);
  }

  /** Whether what was told of the partition is the truth, but for the last three seconds at most. */
  isCurrent(partition: number): boolean {
    const followed = this.#partitions.get(partition);
    return (
      followed !== undefined &&
      !followed.reading &&
      performance.now() - followed.verifiedMs < currentMs &&
      (followed.link?.isLive(followed.channel) ?? false)
    );
  }

  /** Partitions moved: has one connection to each server that holds any, and every subscription where it belongs. */
  settle(): void {
    if (this.#stopped) return;
    const { engine } = this.#options;
    const homes = new Set(engine.addresses());
    for (const address of homes) this.#linkAt(address);
    for (const [partition, followed] of this.#partitions) this.#subscribe(partition, followed);
    for (const [address, link] of this.#links) {
      if (homes.has(address)) continue;
      this.#links.delete(address);
      link.stop();
    }
  }

  /** Looks at partitions at once, since something happened to them. */
  verifyNow(partitions: Iterable<number>): void {
    this.#verify(partitions, 'resumed');
  }

  #linkAt(address: string): FeedLink {
    let link = this.#links.get(address);
    if (!link) {
      link = new FeedLink({
        ...this.#options,
        address,
        refusals: this.#options.engine.refusals,
        onResumed: (channels) => {
          const heard = new Set(channels);
          const resumed = [...this.#partitions].filter(([, { channel }]) => heard.has(channel));
          this.#verify(
            resumed.map(([partition]) => partition),
            'resumed',
          );
        },
      });
      this.#links.set(address, link);
    }
    return link;
  }

  #subscribe(partition: number, followed: Followed): void {
    const home = this.#options.engine.homeOf(partition);
    const link = home === undefined ? undefined : this.#linkAt(home);
    if (link === followed.link || link === undefined) return;
    followed.link?.unsubscribe(followed.channel);
    followed.link = link;
    link.subscribe(followed.channel, (message) => this.#receive(partition, message));
  }

  #receive(partition: number, message: string): void {
    const followed = this.#partitions.get(partition);
    if (!followed) return;
    const entry = decodeMessage(message);
    if (followed.reading) {
      if (followed.held.length < maxHeld) followed.held.push(entry);
    } else if (!this.#take(partition, followed, entry)) this.#closeGap(partition, followed, [entry]);
  }

  /** Tells the listener of an entry that continues what it knows; false: something is missing before it. */
  #take(partition: number, followed: Followed, entry: LogEntry): boolean {
    const told = followed.told as number;
    if (entry.previous === told) {
      followed.told = entry.last;
      followed.verifiedMs = performance.now();
      if (entry.unknown) this.#skip(partition, entry.unknown);
      if (entry.transitions.length > 0) this.#listener.transitions(entry.transitions);
      for (const userId of entry.privacyOf) this.#listener.privacyChanged(userId, entry.privacyNews);
      return true;
    }
    // Already read from the log, or part of what the first reading of the position covers.
    return entry.last <= told;
  }

  /** An entry that a newer node wrote. Of what this node follows, the present state is read instead. */
  #skip(partition: number, { tag, isFollowed }: UnknownEntry): void {
    this.#unknownEntries++;
    if (!this.#unknownTags.has(tag) && this.#unknownTags.size < maxUnknownTags) {
      this.#unknownTags.add(tag);
      this.#options.log.warn(
        { tag, partition },
        'log entries of a type or version that this server does not know: skipped; a newer server writes them',
      );
    }
    if (isFollowed) this.#listener.lost(partition);
  }

  /** The listener knows the partition up to `version`: tells what was held meanwhile. */
  #settleAt(partition: number, followed: Followed, version: number): void {
    followed.told = version;
    followed.reading = false;
    const held = followed.held;
    followed.held = [];
    for (const [index, entry] of held.entries()) {
      if (this.#take(partition, followed, entry)) continue;
      // Redis was asked after it came and knows nothing of it: a server that died took that history along.
      if (entry === followed.unconnected) continue;
      followed.unconnected = entry;
      this.#closeGap(partition, followed, held.slice(index));
      return;
    }
    followed.unconnected = undefined;
  }

  #closeGap(partition: number, followed: Followed, held: LogEntry[]): void {
    followed.reading = true;
    followed.held = held;
    this.#readGap(partition, followed).then(
      (version) => {
        if (this.#partitions.get(partition) === followed) this.#settleAt(partition, followed, version);
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
    const { engine, keys } = this.#options;
    const seq = await this.#readSeq(partition);
    // Being ahead means that Redis lost what we were told.
    if (seq < (followed.told as number)) return this.#reportLoss(partition);
    for (let piece = 0; piece < maxGapPieces; piece++) {
      const entries = await engine.command<[string, string[]][]>(partition, [
        'XRANGE',
        keys.log(partition),
        `(${followed.told}-0`,
        '+',
        'COUNT',
        String(gapPieceEntries),
      ]);
      if (this.#partitions.get(partition) !== followed) return 0;
      for (const raw of entries) {
        if (!this.#take(partition, followed, decodeLogEntry(raw))) return this.#reportLoss(partition);
      }
      if (entries.length === gapPieceEntries) continue;
      if ((followed.told as number) < seq) return this.#reportLoss(partition);
      this.#gapsClosed++;
      return followed.told as number;
    }
    return this.#reportLoss(partition);
  }

  async #reportLoss(partition: number): Promise<number> {
    await this.#options.beforeLoss(partition);
    const seq = await this.#readSeq(partition);
    this.#losses++;
    this.#options.log.debug({ partition }, 'transitions were missed and are not in the log: reading afresh');
    // The listener reads after this position was taken, so what it reads is at least as new.
    this.#listener.lost(partition);
    return seq;
  }

  async #readSeq(partition: number): Promise<number> {
    const { engine, keys } = this.#options;
    return Number((await engine.command<string | null>(partition, ['GET', keys.seq(partition)])) ?? 0);
  }

  #verify(partitions: Iterable<number>, occasion: 'periodic' | 'resumed'): void {
    const { engine, keys } = this.#options;
    const known = [...partitions].filter((partition) => this.#partitions.get(partition)?.told !== undefined);
    if (known.length === 0 || this.#stopped) return;
    for (const group of engine.groups(known)) {
      const args = ['MGET', ...group.map((partition) => keys.seq(partition))];
      engine.command<(string | null)[]>(group[0] as number, args).then(
        (seqs) => {
          for (const [index, partition] of group.entries()) {
            this.#verifyOne(partition, Number(seqs[index] ?? 0), occasion);
          }
        },
        // Redis is away; the next round asks again.
        () => {},
      );
    }
  }

  /**
   * A message may be on its way, so a partition is behind only if it still is, at the same place, a round later; after
   * an interruption nothing is on its way.
   */
  #verifyOne(partition: number, seq: number, occasion: 'periodic' | 'resumed'): void {
    const followed = this.#partitions.get(partition);
    if (!followed || followed.reading || followed.told === undefined) return;
    if (seq === followed.told) {
      followed.behindAt = undefined;
      followed.verifiedMs = performance.now();
    } else if (seq < followed.told || followed.behindAt === followed.told || occasion === 'resumed') {
      // Messages that were lost without a sign: the server may have dropped the subscription.
      if (followed.behindAt === followed.told) followed.link?.renew(followed.channel);
      followed.behindAt = undefined;
      this.#closeGap(partition, followed, []);
    } else {
      followed.behindAt = followed.told;
    }
  }
}
