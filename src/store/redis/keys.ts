/**
 * Every key in Redis. `P` is the user's partition, `ID` the user id.
 *
 * | key | type | what | TTL |
 * |---|---|---|---|
 * | `user:status:ID` | string | `online` / `offline`: the spec's contract, readable by anyone | USER_STATUS_TTL |
 * | `user:meta:ID` | hash | `s` status, `a` activity, `c` cause, `v` version, `t` since, `u` changed at, `l` last seen, `g` disconnect grace ends, `x` signed out at, `e` deadline before an outage's extension, `q` activity that SetUserStatus gave, `y` custom statuses, `p` version of the privacy, `r` version that it was restored from, `o` version at which it was taken back, `w` came online at, restored | none while ONLINE or with `p`, else LAST_SEEN_TTL |
 * | `user:privacy:ID` | string | what the user hides, and from whom: version, then JSON; absent without `p` in meta | none |
 * | `user:connections:ID` | sorted set | connection id -> deadline ms | with the newest connection |
 * | `user:details:ID` | hash | connection id -> kind, device, activity, since, node; and counts of them all, in the field 0x1F | with the newest connection |
 * | `presence:P:deadlines` | sorted set | ONLINE user -> the earliest time worth checking, ms; below zero where meta has more to say then than the lease (`g`, `e`) | none |
 * | `presence:P:returns` | sorted set | user -> when the custom status expires, ms | none |
 * | `presence:P:log` | stream | transitions in order; `p` version before the entry, `t` what it says, a line each; `k` type and version of that; id `VERSION-0` of its last one; trimmed to about 10,000 entries and by `EVENT_LOG_MAX_AGE` | none |
 * | `presence:P:seq` | string | version of the partition's last transition | none |
 * | `presence:P:sweeper` | hash | `owner` node, `until` ms, `swept` ms: when a node last asked for it, `judge` ms: no lease is judged before, `resumed` ms: when the last outage was over, `back` ms: how far the clock went back, until leases are counted anew; `epoch`: another one means that the partition's data went; `opens` ms: nobody is set online before | none |
 * | `user:directory` | set | users that there are, kept by the application; named by USER_DIRECTORY_KEY | yours |
 * | `presence:nodes` | sorted set | node id -> deadline ms | none |
 * | `presence:leases` | hash | live node -> its USER_STATUS_TTL, ms | none |
 * | `presence:evicted:NODE` | list | notes for a node: connections to close, users to forget | 1 min |
 * | `presence:report:NODE` | string | what a node tells the others of itself, JSON | 5 s |
 * | `presence:revocations` | hash | `user:ID` or `token:JTI` -> revoked at ms, expires ms; `@` revision | with the last to expire |
 * | `presence:partitions` | string | PARTITIONS, checked at start | none |
 * | channel `presence:P` | sharded pub/sub | the log's entries as they are written | |
 *
 * REDIS_PREFIX goes before each. In Cluster the partition goes before each as a hash tag, so that one script may touch
 * all of a partition's keys: `{17}user:status:ID`, with REDIS_PREFIX `app:` it is `app:{17}user:status:ID`. The keys
 * without a partition are with partition 0.
 */
export class Keys {
  readonly #partitionOf: (userId: string) => number;
  readonly #prefix: string;
  readonly #tagged: boolean;
  /** What each partition's keys begin with. */
  readonly #starts: readonly string[];

  /** @param tagged whether keys carry their partition as a hash tag, for Cluster */
  constructor(options: {
    readonly prefix: string;
    readonly tagged: boolean;
    readonly partitions: number;
    readonly partitionOf: (userId: string) => number;
  }) {
    const { prefix, tagged, partitions } = options;
    this.#partitionOf = options.partitionOf;
    this.#prefix = prefix;
    this.#tagged = tagged;
    this.#starts = Array.from({ length: partitions }, (_, p) => (tagged ? `${prefix}{${p}}` : prefix));
  }

  status(userId: string): string {
    return `${this.#startOf(userId)}user:status:${userId}`;
  }

  meta(userId: string): string {
    return `${this.#startOf(userId)}user:meta:${userId}`;
  }

  privacy(userId: string): string {
    return `${this.#startOf(userId)}user:privacy:${userId}`;
  }

  connections(userId: string): string {
    return `${this.#startOf(userId)}user:connections:${userId}`;
  }

  details(userId: string): string {
    return `${this.#startOf(userId)}user:details:${userId}`;
  }

  deadlines(partition: number): string {
    return `${this.#starts[partition]}presence:${partition}:deadlines`;
  }

  returns(partition: number): string {
    return `${this.#starts[partition]}presence:${partition}:returns`;
  }

  log(partition: number): string {
    return `${this.#starts[partition]}presence:${partition}:log`;
  }

  seq(partition: number): string {
    return `${this.#starts[partition]}presence:${partition}:seq`;
  }

  sweeper(partition: number): string {
    return `${this.#starts[partition]}presence:${partition}:sweeper`;
  }

  channel(partition: number): string {
    return `${this.#starts[partition]}presence:${partition}`;
  }

  /** A set that the application keeps. */
  directory(key: string): string {
    return `${this.#starts[0]}${key}`;
  }

  nodes(): string {
    return `${this.#starts[0]}presence:nodes`;
  }

  leases(): string {
    return `${this.#starts[0]}presence:leases`;
  }

  evicted(nodeId: string): string {
    return `${this.#starts[0]}presence:evicted:${nodeId}`;
  }

  report(nodeId: string): string {
    return `${this.#starts[0]}presence:report:${nodeId}`;
  }

  revocations(): string {
    return `${this.#starts[0]}presence:revocations`;
  }

  partitions(): string {
    return `${this.#starts[0]}presence:partitions`;
  }

  /** Glob that every status key matches, and few others. */
  get statusPattern(): string {
    return `${this.#prefix}${this.#tagged ? '{*}' : ''}user:status:*`;
  }

  /** Whose status key this is; undefined = it is none. */
  userOfStatusKey(key: string): string | undefined {
    const mark = 'user:status:';
    const at = key.indexOf(mark, this.#prefix.length);
    const userId = at === -1 ? undefined : key.slice(at + mark.length);
    return userId !== undefined && userId !== '' && this.status(userId) === key ? userId : undefined;
  }

  /** What the keys of users of a partition begin with. */
  startOf(partition: number): string {
    return this.#starts[partition] as string;
  }

  #startOf(userId: string): string {
    return this.#starts[this.#partitionOf(userId)] as string;
  }
}
