-- Put after transition.lua before every script that knows connections: what they say together, and how a lease is lit.
--
-- A connection's deadline is its score in the sorted set; its details are one line: kind, device, activity, since, node,
-- separated by 0x1F. What is past its deadline counts no more.

local STREAM, SESSION = '2', '1'

--
-- Beside them the details have counts of what is in the sorted set, so that one of N connections costs no more than one of
-- two: when they were taken, how many, how many sessions, how many of each activity. A server of 0.1.0 does not keep them:
-- they are taken anew when their number is not that of the set, and after one lease in any case.

local COUNTS = '\31'
-- As many as Lua can pass to one call, with room.
local MOST_ARGUMENTS = 1000

local function parse_connection(id, line)
  local kind, device, activity, since, node = string.match(line, '^(%d)\31([^\31]*)\31(%d)\31(%d+)\31([^\31]*)')
  -- One that a newer version describes in another way counts, and says nothing.
  return { id = id, kind = kind or '', device = device or '', activity = activity or '0', since = since or '0',
    node = node or '' }
end

-- What HMGET says of any number of fields: calls take_one(field, value) for those that are there.
local function each_field(key, fields, take_one)
  for first = 1, #fields, MOST_ARGUMENTS do
    local last = math.min(first + MOST_ARGUMENTS - 1, #fields)
    local values = redis.call('HMGET', key, unpack(fields, first, last))
    for i, value in ipairs(values) do
      if value then take_one(fields[first + i - 1], value) end
    end
  end
end

-- Live connections, oldest first: { id, kind, device, activity, since, node }.
local function live_connections(connections_key, details_key, now)
  local live = {}
  each_field(details_key, redis.call('ZRANGEBYSCORE', connections_key, now, '+inf'), function(id, line)
    live[#live + 1] = parse_connection(id, line)
  end)
  table.sort(live, function(a, b)
    if a.since == b.since then return a.id < b.id end
    return tonumber(a.since) < tonumber(b.since)
  end)
  return live
end

local function has_dead(connections_key, now)
  return redis.call('ZCOUNT', connections_key, '-inf', '(' .. text(now)) > 0
end

-- Adds a connection to the counts, or with -1 takes it away.
local function count(counts, line, by)
  local connection = parse_connection('', line)
  counts.all = counts.all + by
  if connection.kind == SESSION then counts.sessions = counts.sessions + by end
  counts[connection.activity] = (counts[connection.activity] or 0) + by
end

local function count_of_kind(counts, kind)
  return kind == SESSION and counts.sessions or counts.all - counts.sessions
end

local function save_counts(details_key, counts, ttl)
  if counts.all <= 0 then
    redis.call('HDEL', details_key, COUNTS)
    return
  end
  local line = table.concat({ text(counts.at), counts.all, counts.sessions, counts['1'] or 0, counts['2'] or 0,
    counts['3'] or 0, counts['4'] or 0 }, ' ')
  if redis.call('HSET', details_key, COUNTS, line) == 1 then redis.call('PEXPIRE', details_key, 2 * ttl) end
end

-- Counts of all in the set, those past their deadline too. Call it before the set is changed, save_counts after.
local function load_counts(connections_key, details_key, now, ttl)
  local number = redis.call('ZCARD', connections_key)
  local counts = { at = now, all = 0, sessions = 0 }
  if number == 0 then return counts end
  local at, all, sessions, active, idle, away, dnd = string.match(redis.call('HGET', details_key, COUNTS) or '',
    '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  if at and tonumber(all) == number and now >= tonumber(at) and now - tonumber(at) < ttl then
    return { at = tonumber(at), all = number, sessions = tonumber(sessions), ['1'] = tonumber(active),
      ['2'] = tonumber(idle), ['3'] = tonumber(away), ['4'] = tonumber(dnd) }
  end
  each_field(details_key, redis.call('ZRANGE', connections_key, 0, -1), function(_, line) count(counts, line, 1) end)
  counts.all = number
  save_counts(details_key, counts, ttl)
  return counts
end

-- Takes a connection away, and out of the counts. Returns its details, nil if it was not there.
local function remove_connection(connections_key, details_key, id, counts)
  if redis.call('ZREM', connections_key, id) == 0 then return nil end
  local line = redis.call('HGET', details_key, id)
  redis.call('HDEL', details_key, id)
  count(counts, line or '', -1)
  return parse_connection(id, line or '')
end

-- Returns whether there were any.
local function forget_dead(connections_key, details_key, now, counts)
  local dead = redis.call('ZRANGEBYSCORE', connections_key, '-inf', '(' .. text(now))
  for _, id in ipairs(dead) do remove_connection(connections_key, details_key, id, counts) end
  return #dead > 0
end

-- Kept past its deadline, so that the sweeper can tell a lost node from a lease that ran out.
local function keep_until(connections_key, details_key, id, ttl, now)
  redis.call('ZADD', connections_key, now + ttl, id)
  redis.call('PEXPIRE', connections_key, 2 * ttl)
  redis.call('PEXPIRE', details_key, 2 * ttl)
end

local function add_connection(connections_key, details_key, id, line, ttl, now, counts)
  redis.call('HSET', details_key, id, line)
  keep_until(connections_key, details_key, id, ttl, now)
  count(counts, line, 1)
  save_counts(details_key, counts, ttl)
end

-- DO_NOT_DISTURB before ACTIVE before IDLE before AWAY; nil: nobody says anything.
local RANKS = { ['4'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4 }
local function merged_activity(said, connections_key, details_key, now, ttl)
  local counts
  if has_dead(connections_key, now) then
    counts = {}
    for _, live in ipairs(live_connections(connections_key, details_key, now)) do counts[live.activity] = 1 end
  else
    counts = load_counts(connections_key, details_key, now, ttl)
  end
  local best = RANKS[said or ''] and said or nil
  for activity, rank in pairs(RANKS) do
    if (counts[activity] or 0) > 0 and (not best or rank < RANKS[best]) then best = activity end
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
  local activity = merged_activity(said, connections_key, details_key, now, ttl)
  if was_online and (not activity or activity == was_activity) then return end
  local previous, version = take_versions(seq_key, 1, now)
  redis.call('HSET', meta_key, 's', ONLINE, 'a', activity or ACTIVE, 'c', cause, 'v', text(version),
    't', was_online and since or text(now), 'u', text(now))
  if not was_online then
    redis.call('HDEL', meta_key, 'x', 'l', 'w')
    redis.call('PERSIST', meta_key)
  end
  local line = present_line(user, ttl, status_key, meta_key, deadlines_key)
  record(log_key, channel, previous, version, { line }, STATES)
  return line
end
