import type { Histogram } from './measure.ts';

/** What the Redis engine measures of itself, since its start or now. */
export interface RedisStats {
  /** From sending a command to its reply, seconds. */
  readonly commandSeconds: Histogram;
  /** Commands that failed or got no reply in time. */
  readonly errors: number;
  /** How often Redis, or the way to it, said no, by code. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Commands that await their reply now. */
  readonly inFlight: number;
  /** One round of judging what is due, seconds. */
  readonly sweepSeconds: Histogram;
  /** Partitions that this node sweeps now. */
  readonly ownedPartitions: number;
  /** Whether live nodes have different USER_STATUS_TTL. */
  readonly hasMixedTtls: boolean;
  /** Gaps in the feed that were closed from the log. */
  readonly gapsClosed: number;
  /** Log entries and messages that a newer server wrote, and this one skipped. */
  readonly unknownEntries: number;
  /** Followed partitions whose messages do not come now. */
  readonly silentPartitions: number;
}
