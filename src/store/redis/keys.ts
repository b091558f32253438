/**
 * Every key in Redis. `P` is the user's partition, `ID` the user id.
 *
 * | key | type | what | TTL |
 * |---|---|---|---|
 * | `user:status:ID` | string | `online` / `offline`: the spec's contract, readable by anyone | USER_STATUS_TTL |
 * | `user:meta:ID` | hash | `s` status, `a` activity, `c` cause, `v` version, `t` since, `u` changed at, `l` last seen, `g` disconnect grace ends, `x` signed out at, `e` deadline before an outage's extension | none while ONLINE, then LAST_SEEN_TTL |
 * | `user:connections:ID` | sorted set | connection id -> deadline ms | with the newest connection |
 * | `presence:P:deadlines` | sorted set | ONLINE user -> the earliest time worth checking, ms | none |
 * | `presence:P:log` | stream | transitions in order; `p` version before the entry, `t` transitions; id `VERSION-0` of its last one; trimmed to about 10,000 entries | none |
 * | `presence:P:seq` | string | version of the partition's last transition | none |
 * | `presence:P:sweeper` | hash | `owner` node, `until` ms, `swept` ms, `judge` ms: no lease is judged before | none |
 * | `presence:nodes` | sorted set | node id -> deadline ms | none |
 * | `presence:partitions` | string | PARTITIONS, checked at start | none |
 * | channel `presence:P` | pub/sub | the log's entries as they are written | |
 */
export const keys = {
  status: (userId: string) => `user:status:${userId}`,
  meta: (userId: string) => `user:meta:${userId}`,
  connections: (userId: string) => `user:connections:${userId}`,
  deadlines: (partition: number) => `presence:${partition}:deadlines`,
  log: (partition: number) => `presence:${partition}:log`,
  seq: (partition: number) => `presence:${partition}:seq`,
  sweeper: (partition: number) => `presence:${partition}:sweeper`,
  nodes: () => 'presence:nodes',
  partitions: () => 'presence:partitions',
  channel: (partition: number) => `presence:${partition}`,
} as const;
