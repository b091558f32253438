-- Counts a connection of a user, or renews one, and ends a running disconnect grace. The lease is left alone.
--
-- KEYS 1 connections, 2 meta
-- ARGV 1 connection id, 2 life of a connection entry ms
-- Returns nothing.

local connections_key, meta_key = KEYS[1], KEYS[2]
local connection, life = ARGV[1], tonumber(ARGV[2])

redis.call('ZADD', connections_key, clock_ms() + life, connection)
-- Kept past its deadline, so that the sweeper can tell a lost node from a lease that ran out.
redis.call('PEXPIRE', connections_key, 2 * life)
redis.call('HDEL', meta_key, 'g')
