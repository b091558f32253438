-- Reads the present state of many users, as read.lua does, at half the cost: users come as one argument and go as one
-- reply, and keys are made here. They are all of the slot of KEYS[1], so any server that has one has all.
--
-- KEYS 1 a status key of these users
-- ARGV 1 lease ms, 2 what their keys begin with, 3 the users, separated by newlines: no user id holds one
-- Returns a state line for each, separated by newlines: empty for a user never heard of, `?` for one that read.lua has
-- to be asked about, because that takes more keys.

local ttl, call = tonumber(ARGV[1]), redis.call
local status_start, meta_start = ARGV[2] .. 'user:status:', ARGV[2] .. 'user:meta:'
local lines, number = {}, 0
for user in string.gmatch(ARGV[3], '[^\n]+') do
  number = number + 1
  local m = call('HMGET', meta_start .. user, 's', 'a', 'c', 'v', 't', 'u', 'l', 'e', 'y', 'p')
  local status, line = m[1], ''
  if status then
    local last_seen, activity = m[7] or '0', '0'
    if status == '1' then
      activity = m[2] or '1'
      local deadline = m[8] and tonumber(m[8]) or call('PEXPIRETIME', status_start .. user)
      last_seen = deadline > 0 and deadline - ttl
    end
    -- One expression is one string for Lua, where table.concat would be a table and ten.
    line = last_seen and m[4] .. '\31' .. user .. '\31' .. status .. '\31' .. activity .. '\31' .. m[3] .. '\31' .. m[5]
      .. '\31' .. m[6] .. '\31' .. last_seen .. '\31' .. (m[9] and (string.match(m[9], '^.*\30(.*)$') or m[9]) or '')
      .. (m[10] and '\31' .. m[10] or '') or '?'
  elseif m[10] or call('GET', status_start .. user) == 'online' then
    line = '?'
  end
  lines[number] = line
end
return table.concat(lines, '\n')
