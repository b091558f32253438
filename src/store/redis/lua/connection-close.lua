-- Takes a connection back. The last one of an ONLINE user starts the disconnect grace, or puts the light out where
-- there is none.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq, 6 connections
-- ARGV 1 user, 2 channel, 3 connection id, 4 grace ms, 5 last-seen ttl ms
-- Returns nothing.

local status_key, meta_key, deadlines_key, log_key, seq_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local connections_key = KEYS[6]
local user, channel, connection, grace, last_seen_ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local now = clock_ms()

if redis.call('ZREM', connections_key, connection) == 0 then return end
redis.call('ZREMRANGEBYSCORE', connections_key, '-inf', now)
if redis.call('ZCARD', connections_key) > 0 then return end
if redis.call('HGET', meta_key, 's') ~= ONLINE then return end

if grace > 0 then
  redis.call('HSET', meta_key, 'g', text(now + grace))
  redis.call('ZADD', deadlines_key, 'LT', now + grace, user)
  return
end
redis.call('DEL', status_key)
redis.call('ZREM', deadlines_key, user)
local previous, version = take_versions(seq_key, 1, now)
local line = put_out(meta_key, user, version, BY_DISCONNECT, now, now, last_seen_ttl)
record(log_key, channel, previous, version, { line })
