-- Lets custom statuses return whose successors check.lua found to be over, checking each again.
--
-- KEYS 1 deadlines, 2 log, 3 seq, 4 returns, then status, meta of each user
-- ARGV 1 channel, 2 lease ms, 3 last-seen ttl ms, then the users
-- Returns nothing.

local deadlines_key, log_key, seq_key, returns_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local channel, ttl, last_seen_ttl = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local now = clock_ms()

for i = 4, #ARGV do
  local user, status_key, meta_key = ARGV[i], KEYS[2 * i - 3], KEYS[2 * i - 2]
  local before = redis.call('HGET', meta_key, 'y')
  if write_customs(meta_key, returns_key, user, before, parse_customs(before, now)) then
    local keys = { status_key, meta_key, deadlines_key, log_key, seq_key }
    tell_custom(keys, user, BY_EXPIRED, ttl, last_seen_ttl, now, channel)
  end
end
