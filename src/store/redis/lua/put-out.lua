-- SetUserStatus(OFFLINE): puts the light out at once and refuses heartbeats for one lease.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq
-- ARGV 1 user, 2 channel, 3 lease ms, 4 last-seen ttl ms
-- Returns { state line, clock ms }.
-- Changes status key, meta; on a transition also index, seq, log, channel.

local status_key, meta_key, deadlines_key, log_key, seq_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local user, channel, ttl, last_seen_ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local now = clock_ms()

redis.call('SET', status_key, 'offline', 'PX', ttl)
redis.call('HSET', meta_key, 'x', text(now))

local was, cause, version, since, changed_at, last_seen, customs, privacy_version =
  unpack(redis.call('HMGET', meta_key, 's', 'c', 'v', 't', 'u', 'l', 'y', 'p'))
if was ~= ONLINE then
  if not privacy_version then redis.call('PEXPIRE', meta_key, last_seen_ttl) end
  local line = state_line(version or '0', user, OFFLINE, NO_ACTIVITY, cause or '0', since or '0', changed_at or '0',
    last_seen or '0', customs)
  return { line, text(now) }
end

redis.call('ZREM', deadlines_key, user)
local previous, new_version = take_versions(seq_key, 1, now)
local line = put_out(meta_key, user, new_version, BY_SET, now, now, last_seen_ttl)
record(log_key, channel, previous, new_version, { line }, STATES)
return { line, text(now) }
