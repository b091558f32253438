-- Renews connections of one partition, and the leases of sessions' users. A connection that is not known is written again
-- if there is room: this Redis lost it, or newer ones took its place. A session lights a user who is OFFLINE without having
-- signed out.
--
-- KEYS 1 deadlines, 2 log, 3 seq, 4 sweeper, then status, meta, connections, details of each connection's user
-- ARGV 1 channel, 2 lease ms, 3 most connections of a kind, 4 epoch, then user, id, kind, device, activity, since, node of each
-- Returns { ids of connections that lost their place, { user, when they signed out (empty = did not), version of the privacy (empty
-- = none) } of those who have either, clock ms }.

local deadlines_key, log_key, seq_key = KEYS[1], KEYS[2], KEYS[3]
local channel, ttl, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock_ms()
local refused = refusal(KEYS[4], ARGV[4], now)
if refused then return refused end

-- Returns whether it has its place, and whether anything that activity is made of may have changed.
local function renew(connections_key, details_key, id, kind, line)
  local deadline = redis.call('ZSCORE', connections_key, id)
  local is_known = deadline and tonumber(deadline) >= now
  if is_known and not has_dead(connections_key, now) and redis.call('HGET', details_key, id) == line then
    keep_until(connections_key, details_key, id, ttl, now)
    return true, false
  end
  local counts = load_counts(connections_key, details_key, now, ttl)
  forget_dead(connections_key, details_key, now, counts)
  remove_connection(connections_key, details_key, id, counts)
  if not is_known and count_of_kind(counts, kind) >= most then
    save_counts(details_key, counts, ttl)
    return false, true
  end
  add_connection(connections_key, details_key, id, line, ttl, now, counts)
  return true, true
end

local lost, marked = {}, {}
local key, arg = 5, 5
while arg <= #ARGV do
  local status_key, meta_key, connections_key, details_key = unpack(KEYS, key, key + 3)
  local user, id, kind, device, activity, since, node = unpack(ARGV, arg, arg + 6)
  key, arg = key + 4, arg + 7
  local line = table.concat({ kind, device, activity, since, node }, '\31')
  local has_place, has_changed = renew(connections_key, details_key, id, kind, line)
  if not has_place then
    lost[#lost + 1] = id
  else
    local was, signed_out, grace_ends, privacy_version = unpack(redis.call('HMGET', meta_key, 's', 'x', 'g', 'p'))
    if grace_ends then redis.call('HDEL', meta_key, 'g') end
    if signed_out or privacy_version then
      marked[#marked + 1] = { user, signed_out or '', privacy_version or '' }
    end
    local vouches = kind == SESSION and (was == ONLINE or not signed_out)
    if vouches and was == ONLINE and not has_changed then
      redis.call('SET', status_key, 'online', 'PXAT', text(now + ttl))
      redis.call('ZADD', deadlines_key, 'NX', now + ttl + 1, user)
    else
      local keys = { status_key, meta_key, deadlines_key, log_key, seq_key, connections_key, details_key }
      settle(keys, user, BY_CONNECT, vouches, ttl, now, channel)
    end
  end
end
return { lost, marked, text(now) }
