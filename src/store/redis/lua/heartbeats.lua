-- Renews the leases of many users: GETEX of each, in one call, which costs the server far less than many calls. Users
-- come as one argument and keys are made here, as in read-many.lua.
--
-- KEYS 1 a status key of these users
-- ARGV 1 lease ms, 2 what their keys begin with, 3 the users, separated by newlines: no user id holds one
-- Returns the numbers (from 1) of those whose light is not on: the caller decides about each of them. A key of a wrong
-- type, which somebody else wrote, is one of them: it costs the others nothing.

local ttl, start, call = ARGV[1], ARGV[2] .. 'user:status:', redis.pcall
local others, number = {}, 0
for user in string.gmatch(ARGV[3], '[^\n]+') do
  number = number + 1
  local reply = call('GETEX', start .. user, 'PX', ttl)
  -- Any other error, as of a slot on its way, is the caller's to see.
  if type(reply) == 'table' and not string.find(reply.err, 'WRONGTYPE') then return reply end
  if reply ~= 'online' then others[#others + 1] = number end
end
return others
