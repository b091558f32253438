-- Writes back what a node knows of users' privacy and sign-outs, where this Redis knows less: it lost its data, or the
-- newest of it. The newest wins, by the version of the privacy and the time of the sign-out. Where all data went, every
-- OFFLINE user is one never heard of, and so must those be who hide: their privacy is written without what was seen of
-- them before.
--
-- KEYS 1 log, 2 seq, 3 sweeper, then meta, privacy of each user
-- ARGV 1 channel, 2 last-seen ttl ms, 3 epoch that the node knows, then of each user: user, version of the privacy (empty = not
-- known), privacy (empty = there is none any more), the same where all data went, when the user last came online or signed
-- out ms (empty = not known), which of it (1 = signed out)
-- Returns nothing.

local log_key, seq_key = KEYS[1], KEYS[2]
local channel, last_seen_ttl, epoch = ARGV[1], ARGV[2], ARGV[3]
local now = clock_ms()
local is_gone = epoch ~= '' and redis.call('HGET', KEYS[3], 'epoch') ~= epoch

local function number(value)
  return tonumber(value or '0')
end

local key, arg = 4, 4
while arg <= #ARGV do
  local meta_key, privacy_key = KEYS[key], KEYS[key + 1]
  local user, known, privacy, privacy_anew, at, signs_out = unpack(ARGV, arg, arg + 5)
  key, arg = key + 2, arg + 6
  local status, since, signed_out, online_again, version, restored, opened =
    unpack(redis.call('HMGET', meta_key, 's', 't', 'x', 'w', 'p', 'r', 'o'))
  local is_changed = false
  if known ~= '' and tonumber(known) > math.max(number(restored or version), number(opened)) then
    is_changed = true
    if is_gone then privacy = privacy_anew end
    if privacy == '' then
      redis.call('DEL', privacy_key)
      redis.call('HDEL', meta_key, 'p', 'r')
      redis.call('HSET', meta_key, 'o', known)
    else
      local previous, new_version = take_versions(seq_key, 1, now)
      redis.call('SET', privacy_key, text(new_version) .. '\n' .. privacy)
      redis.call('HSET', meta_key, 'p', text(new_version), 'r', known)
      redis.call('HDEL', meta_key, 'o')
      record(log_key, channel, previous, new_version, { text(new_version) .. '\31' .. user }, PRIVACY)
    end
  end
  local newest = math.max(number(since), number(signed_out), number(online_again))
  -- Of what happened in one millisecond a sign-out counts as the later.
  local is_news = at ~= '' and (tonumber(at) > newest or (tonumber(at) == newest and signs_out == '1' and not signed_out))
  if is_news and status ~= ONLINE then
    is_changed = true
    redis.call('HDEL', meta_key, 'x', 'w')
    redis.call('HSET', meta_key, signs_out == '1' and 'x' or 'w', at)
  end
  if is_changed and redis.call('HEXISTS', meta_key, 'p') == 1 then
    redis.call('PERSIST', meta_key)
  elseif is_changed and status ~= ONLINE then
    redis.call('PEXPIRE', meta_key, last_seen_ttl)
  end
end
