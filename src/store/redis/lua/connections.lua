-- Put after transition.lua before every script that knows connections: what they say together, and how a lease is lit.
--
-- A connection's deadline is its score in the sorted set; its details are one line: kind, device, activity, since, node,
-- separated by 0x1F. What is past its deadline counts no more.

local STREAM, SESSION = '2', '1'

-- Live connections, oldest first: { id, kind, device, activity, since, node }.
local function live_connections(connections_key, details_key, now)
  local ids = redis.call('ZRANGEBYSCORE', connections_key, now, '+inf')
  if #ids == 0 then return {} end
  local lines = redis.call('HMGET', details_key, unpack(ids))
  local live = {}
  for i, line in ipairs(lines) do
    if line then
      local kind, device, activity, since, node = string.match(line, '^(%d)\31([^\31]*)\31(%d)\31(%d+)\31(.*)$')
      live[#live + 1] = { id = ids[i], kind = kind, device = device, activity = activity, since = since, node = node }
    end
  end
  table.sort(live, function(a, b)
    if a.since == b.since then return a.id < b.id end
    return tonumber(a.since) < tonumber(b.since)
  end)
  return live
end

-- Returns whether there were any.
local function forget_dead(connections_key, details_key, now)
  local dead = redis.call('ZRANGEBYSCORE', connections_key, '-inf', '(' .. text(now))
  if #dead == 0 then return false end
  redis.call('ZREM', connections_key, unpack(dead))
  redis.call('HDEL', details_key, unpack(dead))
  return true
end

-- Kept past its deadline, so that the sweeper can tell a lost node from a lease that ran out.
local function keep_connection(connections_key, details_key, id, line, ttl, now)
  redis.call('ZADD', connections_key, now + ttl, id)
  redis.call('HSET', details_key, id, line)
  redis.call('PEXPIRE', connections_key, 2 * ttl)
  redis.call('PEXPIRE', details_key, 2 * ttl)
end

-- DO_NOT_DISTURB before ACTIVE before IDLE before AWAY; nil: nobody says anything.
local RANKS = { ['4'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4 }
local function merged_activity(said, connections_key, details_key, now)
  local best = RANKS[said or ''] and said or nil
  for _, connection in ipairs(live_connections(connections_key, details_key, now)) do
    local activity = connection.activity
    if RANKS[activity] and (not best or RANKS[activity] < RANKS[best]) then best = activity end
  end
  return best
end

-- Lights the lease, or renews it, and gives the user the activity that connections and SetUserStatus say. Where `renews` is
-- false an OFFLINE user stays so, and the lease is left alone. Returns the state line if that is a transition, which is
-- recorded then.
--
-- keys: status, meta, deadlines, log, seq, connections, details
local function settle(keys, user, cause, renews, ttl, now, channel)
  local status_key, meta_key, deadlines_key, log_key, seq_key, connections_key, details_key = unpack(keys)
  local was, was_activity, since, said = unpack(redis.call('HMGET', meta_key, 's', 'a', 't', 'q'))
  local was_online = was == ONLINE
  if renews then
    redis.call('SET', status_key, 'online', 'PXAT', text(now + ttl))
    redis.call('ZADD', deadlines_key, 'NX', now + ttl + 1, user)
  elseif not was_online then
    return
  end
  local activity = merged_activity(said, connections_key, details_key, now)
  if was_online and (not activity or activity == was_activity) then return end
  local previous, version = take_versions(seq_key, 1, now)
  redis.call('HSET', meta_key, 's', ONLINE, 'a', activity or ACTIVE, 'c', cause, 'v', text(version),
    't', was_online and since or text(now), 'u', text(now))
  if not was_online then
    redis.call('HDEL', meta_key, 'x', 'l')
    redis.call('PERSIST', meta_key)
  end
  local line = present_line(user, ttl, status_key, meta_key, deadlines_key)
  record(log_key, channel, previous, version, { line }, STATES)
  return line
end
