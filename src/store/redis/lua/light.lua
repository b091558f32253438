-- Lights or renews a user's lease: SetUserStatus(ONLINE), and a heartbeat that found no `online` key.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq
-- ARGV 1 user, 2 channel, 3 lease ms, 4 activity (0 = as it is), 5 cause (proto number)
-- Returns the state line, or false: a heartbeat refused because the user signed out less than one lease ago.
-- Changes status key, meta, index; on a transition also seq, log, channel.

local status_key, meta_key, deadlines_key, log_key, seq_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local user, channel, ttl, activity, cause = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local now = clock_ms()

local was, was_activity, was_cause, version, since, changed_at, signed_out =
  unpack(redis.call('HMGET', meta_key, 's', 'a', 'c', 'v', 't', 'u', 'x'))

if cause == BY_HEARTBEAT and signed_out and now - tonumber(signed_out) < ttl then
  return false
end

redis.call('SET', status_key, 'online', 'PX', ttl)
redis.call('ZADD', deadlines_key, 'NX', now + ttl + 1, user)
if cause == BY_SET then redis.call('HDEL', meta_key, 'g') end

local was_online = was == ONLINE
if activity == NO_ACTIVITY then activity = was_online and was_activity or ACTIVE end
if was_online and activity == was_activity then
  return state_line(version, user, ONLINE, activity, was_cause, since, changed_at, text(now))
end

local previous, new_version = take_versions(seq_key, 1, now)
version, changed_at = text(new_version), text(now)
if not was_online then since = changed_at end
redis.call('HSET', meta_key, 's', ONLINE, 'a', activity, 'c', cause, 'v', version, 't', since, 'u', changed_at)
redis.call('HDEL', meta_key, 'x', 'l')
redis.call('PERSIST', meta_key)
local line = state_line(version, user, ONLINE, activity, cause, since, changed_at, changed_at)
record(log_key, channel, previous, new_version, { line })
return line
