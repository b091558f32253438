-- Renews connections of one partition, and the leases of sessions' users. A connection that is not known is written again
-- if there is room: this Redis lost it, or newer ones took its place. A session lights a user who is OFFLINE without having
-- signed out.
--
-- KEYS 1 deadlines, 2 log, 3 seq, then status, meta, connections, details of each connection's user
-- ARGV 1 channel, 2 lease ms, 3 most sessions of a user, then user, id, kind, device, activity, since, node of each
-- Returns ids of sessions that lost their place.

local deadlines_key, log_key, seq_key = KEYS[1], KEYS[2], KEYS[3]
local channel, ttl, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock_ms()

local function has_room(connections_key, details_key)
  local sessions = 0
  for _, other in ipairs(live_connections(connections_key, details_key, now)) do
    if other.kind == SESSION then sessions = sessions + 1 end
  end
  return sessions < most
end

local lost = {}
local key, arg = 4, 4
while arg <= #ARGV do
  local status_key, meta_key, connections_key, details_key = unpack(KEYS, key, key + 3)
  local user, id, kind, device, activity, since, node = unpack(ARGV, arg, arg + 6)
  key, arg = key + 4, arg + 7
  local deadline = redis.call('ZSCORE', connections_key, id)
  local is_known = deadline and tonumber(deadline) >= now
  if not is_known and kind == SESSION and not has_room(connections_key, details_key) then
    lost[#lost + 1] = id
  else
    local others_died = forget_dead(connections_key, details_key, now)
    local line = table.concat({ kind, device, activity, since, node }, '\31')
    keep_connection(connections_key, details_key, id, line, ttl, now)
    local was, signed_out, grace_ends = unpack(redis.call('HMGET', meta_key, 's', 'x', 'g'))
    if grace_ends then redis.call('HDEL', meta_key, 'g') end
    local vouches = kind == SESSION and (was == ONLINE or not signed_out)
    if vouches and was == ONLINE and is_known and not others_died then
      -- Nothing that activity is made of has changed.
      redis.call('SET', status_key, 'online', 'PXAT', text(now + ttl))
      redis.call('ZADD', deadlines_key, 'NX', now + ttl + 1, user)
    else
      local keys = { status_key, meta_key, deadlines_key, log_key, seq_key, connections_key, details_key }
      settle(keys, user, BY_CONNECT, vouches, ttl, now, channel)
    end
  end
end
return lost
