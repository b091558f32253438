-- Finds users whose custom status is over. Reads only; custom-sweep.lua verifies each.
--
-- KEYS returns of any number of partitions
-- ARGV 1 most users of one partition
-- Returns for each partition that has any: { position in KEYS (from 1), user, ... }

local limit = ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
for position, returns_key in ipairs(KEYS) do
  local users = redis.call('ZRANGEBYSCORE', returns_key, '-inf', now, 'LIMIT', 0, limit)
  if #users > 0 then
    table.insert(users, 1, position)
    found[#found + 1] = users
  end
end
return found
