-- Takes a connection back. The last one of an ONLINE user starts the disconnect grace, or puts the light out where
-- there is none.
--
-- KEYS 1 connections, 2 status, 3 meta, 4 deadlines, 5 log, 6 seq
-- ARGV 1 user, 2 connection id, 3 grace ms, 4 last-seen ttl ms, 5 channel
-- Returns nothing.

local connections_key, status_key, meta_key = KEYS[1], KEYS[2], KEYS[3]
local deadlines_key, log_key, seq_key = KEYS[4], KEYS[5], KEYS[6]
local user, connection, grace, last_seen_ttl, channel = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
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
