-- Reads the present state of users. Writes nothing.
--
-- KEYS status, meta, deadlines of each user
-- ARGV 1 lease ms, then the users
-- Returns a state line for each, false for a user never heard of.

local ttl = tonumber(ARGV[1])
local states = {}
for i = 2, #ARGV do
  local first = 3 * (i - 2) + 1
  states[i - 1] = present_line(ARGV[i], ttl, KEYS[first], KEYS[first + 1], KEYS[first + 2])
end
return states
