-- Takes a connection back. The last one of an ONLINE user starts the disconnect grace, or puts the light out where there is
-- none; one of several leaves the activity that the others say.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq, 6 connections, 7 details
-- ARGV 1 user, 2 channel, 3 lease ms, 4 connection id, 5 grace ms, 6 last-seen ttl ms
-- Returns the state line of a transition, else nothing.

local status_key, meta_key, deadlines_key, log_key, seq_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local connections_key, details_key = KEYS[6], KEYS[7]
local user, channel, ttl, id, grace, last_seen_ttl = unpack(ARGV)
ttl, grace = tonumber(ttl), tonumber(grace)
local now = clock_ms()

local counts = load_counts(connections_key, details_key, now, ttl)
if not remove_connection(connections_key, details_key, id, counts) then return end
forget_dead(connections_key, details_key, now, counts)
save_counts(details_key, counts, ttl)
if redis.call('HGET', meta_key, 's') ~= ONLINE then return end
if redis.call('ZCARD', connections_key) > 0 then
  return settle(KEYS, user, BY_DISCONNECT, false, ttl, now, channel)
end

if grace > 0 then
  redis.call('HSET', meta_key, 'g', text(now + grace))
  local check_at = math.min(check_time(deadlines_key, user) or now + grace, now + grace)
  redis.call('ZADD', deadlines_key, place_with_more(check_at), user)
  return
end
redis.call('DEL', status_key)
redis.call('ZREM', deadlines_key, user)
local previous, version = take_versions(seq_key, 1, now)
local line = put_out(meta_key, user, version, BY_DISCONNECT, now, now, last_seen_ttl)
record(log_key, channel, previous, version, { line }, STATES)
return line
