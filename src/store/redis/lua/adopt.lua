-- Takes over what somebody else wrote into a user's status key: `online` with a TTL of theirs lights the user, `offline`
-- puts the light out. Where the key says what is known already, nothing happens.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq, 6 connections, 7 details
-- ARGV 1 user, 2 channel, 3 lease ms, 4 last-seen ttl ms
-- Returns 1 if it was news, else 0.

local status_key, meta_key, deadlines_key, log_key, seq_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local user, channel, ttl, last_seen_ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local now = clock_ms()
local written = redis.call('GET', status_key)
local is_online = redis.call('HGET', meta_key, 's') == ONLINE

if written == 'online' and not is_online then
  local deadline = redis.call('PEXPIRETIME', status_key)
  settle(KEYS, user, BY_SET, true, ttl, now, channel)
  -- A lease without an end would never be judged.
  if deadline > 0 then
    redis.call('PEXPIREAT', status_key, deadline)
    redis.call('ZADD', deadlines_key, deadline + 1, user)
  end
  return 1
end
if written == 'offline' and is_online then
  redis.call('HSET', meta_key, 'x', text(now))
  redis.call('ZREM', deadlines_key, user)
  local previous, version = take_versions(seq_key, 1, now)
  local line = put_out(meta_key, user, version, BY_SET, now, now, last_seen_ttl)
  record(log_key, channel, previous, version, { line }, STATES)
  return 1
end
return 0
