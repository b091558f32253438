-- Looks at users whose indexed time has come. A running lease gets its real deadline as its new place in the index at
-- once: that is nearly everybody, at a third of what sweep.lua takes. The others are found for sweep.lua, which verifies
-- each. Keys of users are made here, as in heartbeats.lua.
--
-- KEYS deadlines of any number of partitions
-- ARGV 1 most users looked at, 2 what the keys of their users begin with
-- Returns 1 if that many were looked at, so that more may be due, else 0; then for each partition with users for
-- sweep.lua: { position in KEYS (from 1), user, ... }

local left, call = tonumber(ARGV[1]), redis.call
local status_start = ARGV[2] .. 'user:status:'
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function check(deadlines_key, due, others)
  local status_keys = {}
  for i, user in ipairs(due) do status_keys[i] = status_start .. user end
  local statuses = call('MGET', unpack(status_keys))
  local places, next = {}, 1
  for i, user in ipairs(due) do
    local deadline = statuses[i] == 'online' and call('PEXPIRETIME', status_keys[i]) or 0
    if deadline > 0 then
      places[next], places[next + 1] = deadline + 1, user
      next = next + 2
    else
      others[#others + 1] = user
    end
  end
  if next > 1 then call('ZADD', deadlines_key, unpack(places)) end
end

local found = { 0 }
for position, deadlines_key in ipairs(KEYS) do
  -- Of these meta has more to say: place_with_more in transition.lua.
  local others = call('ZRANGEBYSCORE', deadlines_key, -now, '(0', 'LIMIT', 0, left)
  left = left - #others
  local due = call('ZRANGEBYSCORE', deadlines_key, 0, now, 'LIMIT', 0, left)
  left = left - #due
  if #due > 0 then check(deadlines_key, due, others) end
  if #others > 0 then
    table.insert(others, 1, position)
    found[#found + 1] = others
  end
  if left == 0 then
    found[1] = 1
    break
  end
end
return found
