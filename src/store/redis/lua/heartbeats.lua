-- Renews the leases of many users: GETEX of each, in one call, which costs the server far less than many calls.
--
-- KEYS status of each user
-- ARGV 1 lease ms
-- Returns the numbers (from 1) of those whose light is not on: the caller decides about each of them.

local others = {}
for i = 1, #KEYS do
  if redis.call('GETEX', KEYS[i], 'PX', ARGV[1]) ~= 'online' then others[#others + 1] = i end
end
return others
