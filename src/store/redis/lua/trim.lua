-- Trims logs by age. The id of an entry is microseconds of the clock.
--
-- KEYS logs
-- ARGV 1 age ms
-- Returns nothing.

local time = redis.call('TIME')
local oldest = time[1] * 1000000 + time[2] - tonumber(ARGV[1]) * 1000
for _, log_key in ipairs(KEYS) do redis.call('XTRIM', log_key, 'MINID', '=', string.format('%.0f', oldest)) end
