-- Counts a connection of a user, or renews one, and ends a running disconnect grace. The lease is left alone.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq, 6 connections
-- ARGV 1 user, 2 channel, 3 connection id, 4 life of a connection entry ms
-- Returns nothing.

local meta_key, connections_key = KEYS[2], KEYS[6]
local connection, life = ARGV[3], tonumber(ARGV[4])

redis.call('ZADD', connections_key, clock_ms() + life, connection)
-- Kept past its deadline, so that the sweeper can tell a lost node from a lease that ran out.
redis.call('PEXPIRE', connections_key, 2 * life)
redis.call('HDEL', meta_key, 'g')
