-- Reads all that a change of a user's privacy goes by. Writes nothing.
--
-- KEYS 1 status, 2 meta, 3 deadlines, 4 log, 5 seq, 6 privacy
-- ARGV 1 user, 2 channel, 3 lease ms
-- Returns { state line (false: never heard of), version of its privacy, privacy, custom statuses, clock ms }; the middle
-- ones empty where there are none.

local line = present_line(ARGV[1], tonumber(ARGV[3]), KEYS[1], KEYS[2], KEYS[3])
local customs, privacy_version = unpack(redis.call('HMGET', KEYS[2], 'y', 'p'))
return { line, privacy_version or '', redis.call('GET', KEYS[6]) or '', customs or '', text(clock_ms()) }
