-- Reads the present state of many users, as read.lua does, at half the cost: users come as one argument and go as one
-- reply, and keys are made here. They are all of the slot of KEYS[1], so any server that has one has all.
--
-- KEYS 1 a status key of these users
-- ARGV 1 lease ms, 2 what their keys begin with, 3 the users, separated by newlines: no user id holds one
-- Returns a state line for each, separated by newlines: empty for a user never heard of, `?` for one that read.lua has
-- to be asked about, because that takes more keys.

local ttl, start = tonumber(ARGV[1]), ARGV[2]
local lines = {}
for user in string.gmatch(ARGV[3], '[^\n]+') do
  local status_key = start .. 'user:status:' .. user
  local m = redis.call('HMGET', start .. 'user:meta:' .. user, 's', 'a', 'c', 'v', 't', 'u', 'l', 'e', 'y')
  local status, line = m[1], ''
  if status ~= '1' and redis.call('GET', status_key) == 'online' then
    line = '?'
  elseif status then
    local last_seen, custom = m[7] or '0', m[9] and string.match(m[9], '[^\30]*$') or ''
    if status == '1' then
      local deadline = m[8] and tonumber(m[8]) or redis.call('PEXPIRETIME', status_key)
      last_seen = deadline > 0 and deadline - ttl
    end
    line = last_seen and table.concat({ m[4], user, status, m[2], m[3], m[5], m[6], last_seen, custom }, '\31') or '?'
  end
  lines[#lines + 1] = line
end
return table.concat(lines, '\n')
