-- Says what activity a connection has; one that is not known is ignored.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq, 6 connections, 7 details
-- ARGV 1 user, 2 channel, 3 lease ms, 4 connection id, 5 activity
-- Returns the state line, false for a user never heard of.

local connections_key, details_key = KEYS[6], KEYS[7]
local user, channel, ttl, id, activity = unpack(ARGV)
ttl = tonumber(ttl)
local now = clock_ms()

local line = redis.call('HGET', details_key, id)
if line then
  local changed = string.gsub(line, '^(%d\31[^\31]*\31)%d', '%1' .. activity)
  local counts = load_counts(connections_key, details_key, now, ttl)
  redis.call('HSET', details_key, id, changed)
  count(counts, line, -1)
  count(counts, changed, 1)
  save_counts(details_key, counts, ttl)
  settle(KEYS, user, BY_SET, false, ttl, now, channel)
end
return present_line(user, ttl, KEYS[1], KEYS[2], KEYS[3])
