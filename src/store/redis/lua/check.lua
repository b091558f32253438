-- Looks at users whose indexed time has come. A running lease gets its real deadline as its new place in the index at
-- once: that is nearly everybody, at a third of what sweep.lua takes. The others are found for sweep.lua, which verifies
-- each; users whose custom status is over, for custom-sweep.lua, which does too. Keys of users are made here, as in
-- heartbeats.lua.
--
-- KEYS deadlines of any number of partitions, then the returns of each
-- ARGV 1 most users looked at, 2 what the keys of their users begin with
-- Returns 1 if that many were looked at, so that more may be due, else 0; for each partition with users for sweep.lua
-- { position (from 1), user, ... }; the same for custom-sweep.lua

local left, call = tonumber(ARGV[1]), redis.call
local status_start = ARGV[2] .. 'user:status:'
local partitions = #KEYS / 2
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

local function note(found, position, users)
  if #users == 0 then return end
  table.insert(users, 1, position)
  found[#found + 1] = users
end

local others_found, customs_found = {}, {}
for position = 1, partitions do
  local deadlines_key = KEYS[position]
  local others, due = {}, call('ZRANGEBYSCORE', deadlines_key, -now, now, 'LIMIT', 0, left)
  left = left - #due
  -- Those below zero come first. Of them meta has more to say: place_with_more in transition.lua.
  if #due > 0 and tonumber(call('ZSCORE', deadlines_key, due[1])) < 0 then
    others = call('ZRANGEBYSCORE', deadlines_key, -now, '(0', 'LIMIT', 0, #due)
    due = { unpack(due, #others + 1) }
  end
  if #due > 0 then check(deadlines_key, due, others) end
  note(others_found, position, others)
  -- What is over the bound waits for the next look.
  local customs = call('ZRANGEBYSCORE', KEYS[partitions + position], '-inf', now, 'LIMIT', 0, ARGV[1])
  note(customs_found, position, customs)
  if left == 0 then break end
end
return { left == 0 and 1 or 0, others_found, customs_found }
