-- Put after transition.lua before the scripts that change custom statuses: the list in meta, and how a change is told.

-- Those not over yet: { expires, raw line }; the last is in force.
local function parse_customs(customs, now)
  local parsed = {}
  for raw in string.gmatch(customs or '', '[^\30]+') do
    local expires = tonumber(string.match(raw, '^%d+'))
    -- What a newer version writes in another way is left out.
    if expires and (expires == 0 or expires > now) then parsed[#parsed + 1] = { expires = expires, raw = raw } end
  end
  return parsed
end

-- Writes the list, and plans its next change. Returns whether another one is in force now.
local function write_customs(meta_key, returns_key, user, before, parsed)
  local raws = {}
  for i, custom in ipairs(parsed) do raws[i] = custom.raw end
  local top = parsed[#parsed]
  if top then
    redis.call('HSET', meta_key, 'y', table.concat(raws, '\30'))
  else
    redis.call('HDEL', meta_key, 'y')
  end
  if top and top.expires > 0 then
    redis.call('ZADD', returns_key, top.expires, user)
  else
    redis.call('ZREM', returns_key, user)
  end
  return custom_in_force(before) ~= (top and top.raw or '')
end

-- Makes a user's change of custom status a transition. Returns the state line.
local function tell_custom(keys, user, cause, ttl, last_seen_ttl, now, channel)
  local status_key, meta_key, deadlines_key, log_key, seq_key = unpack(keys)
  local previous, version = take_versions(seq_key, 1, now)
  redis.call('HSET', meta_key, 'c', cause, 'v', text(version), 'u', text(now))
  if redis.call('HSETNX', meta_key, 's', OFFLINE) == 1 then redis.call('HSET', meta_key, 't', '0') end
  local status, privacy_version = unpack(redis.call('HMGET', meta_key, 's', 'p'))
  if status ~= ONLINE and not privacy_version then redis.call('PEXPIRE', meta_key, last_seen_ttl) end
  local line = present_line(user, ttl, status_key, meta_key, deadlines_key)
  record(log_key, channel, previous, version, { line }, STATES)
  return line
end
